"""What a winner is compared with: by labels where its task has them, else by its seeds."""

from pipeline.analysis.winner import Side, baselines, judge
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.training.prepare import splits_of
from tests.support.rows import rows
from tests.support.tiny_models import tiny_gpt2


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
    found = [judge(winner, side, [], "rougeL", []) for side in (same, worse)]
    assert [one.words.split(" by ")[0].split(" (")[0] for one in found] == [
        "not distinguishable from x",
        "better than y",
    ]
    assert found[0].interval is None
