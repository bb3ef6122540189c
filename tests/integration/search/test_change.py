"""A changed space: refused with what changed, gone on with, or forked; and runs learned from."""

import shutil
from pathlib import Path
from statistics import fmean

import pytest

from pipeline.config.tracking import TrackingConfig
from pipeline.jobs import prior_runs
from pipeline.search.study.trials import best_first, ended, state_of
from pipeline.tracking import Store, open_store, studies
from pipeline.tracking.kept_models import delete_model
from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, copy_store, make_store, tiny_config
from tests.support.studies import open_study

NAMED = "hydra.sweeper.study_name=old"
LOSS = "evaluation.objective=val/loss"  # other seeds, other losses; the F1 may be the same


def store() -> Store:
    return open_store(TrackingConfig(uri=None, dir="mlruns", experiment="tunewright"))


def trials_of(name: str) -> list:
    return ended(open_study(Path("mlruns/studies", name)), "complete")


def seeds(name: str) -> list[int]:
    return sorted(t.params["seed"] for t in trials_of(name))


@pytest.fixture(scope="module")
def three_seeds(tiny_model, tmp_path_factory):
    """A store with the study ``old`` of three seeds."""
    folder = tmp_path_factory.mktemp("old")
    write_rows(folder / "reviews.jsonl", rows(120))
    given = tiny_config(tiny_model, "reviews.jsonl")
    return make_store(folder, ["-m", *given, LOSS, NAMED, "seed=range(1,4)"])


@pytest.fixture
def old(cli, tiny_model, three_seeds, working_folder):
    """Copy the study ``old`` of three seeds; return a function that gives its command again."""
    copy_store(three_seeds, working_folder)
    given = tiny_config(tiny_model, "reviews.jsonl")
    return lambda *overrides: cli("train", "-m", *given, LOSS, NAMED, *overrides)


def test_changed_space_is_refused_with_changes_and_reusable_trials(old):
    refused = old("seed=range(2,5)", "training.batch_size=32,64")
    assert refused.code == 2
    assert "seed: 1 to 3, step 1 -> 2 to 4, step 1" in refused.err
    assert "training.batch_size added: 32, 64 (was 16)" in refused.err
    assert "0 of its 3 complete trials fit" in refused.err
    refused = old("seed=range(2,5)")
    assert "2 of its 3 complete trials fit" in refused.err
    assert "on_change=continue" in refused.err
    assert "on_change=fork" in refused.err
    assert old("seed=range(1,4)").code == 0  # nothing of it was changed


def test_changed_space_refusal_still_names_other_differences(old):
    refused = old("seed=range(2,5)", "training.epochs=2", "hydra.sweeper.on_change=fork")
    assert refused.code == 2
    assert "training.epochs=1" in refused.err


def test_study_resumes_with_a_changed_space(old, runs):
    gone_on = old("seed=range(2,5)", "hydra.sweeper.on_change=continue")
    assert gone_on.code == 0, gone_on.err
    assert "3 of 3 trials done" in gone_on.out
    assert seeds("old") == [2, 3, 4]
    assert len(runs("trial")) == 4  # only the new point was run
    study = open_study(Path("mlruns/studies/old"))
    assert study.trials[0].params == {"seed": 1}  # it is still there for a sampler
    assert best_first(study)[0].number != 0
    assert old("seed=range(2,5)").code == 0  # from now on this is its space


def test_fixed_value_counts_as_parameter_once_searched(old, runs):
    grown = ("seed=1,2", "training.batch_size=16,32")
    refused = old(*grown, "hydra.sweeper.on_change=continue")
    assert refused.code == 2  # a range became a choice, which Optuna does not let one study have
    assert "seed has others now" in refused.err
    grown = ("seed=range(1,3)", "training.batch_size=16,32")
    gone_on = old(*grown, "hydra.sweeper.on_change=continue")
    assert gone_on.code == 0, gone_on.err
    points = [(t.params["seed"], t.params["training.batch_size"]) for t in trials_of("old")]
    assert sorted(points) == [(1, 16), (1, 32), (2, 16), (2, 32)]
    assert len(runs("trial")) == 5


def test_a_fork_counts_the_trials_that_fit_and_leaves_the_study_alone(old, cli, runs):
    before = open_study(Path("mlruns/studies/old")).trials
    (first,) = runs("study")
    best_run = first.data.tags["tunewright.best_run_id"]
    kept = artifact(next(r for r in runs("trial") if r.info.run_id == best_run), "model")
    fork = ("seed=choice(1,2,3,4)", "hydra.sweeper.on_change=fork")
    forked = old(*fork)
    assert forked.code == 0, forked.err
    assert "forked from old: 3 of its 3 complete trials are copied" in forked.out
    assert "4 of 4 trials done" in forked.out
    assert seeds("old-2") == [1, 2, 3, 4]
    assert open_study(Path("mlruns/studies/old")).trials == before
    assert kept.is_dir()
    assert len(runs("trial")) == 4

    again = old(*fork)  # goes on with the fork that it made
    assert again.code == 0, again.err
    assert len(runs("trial")) == 4
    assert not Path("mlruns/studies/old-3").exists()
    shown = cli("best", "old-2")
    assert shown.code == 0, shown.err
    ranked = best_first(open_study(Path("mlruns/studies/old-2")))
    assert ranked[0].user_attrs["run_id"] in shown.out


