"""The Python interface: what a call returns, and that it leaves the caller's process as it was."""

import asyncio
import doctest
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import tunewright
from pipeline.api import experiments, guest, overrides
from pipeline.api.guest import as_guest
from pipeline.common.session import session
from pipeline.tracking import logged
from tests.support.quick import no_figures
from tests.support.rows import rows, write_rows
from tests.support.stores import Made, tiny_config

LEARNING_RATE = "optimizer.learning_rate"
QUIETLY = ["hydra.sweeper.n_jobs=1", "hydra.sweeper.forecast=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def tiny(folder, tiny_model):
    """A run of under a second, recorded in a store of this module."""
    where = f"tracking.dir={folder / 'mlruns'}"
    return [*tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", rows(120))), where]


@pytest.fixture(scope="module")
def run(tiny):
    with no_figures():
        return tunewright.train([*tiny, "evaluation.test=true"], show=False)


@pytest.fixture(scope="module")
def study(tiny):
    with no_figures():
        return tunewright.sweep({LEARNING_RATE: [1e-2, 1e-5]}, [*tiny, *QUIETLY], show=False)


@pytest.mark.parametrize("module", [overrides, experiments])
def test_examples_in_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_mapping_of_overrides_takes_python_values(tmp_path):
    given = {"data": "files", "data.train": tmp_path / "a, b=c.csv", "training.threads": None}
    experiment = tunewright.compose(given)
    assert experiment.settings.data.train == str(tmp_path / "a, b=c.csv")
    assert "threads: null" in str(experiment)


def test_wrong_key_raises_with_the_nearest_one():
    with pytest.raises(tunewright.TunewrightError, match=r"Did you mean optimizer\.learning_rate"):
        tunewright.compose(["optimizer.lerning_rate=1"])


def test_check_refuses_what_is_not_there(tiny, folder):
    experiment = tunewright.compose([*tiny, f"data.train={folder / 'none.jsonl'}"])
    with pytest.raises(tunewright.TunewrightError, match=r"none\.jsonl"):
        experiment.check()


def test_run_has_what_mlflow_has(run, folder):
    (logged,) = (r for r in Made(folder).runs("run") if r.info.run_id == run.id)
    assert run.state == "complete"
    assert run.metrics == logged.data.metrics
    assert run.params == logged.data.params
    assert {"val/f1_macro", "test/f1_macro"} <= run.metrics.keys()
    assert run.objective == "val/f1_macro"
    assert run.score == run.history("val/f1_macro").max()
    assert tunewright.run(run.id, [f"tracking.dir={folder / 'mlruns'}"]).metrics == run.metrics


def test_metric_that_was_not_logged_is_named_with_the_nearest(run):
    with pytest.raises(tunewright.TunewrightError, match="Did you mean val/f1_macro"):
        run.history("val/f1_macr")


def test_model_predicts_texts_and_tables_alike(run, folder):
    model = run.model()
    texts = [row["review"] for row in rows(4)]
    found = model.predict(texts)
    table = pd.DataFrame({"review": texts, "other": 1}, index=list("abcd"))
    assert model.inputs == ("review",)
    assert found.prediction.isin(["pos", "neg"]).all()
    pd.testing.assert_frame_equal(model.predict(table), found.set_index(table.index))
    again = tunewright.load(run.id, [f"tracking.dir={folder / 'mlruns'}"])
    pd.testing.assert_frame_equal(again.predict(texts[0]), found[:1])


def test_what_is_no_record_is_refused(run):
    with pytest.raises(tunewright.TunewrightError, match=r"None: expected a text, or a mapping"):
        run.model().predict([None])


def test_study_is_a_table_and_its_best_run(study, folder):
    trials = study.trials
    assert study.state == "complete"
    assert list(trials[LEARNING_RATE]) == [1e-2, 1e-5]
    assert list(trials.state) == ["complete", "complete"]
    assert trials["val/f1_macro"].is_monotonic_decreasing
    assert study.best.id == trials.run_id[0]
    assert study.best.score == trials["val/f1_macro"][0] == study.optuna.best_value
    opened = tunewright.study(study.name[:-2], [f"tracking.dir={folder / 'mlruns'}"])
    assert opened.name == study.name


def test_same_sweep_opens_a_finished_study(study, tiny):
    space = [f"{LEARNING_RATE}=0.01,1e-05"]  # as the command line has it
    again = tunewright.sweep(space, [*tiny, *QUIETLY], show=False)
    pd.testing.assert_frame_equal(again.trials, study.trials)


def test_unknown_names_are_refused(study, folder):
    with pytest.raises(tunewright.TunewrightError, match="Did you mean demo"):
        tunewright.sweep("dmeo")
    with pytest.raises(tunewright.TunewrightError, match="no study of that name"):
        tunewright.study(f"{study.name}x", [f"tracking.dir={folder / 'mlruns'}"])


def seed_all():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def draw() -> list[float]:
    return [random.random(), np.random.random(), torch.rand(1).item()]


def test_read_in_another_thread_leaves_a_call_alone(run):
    kept = session().kept  # as a search keeps rows and clients
    with as_guest():
        assert kept("a file", object) is (mine := kept("a file", object))
        with ThreadPoolExecutor() as threads:
            assert threads.submit(lambda: run.state).result() == "complete"
        assert kept("a file", object) is mine
    assert kept("a file", object) is not mine


def test_of_overlapping_calls_the_last_one_puts_back():
    root = logging.getLogger()
    before, kept = root.handlers[:], session().kept
    second_began, first_ended = Event(), Event()

    def second():
        with as_guest(trains=True):
            second_began.set()
            assert first_ended.wait(60)

    with ThreadPoolExecutor() as threads:
        with as_guest(trains=True):
            root.addHandler(job := logging.NullHandler())  # as Hydra does
            mine = kept("a file", object)
            ended = threads.submit(second)
            assert second_began.wait(60)
        assert job in root.handlers
        assert kept("a file", object) is mine
        first_ended.set()
        ended.result()
    assert root.handlers == before
    assert kept("a file", object) is not mine


def test_read_rewinds_no_generator_and_no_level(run, monkeypatch):
    find_run, host, drawn = logged.find_run, logging.getLogger("host"), []

    def meanwhile(*given):  # another thread of the host's
        drawn.extend(draw())
        host.setLevel(logging.ERROR)
        return find_run(*given)

    seed_all()
    expected = draw() + draw()
    seed_all()
    monkeypatch.setattr(logged, "find_run", meanwhile)
    assert run.state == "complete"
    assert drawn + draw() == expected
    assert host.level == logging.ERROR


def test_call_that_could_not_begin_does_not_count(monkeypatch):
    kept = session().kept
    with monkeypatch.context() as patch:
        patch.setattr(guest, "quiet_libraries", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError), as_guest():
            pass
    with as_guest():
        mine = kept("a file", object)
    assert kept("a file", object) is not mine


@pytest.mark.parametrize("kind", [True, "plan"])
def test_a_dry_run_is_refused_before_it_is_shown(tiny, kind, capsys):
    with pytest.raises(tunewright.TunewrightError, match="makes no study"):
        tunewright.sweep({LEARNING_RATE: [0.1, 0.2], "hydra.sweeper.dry_run": kind}, tiny)
    with pytest.raises(tunewright.TunewrightError, match="makes no study"):
        tunewright.sweep("demo", {"hydra.sweeper.dry_run": kind})
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("working_folder")
def test_a_dry_run_of_a_preset_has_no_study_to_return(tiny):
    Path("conf/experiment").mkdir(parents=True)
    preset = "# @package _global_\nhydra:\n  sweeper:\n    dry_run: true\n"
    Path("conf/experiment/dry.yaml").write_text(preset)
    with pytest.raises(tunewright.TunewrightError, match="makes no study"):
        tunewright.sweep({"seed": [5, 6]}, [*tiny, *QUIETLY, "experiment=dry"], show=False)


@pytest.mark.usefixtures("working_folder")
def test_study_is_opened_where_a_preset_has_put_it(tiny, folder):
    where = folder / "mlruns"
    Path("conf/experiment").mkdir(parents=True)
    preset = f"# @package _global_\ntracking:\n  dir: {where}\n"
    Path("conf/experiment/night.yaml").write_text(preset)
    own = [o for o in tiny if not o.startswith("tracking.")]
    with no_figures():
        study = tunewright.sweep({"seed": [5, 6]}, [*own, *QUIETLY, "experiment=night"], show=False)
    assert len(study.trials) == 2
    assert where.is_dir()
    assert not Path("mlruns").exists()


def test_call_leaves_the_process_as_it_was(tiny, tmp_path, capsys):
    log = logging.FileHandler(tmp_path / "own.log", mode="w")  # closed, it would not open again
    root = logging.getLogger()
    before = root.handlers[:], root.level, optuna.logging.get_verbosity()
    hydra = GlobalHydra.instance().hydra
    seed_all()
    next_numbers = draw()
    seed_all()
    root.addHandler(log)
    try:
        with no_figures():
            tunewright.train(tiny, show=False)
        logging.getLogger("own").error("still there")
    finally:
        root.removeHandler(log)
    assert (root.handlers, root.level, optuna.logging.get_verbosity()) == before
    assert draw() == next_numbers
    assert GlobalHydra.instance().hydra is hydra
    assert (tmp_path / "own.log").read_text(encoding="utf-8") == "still there\n"
    assert capsys.readouterr() == ("", "")


def test_call_shows_plain_lines_in_a_running_event_loop(tiny, capsys):
    async def cell():
        return tunewright.train(tiny)

    with no_figures():
        run = asyncio.run(cell())
    shown = capsys.readouterr()
    assert run.state == "complete"
    assert "val/f1_macro" in shown.out
    assert not {"\r", "\x1b"} & {*shown.out, *shown.err}


def test_file_that_changed_between_calls_is_read_again(tiny, tmp_path):
    data = write_rows(tmp_path / "reviews.jsonl", rows(60))
    experiment = tunewright.compose([*tiny, f"data.train={data}"])
    experiment.check()
    data.write_text("{\n", encoding="utf-8")
    with pytest.raises(tunewright.TunewrightError, match=r"reviews\.jsonl, line 1"):
        experiment.check()


def test_rerun_is_a_run_with_a_verdict(run, study, capsys):
    with no_figures():
        again = run.rerun(show=False)
        assert capsys.readouterr() == ("", "")
        other = study.rerun({"training.epochs": 2})
    assert again.verdict.kind == "identical"
    assert again.metrics["val/f1_macro"] == run.metrics["val/f1_macro"]
    assert str(again.verdict) in " ".join(shown(again).find("p").itertext())
    assert other.verdict.kind == "different"
    assert str(other.verdict) in capsys.readouterr().out
    assert run.verdict is None


def test_rerun_refuses_what_it_cannot_set(run):
    with pytest.raises(tunewright.TunewrightError, match=r"training\.epohcs"):
        run.rerun({"training.epohcs": 2}, show=False)


def test_confirm_and_retry_are_those_of_the_command_line(study, folder, tiny_model, capsys):
    with no_figures():
        found = study.confirm(2, allow=[tiny_model, folder], show=False)
    assert capsys.readouterr() == ("", "")
    assert (found.seeds, found.trial) == (2, study.optuna.best_trial.number)
    names = {run.data.tags["tunewright.study"] for run in Made(folder).runs("study")}
    assert {f"confirm-{study.name}-trial-{found.trial}", f"confirm-{study.name}-default"} <= names
    with pytest.raises(tunewright.TunewrightError, match="no failed trials"):
        study.retry()


def test_a_study_that_is_over_takes_a_point_and_no_stop(study):
    for steer in (study.stop, lambda: study.stop_trial(0)):
        with pytest.raises(tunewright.TunewrightError, match="is not running"):
            steer()
    with pytest.raises(tunewright.TunewrightError, match="add: sed is not searched"):
        study.add({"sed": 1})


def test_report_is_the_page_that_the_command_logs(study, folder, cli, tmp_path):
    with no_figures():
        report = study.report()
    where = cli("report", study.name, f"tracking.dir={folder / 'mlruns'}").out.strip()
    assert Path(where).read_text(encoding="utf-8") == str(report)
    assert report.save(tmp_path / "page.html").read_text(encoding="utf-8") == str(report)
    (frame,) = shown(report).iter("iframe")
    assert frame.get("srcdoc").split() == str(report).split()
    with pytest.raises(tunewright.TunewrightError, match=r"none/page\.html: cannot be written"):
        report.save(tmp_path / "none" / "page.html")


def test_notebook_shows_a_study_as_its_trials_best_first(study):
    page = shown(study)
    cells = [[cell.text for cell in row] for row in page.iter("tr")]
    assert cells[0] == list(study.trials.columns)
    assert [row[-1] for row in cells[1:]] == list(study.trials.run_id)
    said = " ".join(page.find("p").itertext())
    assert all(text in said for text in (study.name, "complete", f"{study.best.score:.4g}"))


def test_notebook_shows_a_run_as_its_scores(run):
    page = shown(run)
    cells = dict([cell.text for cell in row] for row in page.iter("tr"))
    assert cells["test/accuracy"] == f"{run.metrics['test/accuracy']:.4g}"
    said = " ".join(page.find("p").itertext())
    assert all(text in said for text in (run.name, run.id, f"{run.objective} = {run.score:.4f}"))


def test_notebook_shows_texts_of_others_as_texts(tiny):
    experiment = tunewright.compose([*tiny, "data.train='<b>bold</b>.csv'"])
    assert not list(shown(experiment).iter("b"))


def test_inspect_finds_what_check_finds(tiny, tmp_path):
    data = write_rows(tmp_path / "r.jsonl", [*rows(40), {"review": "good", "stars": ""}])
    found = tunewright.compose([*tiny, f"data.train={data}"]).inspect().findings
    assert found.level[0] == "error"
    assert "r.jsonl:41" in found.message[0]
    whole = tunewright.compose(tiny).inspect()
    assert list(whole.baselines.baseline) == ["majority", "tfidf"]
    assert set(whole.labels.label) == {"neg", "pos"}


def shown(value) -> Element:
    """Return what a notebook shows of a value, as a tree."""
    return fromstring(f"<div>{value._repr_html_()}</div>")
