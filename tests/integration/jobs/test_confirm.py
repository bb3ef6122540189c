"""confirm: the winner on fresh seeds, beside the default config and what needs no training."""

import json

from pipeline.analysis.winner import Side, baselines, judge
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.schema import validate
from pipeline.training.prepare import splits_of
from tests.support.rows import rows
from tests.support.stores import artifact
from tests.support.tiny_models import tiny_gpt2


def test_a_better_winner_is_told_with_its_figures(cli, tiny, runs):
    sweep = ("optimizer.learning_rate=1e-2,1e-7", "training.epochs=3", "hydra.sweeper.n_jobs=1")
    ended = cli("train", "-m", *tiny, "optimizer.learning_rate=1e-7", *sweep)
    assert ended.code == 0, ended.err
    assert "tunewright confirm" in ended.out or "pipeline confirm" in ended.out
    (study,) = runs("study")
    name = study.data.tags["tunewright.study"]

    ended = cli("confirm", name, "--seeds", "2", "hydra.sweeper.n_jobs=1")
    assert ended.code == 0, ended.err
    study = next(run for run in runs("study") if run.data.tags["tunewright.study"] == name)
    report = json.loads(artifact(study, "winner.json").read_text())
    retrained = [r for r in runs("trial") if r.data.tags["tunewright.study"].startswith("confirm-")]
    assert {run.data.params["seed"] for run in retrained} == {"43", "44"}
    won = [r for r in retrained if r.data.params["optimizer.learning_rate"] == "0.01"]
    scores = [run.data.metrics["test/f1_macro"] for run in won]
    assert report["mean"] == sum(scores) / 2
    assert report["test_reads"] == len(retrained) == 4
    default, majority, tfidf = report["against"]
    assert default["name"] == "the default config"
    assert report["mean"] - default["mean"] == default["difference"]
    assert majority["mean"] < tfidf["mean"]
    assert "fresh seeds give" in ended.out
    again = cli("confirm", name, "--seeds", "2", "hydra.sweeper.n_jobs=1")
    assert "read by 4 runs" in again.out  # nothing was trained a second time
    page = artifact(study, "report.html").read_text()
    assert "the default config" in page


def test_equal_configs_are_not_told_apart(cli, tiny, runs):
    search = ("training.logging_steps=2,3", "hydra.sweeper.confirm=2", "hydra.sweeper.n_jobs=1")
    ended = cli("train", "-m", *tiny, *search)
    assert ended.code == 0, ended.err
    assert "not distinguishable from the default config (+0.0000" in ended.out
    assert len(runs("trial")) == 2 + 2 + 2


def test_what_cannot_be_confirmed_is_refused(cli, tiny):
    assert cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.n_jobs=1").code == 0
    one = cli("confirm", "sweep", "--seeds", "1")
    assert one.code == 2
    assert "one seed does not show" in one.err
    none = cli("confirm", "swep")
    assert none.code == 2
    assert "no study of that name" in none.err


def test_a_model_that_reads_labels_is_compared_with_itself_untrained(tiny, working_folder):
    texts = [record["review"] for record in rows(60)]
    model = tiny_gpt2(working_folder / "gpt2", [*texts, "Label: neg pos"])
    with hydra_app("train") as hydra:
        own = [word for word in tiny if "model" not in word.split("=")[0]]
        chosen = ["model=hub", f"model.checkpoint={model}", "task.approach=generative"]
        given = [*own, *chosen, "training.max_length=24", "evaluation.test=true"]
        experiment = validate(without_hydra(compose(hydra, given)))
    sides = {side.name: side for side in baselines(experiment)}
    untrained = sides["the model without training"]
    test = splits_of(experiment).test
    assert len(untrained.predictions[0]) == len(test)
    assert set(untrained.predictions[0]) <= {"neg", "pos"}
    majority = sides["the most frequent label"]
    assert len(set(majority.predictions[0])) == 1
    assert sides["TF-IDF with logistic regression"].mean > majority.mean


def test_tasks_without_labels_are_compared_by_their_seeds():
    winner, same = Side("the winner", [0.41, 0.43, 0.42], []), Side("x", [0.42, 0.43, 0.41], [])
    worse = Side("y", [0.31, 0.32, 0.33], [])
    found = judge(winner, [same, worse], [], "rougeL", [])
    assert [one.words.split(" by ")[0].split(" (")[0] for one in found] == [
        "not distinguishable from x",
        "better than y",
    ]
    assert found[0].interval is None
