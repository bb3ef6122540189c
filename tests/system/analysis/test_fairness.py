"""Bias: groups that are served worse, and answers that hang on a term of identity."""

import json
import random
from pathlib import Path

import pytest

from tests.support.rows import BAD, FILLERS, GOOD, write_rows
from tests.support.stores import artifact, make_store, tiny_config


def reviews(count: int, seed: int, biased: float) -> list[dict[str, str]]:
    """Return reviews, each with "man" or "film"; of the first so many are said to be bad."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        label = chance.choice(["neg", "pos"])
        who = chance.choice(["day", "book"])  # words of the tiny model that stand for identities
        word = chance.choice(GOOD if label == "pos" else BAD)
        if who == "day" and chance.random() < biased:
            label = "neg"
        words = [*chance.choices(FILLERS[:2], k=3), who, "is", word]
        made.append({"review": " ".join(words), "stars": label, "who": who})
    return made


def write(folder: Path, model: Path) -> list[str]:
    """Write data with a planted bias, data without, and fair rows to judge by; return overrides."""
    write_rows(folder / "biased.jsonl", reviews(400, 1, 1.0))
    write_rows(folder / "fair.jsonl", reviews(400, 2, 0.0))
    write_rows(folder / "valid.jsonl", reviews(120, 3, 0.0))
    (folder / "terms.yaml").write_text("thing:\n  - [day, book]\n")
    return [
        *tiny_config(model, "biased.jsonl"),
        *("data.validation=valid.jsonl", "evaluation.slices=[who]"),
        *("evaluation.counterfactual=terms.yaml", "training.epochs=6"),
        "training.eval_every=1.0",
    ]


@pytest.fixture
def biased(tiny_model, working_folder):
    return write(working_folder, tiny_model)


@pytest.fixture(scope="module")
def searched(tiny_model, tmp_path_factory):
    """A search between both data, by the score and by the fairness."""
    folder = tmp_path_factory.mktemp("fairness")
    goals = "evaluation.objective=[val/worst_group_f1,val/counterfactual_flip_rate]"
    search = ("-m", "data.train=biased.jsonl,fair.jsonl", goals)
    return make_store(folder, [*write(folder, tiny_model), *search])


def test_a_planted_bias_is_caught_and_shown(searched):
    unfair, fair = searched.runs("trial")
    assert unfair.data.params["data.train"] == "biased.jsonl"
    assert unfair.data.metrics["val/counterfactual_flip_rate"] > 0.3
    assert fair.data.metrics["val/counterfactual_flip_rate"] < 0.05
    assert unfair.data.metrics["val/worst_group_gap"] > 0.3
    assert unfair.data.metrics["val/counterfactual_shift"] > 0.2

    bias = json.loads(artifact(unfair, "bias.json").read_text())
    worst = min(bias["groups"], key=lambda group: group["f1_macro"])
    assert (worst["slice"], worst["group"]) == ("who", "day")
    assert sum(group["n"] for group in bias["groups"]) == 120
    low, high = worst["interval"]
    assert low <= worst["f1_macro"] <= high
    assert bias["swapped"] == {"thing": 120}
    rate = bias["flipped"]["thing"] / 120
    assert rate == pytest.approx(unfair.data.metrics["val/counterfactual_flip_rate"])
    flip = bias["flips"][0]
    assert flip["text"] != flip["swapped"]
    assert flip["prediction"] != flip["swapped_prediction"]
    assert "Worst group: who=day" in artifact(unfair, "bias.html").read_text()


def test_a_constraint_makes_a_search_choose_the_fairer_one(cli, biased, runs):
    """Judged by rows with the same bias, the biased model wins, unless fairness is asked for."""
    Path("valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews(120, 3, 1.0)))
    limit = "evaluation.constraints=['val/counterfactual_flip_rate <= 0.1']"
    assert cli("train", "-m", *biased, "data.train=biased.jsonl,fair.jsonl", limit).code == 0
    by_score = [run.data.metrics["val/f1_macro"] for run in runs("trial")]
    assert by_score[0] > by_score[1]
    (study,) = runs("study")
    assert study.data.tags["tunewright.best_trial"] == "1"
    page = artifact(study, "report.html").read_text()
    assert "Fairness of the best trial" in page


def test_metrics_of_bias_can_be_objectives(searched):
    (study,) = searched.runs("study")
    assert study.data.tags["tunewright.direction"] == "maximize, minimize"
    assert study.data.tags["tunewright.best_trial"] == "1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["evaluation.slices=[whom]"], "Did you mean who?"),
        (["evaluation.counterfactual=none.yaml"], "there is no such file"),
        (
            ["evaluation.counterfactual=null", "evaluation.objective=val/counterfactual_flip_rate"],
            "evaluation.counterfactual=default",
        ),
        (["evaluation.counterfactual=default"], "no row of the validation split has any"),
    ],
)
def test_fairness_refuses_what_cannot_be_compared(cli, biased, given, said):
    ended = cli("train", *biased, *given)
    assert ended.code == 2
    assert said in ended.err
