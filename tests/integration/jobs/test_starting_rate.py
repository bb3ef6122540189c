"""A learning rate left to the rule is a number before anything runs, in every way to run."""

from pathlib import Path

import pytest

from pipeline.tracking import tags
from pipeline.tracking.run_log import RunLog
from pipeline.training.starting_rate import SCALE_BATCH
from tests.support import classifiers, word_models

AUTO = "optimizer.learning_rate=auto"
RATE = "optimizer.learning_rate"
EXACT = 4.5e-5 * (12 / 6 * (768 / 256) ** 2) ** 0.7  # at batch 16
SAID = f"{AUTO}: 0.00034 (full fine-tuning, bert, hidden size 256, 6 layers, batch 16)"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as small as the rule is known for."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    return word_models.encoder(folder, classifiers.WORDS, width=256, layers=6)


@pytest.fixture
def auto(tiny: list[str], wide: Path) -> list[str]:
    """The overrides of a run whose learning rate the rule finds."""
    return [*tiny, f"model.checkpoint={wide}", AUTO]


def test_run_logs_the_number_and_reruns_to_the_bit(cli, auto, wide, runs):
    done = cli("train", *auto, "optimizer.scale_with_batch=sqrt", "training.batch_size=4")
    assert done.code == 0, done.err
    scaled = "optimizer.scale_with_batch=sqrt: 0.00017 (0.00034 × √(4 / 16))"
    assert [line for line in done.out.splitlines() if "optimizer." in line] == [SAID, scaled]
    (run,) = runs("run")
    assert run.data.params[RATE] == "0.00034"
    assert run.data.tags[tags.LEARNING_RATE] == f"{SAID}; {scaled}"

    rerun = cli("rerun", run.info.run_id, "--verify", "--allow", str(wide))
    assert "verdict: identical" in rerun.out, rerun.err
    assert AUTO not in rerun.out
    again = next(one for one in runs("run") if one.info.run_id != run.info.run_id)
    assert again.data.params[RATE] == "0.00034"
    assert again.data.tags[tags.LEARNING_RATE] == scaled


def test_interrupted_run_resumes_with_its_number(cli, auto, runs, monkeypatch):
    def interrupted(_, __, step):
        if step == 4:
            raise KeyboardInterrupt

    own = [*auto, "training.checkpoint_every=1"]
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "on_metrics", interrupted)
        begun = cli("train", *own, "--resume")
        assert (begun.code, begun.out.count(AUTO)) == (130, 1)
    (run,) = runs("run")
    resumed = cli("train", *own, "--resume")
    assert resumed.code == 0, resumed.err
    (whole,) = runs("run")
    assert (whole.info.run_id, whole.info.status) == (run.info.run_id, "FINISHED")
    assert whole.data.params[RATE] == "0.00034"


def test_each_trial_of_a_sweep_has_its_own_number(cli, auto, runs):
    plan = ["train", "-m", *auto, "training.batch_size=4,16", "adapter=none,lora", "seed=1"]
    first = f"{AUTO}: 0.00017 (full fine-tuning, bert, hidden size 256, 6 layers, batch 4)"
    said = f"  {first}; in other trials by what they train"
    dry = cli(*plan, "--dry-run")
    assert said in dry.out.splitlines(), dry.err
    swept = cli(*plan)
    assert swept.code == 0, swept.err
    assert said in swept.out.splitlines()
    trials = {
        (t.data.params["adapter.name"], int(t.data.params["training.batch_size"])): t
        for t in runs("trial")
    }
    for (adapter, batch), trial in trials.items():
        exact = EXACT * (batch / SCALE_BATCH) ** 0.5 * (10 if adapter == "lora" else 1)
        assert float(trial.data.params[RATE]) == pytest.approx(exact, rel=0.03)
        assert f"hidden size 256, 6 layers, batch {batch})" in trial.data.tags[tags.LEARNING_RATE]
    assert len({t.data.params[RATE] for t in trials.values()}) == 4
    (study,) = runs("study")
    best = cli("best", study.data.tags[tags.STUDY]).out
    won = next(t for t in runs("trial") if t.info.run_id == study.data.tags[tags.BEST_RUN])
    assert f" {RATE}={won.data.params[RATE]}" in best
    assert AUTO not in best
    # Another search takes over what the rule made for it, and no run with a rate of its own.
    assert cli("train", *auto, "training.batch_size=4", f"{RATE}=1e-3", "seed=1").code == 0
    learned = cli(*plan, "hydra.sweeper.study_name=next", "hydra.sweeper.warm_start=mlflow:*")
    assert "4 of 5" in learned.out, learned.out


def test_prior_sampler_begins_at_the_number(cli, tiny, wide):
    own = [o for o in tiny if not o.startswith(RATE)]
    searched = f"{RATE}=tag(log, interval(1e-5, 1e-1))"
    rule = ["optimizer=adamw-auto", "adapter=lora", searched, "hydra/sweeper/sampler=prior"]
    plan = ["train", "-m", *own, f"model.checkpoint={wide}", *rule]
    dry = cli(*plan, "--dry-run")
    assert f"{RATE} around 0.0034" in dry.out, dry.err  # ten times that of all weights
    cli(*plan, "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine")
    added = cli("study", "mine", "add", f"{RATE}=0.01")
    assert f"trial 1 of mine: {RATE}=0.01; one more than n_trials" in added.out, added.err


def test_refused_before_anything_is_recorded(cli, tiny, auto, runs):
    narrow = cli("train", *tiny, AUTO)
    assert narrow.code == 2
    assert "bert has hidden size 16, and the rule is known for 256 to 1536 only" in narrow.err
    swept = cli("train", "-m", *auto, "adapter=none,head")
    assert swept.code == 2
    assert "for adapter.name=head there is no rule" in swept.err
    assert not Path("mlruns").exists() or not runs("run")