def test_a_fork_deletes_no_model_of_its_origin(old, runs):
    (first,) = runs("study")
    best_run = first.data.tags["tunewright.best_run_id"]
    kept = artifact(next(r for r in runs("trial") if r.info.run_id == best_run), "model")
    assert old("seed=choice(1,2,3,4)", "hydra.sweeper.on_change=fork").code == 0
    fork = next(s for s in runs("study") if s.info.run_id != first.info.run_id)
    for number, run_id in ((0, best_run), (3, runs("trial")[3].info.run_id)):
        studies.set_best(store(), fork.info.run_id, number, run_id, "")
    assert kept.is_dir()
    delete_model(store(), best_run, of_study="old")  # as its own study may
    assert kept.is_dir()


def test_a_model_stays_until_another_best_trial_has_one(old, cli, runs):
    (study,) = runs("study")
    best_run = study.data.tags["tunewright.best_run_id"]
    prior = next(r for r in runs("trial") if r.info.run_id == best_run)
    seed = prior.data.params["seed"]
    without = ("seed=range(1,4)", f"hydra.sweeper.filter='seed != {seed}'")
    gone_on = old(*without, "hydra.sweeper.on_change=continue")
    assert gone_on.code == 0, gone_on.err
    (study,) = runs("study")
    assert study.data.tags["tunewright.best_run_id"] != best_run  # its model was deleted long ago
    assert artifact(prior, "model").is_dir()
    shown = cli("best", "old").out
    number = prior.data.tags["tunewright.trial"]
    assert (
        f"not kept; the previous best trial's, {number}, is in {artifact(prior, 'model')}" in shown
    )

    other = next(
        r
        for r in runs("trial")
        if r.info.run_id not in (best_run, study.data.tags["tunewright.best_run_id"])
    )
    shutil.copytree(artifact(prior, "model"), artifact(other, "model"))
    studies.set_best(store(), study.info.run_id, 9, other.info.run_id, "")
    assert artifact(other, "model").is_dir()
    assert not artifact(prior, "model").exists()
    assert "tunewright.model_run_id" not in runs("study")[0].data.tags


def test_best_names_the_trial_of_the_fork_and_the_space_of_now(old, cli, runs):
    best = best_first(open_study(Path("mlruns/studies/old")))[0]
    others = [seed for seed in (1, 2, 3) if seed != best.params["seed"]]
    fork = f"seed=choice({best.params['seed']},{others[1]})"
    assert old(fork, "hydra.sweeper.on_change=fork").code == 0
    forked = best_first(open_study(Path("mlruns/studies/old-2")))[0]
    assert forked.user_attrs["run_id"] == best.user_attrs["run_id"]
    assert f"best       trial {forked.number}\n" in cli("best", "old-2").out

    grown = ("seed=range(1,4)", "training.batch_size=16,32")
    gone_on = old(*grown, "hydra.sweeper.on_change=continue")
    assert gone_on.code == 0, gone_on.err
    shown = cli("best", "old").out
    ranked = best_first(open_study(Path("mlruns/studies/old")))
    assert f"best       trial {ranked[0].number}\n" in shown
    assert f"training.batch_size = {ranked[0].params['training.batch_size']}" in shown
    store().client.delete_tag(runs("study")[0].info.run_id, "tunewright.best_score")
    store().client.delete_tag(runs("study")[1].info.run_id, "tunewright.best_score")
    shown = cli("best", "old-2")  # as of a study that an older version began
    assert shown.code == 0, shown.err
    assert "val/loss = not recorded" in shown.out
    assert old(*grown).code == 0
    assert f"val/loss = {ranked[0].value:.4f}" in cli("best", "old").out


def test_new_study_names_an_existing_one_that_fits(cli, tiny):
    cli("train", "-m", *tiny, "seed=1,2")
    (name,) = [path.name for path in Path("mlruns/studies").iterdir()]
    said = cli("train", "-m", *tiny, "seed=2,3").out
    assert f"study {name} differs in its space only; 1 of its 2 complete trials fit here" in said
    assert "differs in its space" not in cli("train", "-m", *tiny, "seed=7,8").out


