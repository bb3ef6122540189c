"""A trial of our own runs: it has a record whatever becomes of it."""


def test_trial_whose_combination_is_refused_ends_its_record_with_the_reason(cli, tiny, runs):
    space = ["schedule=warmup_stable_decay", "schedule.warmup=0.1,0.9", "schedule.decay=0.05,0.5"]
    assert cli("train", "-m", *tiny, *space).code in (0, 1)
    trials = runs("trial")
    states = [trial.info.status for trial in trials]
    assert sorted(states) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    refused = trials[states.index("FAILED")]
    assert refused.data.params["schedule.decay"] == "0.5"
    assert "schedule.warmup=0.9" in refused.data.tags["tunewright.reason"]
