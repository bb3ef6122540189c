"""What CONTRIBUTING.md says is added as it says, and runs."""

import re
import sys
from pathlib import Path

import pytest

import pipeline.tasks
from tests.support.rows import rows, write_rows
from tests.support.stores import tiny_config

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
# A paragraph that begins with a file's name, and the block after it.
FILE = re.compile(r"^`([\w-]+/\S+)`(?:(?!\n\n).)*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def added(working_folder, monkeypatch) -> dict[str, Path]:
    """The files of the page, in the working folder; its modules are found in pipeline.tasks."""
    files = {}
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        files[name] = working_folder / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(text, encoding="utf-8")
    modules = str(working_folder / "pipeline" / "tasks")
    monkeypatch.setattr(pipeline.tasks, "__path__", [*pipeline.tasks.__path__, modules])
    yield files
    sys.modules.pop("pipeline.tasks.rating", None)


def test_one_file_adds_a_thing_and_a_module_and_a_file_a_task(added):
    assert list(added) == [
        "conf/model/electra-small.yaml",
        "conf/data/rotten_tomatoes.yaml",
        "conf/optimizer/rmsprop.yaml",
        "conf/hydra/sweeper/sampler/wide-tpe.yaml",
        "sweeps/decay.yaml",
        "pipeline/tasks/rating.py",
        "conf/task/rating.yaml",
    ]


@pytest.mark.usefixtures("added")
def test_the_task_is_found_trained_by_the_optimizer_and_its_model_predicts(
    cli, tiny_model, runs, working_folder
):
    number = {"neg": 1, "pos": 5}
    stars = [
        {**row, "stars": number[row["stars"]], "by": f"rater {i // 4}"}
        for i, row in enumerate(rows(120))
    ]
    tiny = tiny_config(tiny_model, write_rows(working_folder / "stars.jsonl", stars))
    refused = cli("train", *tiny, "task=rating")
    assert refused.code == 2
    assert "there is no column 'rater' (data.rater)" in refused.err
    ended = cli("train", *tiny, "task=rating", "data.rater=by", "optimizer=rmsprop")
    assert ended.code == 0, ended.err
    (run,) = runs("run")
    assert run.data.params["optimizer.alpha"] == "0.99"
    assert run.data.params["data.rater"] == "by"
    metrics = run.data.metrics
    assert metrics["val/mae"] == pytest.approx(4 * (1 - metrics["val/accuracy"]))
    asked = ("predict", run.info.run_id, "--input", "stars.jsonl", "--output", "out.jsonl")
    predicted = cli(*asked)
    assert predicted.code == 0, predicted.err
    assert len(Path("out.jsonl").read_text(encoding="utf-8").splitlines()) == 120
    refused = cli("train", *tiny, "task=rating", "data.ratr=by")
    assert refused.code == 2
    assert "Did you mean data.rater?" in refused.err
    again = cli("rerun", run.info.run_id, "--verify", "--allow", str(tiny_model))
    assert again.code == 0, again.err
    refused = cli("train", *tiny, "task.name=ratng")
    assert refused.code == 2
    assert "Did you mean rating?" in refused.err
    refused = cli("train", *tiny, "optimizer=rmsprop", "+optimizer.alfa=0.9")
    assert refused.code == 2
    assert "optimizer.alfa: RMSprop has no such hyperparameter. Did you mean alpha?" in refused.err


@pytest.mark.usefixtures("added")
def test_the_model_the_data_set_the_sampler_and_the_sweep_are_choices(cli, tiny):
    assert cli("train", "--cfg", "job", "model=electra-small", "data=rotten_tomatoes").code == 0
    more = ("hydra/sweeper/sampler=wide-tpe", "hydra.sweeper.n_trials=1")
    rehearsed = cli("sweep", "decay", *tiny, *more, "--dry-run")
    assert rehearsed.code == 0, rehearsed.err