def test_a_value_given_within_a_searched_group_is_no_part_of_the_space(cli, tiny):
    command = ("train", "-m", *tiny, NAMED, "hydra.sweeper.on_change=fork")
    assert cli(*command, "optimizer=adamw,sgd", "hydra.sweeper.n_trials=1").code == 0
    refused = cli(*command, "optimizer=adamw,nadam", "optimizer.learning_rate=2e-2")
    assert refused.code == 2
    assert "optimizer.learning_rate=0.01" in refused.err


def test_sampler_learns_from_trials_in_mlflow(cli, tiny, runs):
    cli("train", "-m", *tiny, NAMED, "seed=1,2,3")
    cli("train", *tiny, "seed=5")
    cli("train", *tiny, "seed=6", "training.epochs=2")
    shutil.rmtree("mlruns/studies/old")  # its storage is gone
    scores = {
        int(r.data.params["seed"]): r.data.metrics["val/f1_macro"]
        for r in [*runs("trial"), *runs("run")]
    }
    started = cli("train", "-m", *tiny, "seed=int(interval(2,6))", "hydra.sweeper.n_trials=1",
                  "hydra.sweeper.study_name=new",
                  "hydra.sweeper.warm_start=['mlflow:old','mlflow:*']")  # fmt: skip
    assert started.code == 0, started.err
    assert "warm start: 2 of 3 trials of mlflow:old fit" in started.out
    assert "warm start: 3 of 5 trials of mlflow:* fit" in started.out  # not that of two epochs
    study = open_study(Path("mlruns/studies/new"))
    imported = [t for t in study.trials if state_of(t) == "imported"]
    assert sorted(t.params["seed"] for t in imported) == [2, 2, 3, 3, 5]
    assert all(t.value == scores[t.params["seed"]] for t in imported)
    assert len(ended(study)) == 1


def test_a_point_on_several_seeds_is_learned_from_as_one(cli, tiny, runs):
    repeated = (*tiny, LOSS, "hydra.sweeper.repeats=2")
    cli("train", "-m", *repeated, NAMED, "training.batch_size=8,16,32")
    (study,) = runs("study")
    for trial, repeat, change in (("1", "1", "failed"), ("2", "1", None)):
        run = next(
            r
            for r in runs("trial")
            if r.data.tags["tunewright.trial"] == trial
            and r.data.tags["tunewright.repeat"] == repeat
        )
        if change:  # its point failed with its last seed
            store().client.set_tag(run.info.run_id, "tunewright.state", change)
        else:  # stopped before its last seed began
            store().client.delete_run(run.info.run_id)
    for seeds in ("hydra.sweeper.repeats=2", "hydra.sweeper.repeats=1"):
        name = f"new-{seeds[-1]}"
        started = cli("train", "-m", *tiny, LOSS, seeds, "training.batch_size=8,16,32,64",
                      "hydra.sweeper.n_trials=1", f"hydra.sweeper.study_name={name}",
                      "hydra.sweeper.warm_start='mlflow:old'")  # fmt: skip
        assert started.code == 0, started.err
        assert "warm start: 1 of 3 trials of mlflow:old fit" in started.out
        (imported,) = [
            t for t in open_study(Path("mlruns/studies", name)).trials if state_of(t) == "imported"
        ]
        assert imported.params == {"training.batch_size": 8}
        own = [r for r in runs("trial") if r.data.tags["mlflow.parentRunId"] == study.info.run_id]
        scores = [r.data.metrics["val/loss"] for r in own if r.data.tags["tunewright.trial"] == "0"]
        assert len(scores) == 2
        assert imported.value == pytest.approx(fmean(scores))


def test_transfer_parses_only_differences_and_reads_only_fitting_trials(cli, mine, monkeypatch):
    parsed, fetched = [], []
    read, history = prior_runs._read, prior_runs.history
    monkeypatch.setattr(prior_runs, "_read", lambda text: parsed.append(text) or read(text))
    monkeypatch.setattr(
        prior_runs, "history", lambda *given: fetched.append(given) or history(*given)
    )
    learning = ("hydra.sweeper.study_name=new", "hydra.sweeper.warm_start='mlflow:mine'")
    started = cli(*mine[:-2], "seed=2,7", "hydra.sweeper.n_trials=1", *learning)
    assert "1 of 2 trials of mlflow:mine fit" in started.out
    assert sorted(parsed) == ["1", "2"]
    of_trials = {run_id for _, run_id, metric in fetched if not metric.startswith("search/")}
    assert len(of_trials) == 1


@pytest.mark.usefixtures("mine")
def test_missing_record_is_refused_by_name(cli, tiny):
    refused = cli("train", "-m", *tiny, "seed=1,2,3", "hydra.sweeper.warm_start='mlflow:mien'")
    assert refused.code == 2
    assert "Did you mean mine?" in refused.err


def test_an_unknown_way_is_refused(cli, tiny):
    refused = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.on_change=frok")
    assert refused.code == 2
    assert "Did you mean fork?" in refused.err
