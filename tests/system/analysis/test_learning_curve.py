"""How much data is enough, which labels are wrong, which model: each a search with an answer."""

import json

import pytest

from tests.support.rows import rows, write_rows
from tests.support.stores import artifact, splits_of

ONE = "hydra.sweeper.n_jobs=1"


def test_shares_of_the_data_are_searched_and_answered_in_words(cli, tiny, runs):
    space = ("data.train_share=0.25,0.5,1.0", "hydra.sweeper.repeats=2", ONE)
    ended = cli("train", "-m", *tiny, *space)
    assert ended.code == 0, ended.err
    assert "twice the data" in ended.out
    (study,) = runs("study")
    curve = json.loads(artifact(study, "learning_curve.json").read_text())
    logged = sorted(splits_of(run)["train"]["rows"] for run in runs("trial"))
    assert sorted(curve["rows"]) == logged
    assert logged[0] == round(logged[-1] / 4)
    assert "Twice the data" in artifact(study, "report.html").read_text()


def test_each_row_is_judged_by_a_model_that_did_not_see_it(cli, tiny, working_folder, runs):
    records = rows(400, seed=5)
    flipped = [7, 40, 99, 150, 320]
    for i in flipped:
        records[i]["stars"] = "neg" if records[i]["stars"] == "pos" else "pos"
    write_rows(working_folder / "reviews.jsonl", records)
    space = ("data.fold=0,1,2", "data.folds=3", "training.epochs=8", "training.eval_every=1.0", ONE)
    ended = cli("train", "-m", *tiny, *space)
    assert ended.code == 0, ended.err
    assert "look wrong to models not trained on the row" in ended.out
    (study,) = runs("study")
    found = json.loads(artifact(study, "label_errors.json").read_text())
    assert found["judged"] == 400 - 40  # the test split's are not judged
    ids = {row[0] for row in found["data"]}
    assert ids <= {f"reviews.jsonl:{i + 1}" for i in flipped}
    assert len(ids) >= 3  # the others are in the test split
    assert "Label issues" in artifact(study, "report.html").read_text()


def test_models_are_compared_by_score_and_cost(cli, tiny, tiny_model, runs):
    own = [word for word in tiny if not word.startswith("model")]
    goals = "evaluation.objective=[val/f1_macro,cost/parameters]"
    sizes = "model.from_config.hidden_size=16,64"
    scratch = ("model=tiny-bert", f"model.tokenizer={tiny_model}")
    ended = cli("train", "-m", *own, *scratch, sizes, goals, ONE)
    assert ended.code == 0, ended.err
    table = ended.out[ended.out.index("front: trial") :].splitlines()
    assert "seconds_per_1000_rows" in table[0]
    small, large = (run.data.metrics for run in runs("trial"))
    assert small["cost/parameters"] < large["cost/parameters"]
    for name in ("cost/memory_mb", "cost/seconds_per_1000_rows"):
        assert small[name] > 0


@pytest.mark.parametrize(
    ("given_key", "said"),
    [
        ("data.fold=2", "data.folds=null"),
        ("data.folds=1", "data.folds"),
        ("data.train_share=1.5", "data.train_share"),
    ],
)
def test_invalid_shares_of_data_are_refused(cli, tiny, given_key, said):
    ended = cli("train", *tiny, given_key)
    assert ended.code == 2
    assert said in ended.err
