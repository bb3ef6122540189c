"""Several seeds for each point: the mean is the score, the spread is shown, one model is kept."""

import csv
import io
from statistics import fmean, stdev

import optuna
import pytest

from pipeline.search.study.storage import open_storage
from pipeline.search.study.trials import spreads
from tests.support.stores import artifact

STUDY = "hydra.sweeper.study_name=seeds"
LOSS = "evaluation.objective=val/loss"  # other seeds, other losses; the F1 may be the same


def study_of(folder="mlruns"):
    storage = open_storage(f"{folder}/studies/seeds/study.journal")
    return optuna.load_study(study_name="seeds", storage=storage)


def test_a_point_is_scored_by_the_mean_over_its_seeds(cli, tiny, runs):
    given = (*tiny, LOSS, "training.batch_size=8,16", "hydra.sweeper.repeats=3", STUDY)
    ended = cli("train", "-m", *given)
    assert ended.code == 0, ended.err
    study, trials = study_of(), runs("trial")
    assert len(study.trials) == 2
    seeds = sorted(t.data.params["seed"] for t in trials)
    assert seeds == ["42", "42", "43", "43", "44", "44"]
    for trial in study.trials:
        own = [t for t in trials if t.data.tags["tunewright.trial"] == str(trial.number)]
        scores = [t.data.metrics["val/loss"] for t in own]
        assert len(set(scores)) == 3
        assert trial.value == pytest.approx(fmean(scores))
        assert spreads(trial) == [pytest.approx(stdev(scores))]
    best = study.best_trial
    shown = f"{best.value:.4f} ± {spreads(best)[0]:.2g}"
    assert shown in ended.out
    said = cli("best", "seeds").out
    assert f"val/loss = {shown}" in said
    table = artifact(runs("study")[0], "trials.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [float(row["val/loss_sd"]) for row in rows] == [spreads(t)[0] for t in study.trials]
    last = next(t for t in trials if t.info.run_id == best.user_attrs["run_id"])
    own = f"{last.data.metrics['val/loss']:.4f}"
    assert "the mean over 3 seeds; run, model and command are those of seed 44" in said
    assert f"which scored {own}" in said
    first = [t.data for t in trials if t.data.tags["tunewright.trial"] == "0"]
    costs = [data.metrics["cost/train_seconds"] for data in first]
    assert study.trials[0].user_attrs["costs"]["cost/train_seconds"] == pytest.approx(fmean(costs))


def test_one_model_is_kept_that_of_the_best_points_last_seed(cli, tiny, runs):
    cli("train", "-m", *tiny, LOSS, "training.batch_size=8,16", "hydra.sweeper.repeats=2", STUDY)
    kept = [run for run in runs("trial") if artifact(run, "model").is_dir()]
    best = study_of().best_trial
    assert [run.info.run_id for run in kept] == [best.user_attrs["run_id"]]
    assert kept[0].data.tags["tunewright.repeat"] == "1"


def test_a_search_over_seeds_cannot_repeat_them(cli, tiny):
    ended = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.repeats=2")
    assert ended.code == 2
    assert (
        "hydra.sweeper.repeats=2: each point is run on as many values of the key seed" in ended.err
    )


def test_only_a_points_first_seed_is_pruned(cli, tiny, runs):
    # A loss that hardly falls stays under 0.6 from the top; see the same limit in test_pruning.
    learning = [o for o in tiny if "epochs" not in o and "eval_every" not in o]
    learning += ["training.batch_size=4"]
    ended = cli(
        "train",
        "-m",
        *learning,
        STUDY,
        "training.epochs=4",
        "training.eval_every=1.0",
        "evaluation.objective=val/loss",
        "optimizer.learning_rate=1e-9,0.01",
        "hydra.sweeper.repeats=2",
        "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.upper=0.6",
        "hydra.sweeper.pruner.n_warmup_steps=3",
    )
    assert ended.code == 0, ended.err
    assert [t.state.name for t in study_of().trials] == ["PRUNED", "COMPLETE"]
    states = [
        (t.data.tags["tunewright.trial"], t.data.tags["tunewright.state"]) for t in runs("trial")
    ]
    assert sorted(states) == [("0", "pruned"), ("1", "complete"), ("1", "complete")]
