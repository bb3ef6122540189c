"""Canaries: where a release of Optuna moves what `optuna_parts` touches, these say what broke."""

import optuna
import pytest
from optuna.samplers import QMCSampler, TPESampler
from optuna.storages.journal import _storage as journal
from optuna.study import StudyDirection
from optuna.trial import TrialState

from pipeline.search import optuna_parts as parts


def two_objectives() -> optuna.Study:
    return optuna.create_study(directions=["minimize", "maximize"])


@pytest.mark.parametrize(
    ("owner", "name", "needed"),
    [
        (optuna.create_study(), "_storage", "nothing of another process's trial can be written"),
        (optuna.create_study(), "_study_id", "samplers under Hyperband cannot count all trials"),
        (optuna.create_study().ask(), "_trial_id", "no beat and no score can be written"),
        (QMCSampler, "_find_sample_id", "a quasi-random sequence no longer goes by trials' places"),
        (TPESampler, "_build_parzen_estimator", "TPE's work for a trial grows with the study"),
        (TPESampler(), "_search_space", "samplers read all trials again for each"),
        (journal, "JournalOperation", "a damaged line of a journal is not named"),
    ],
)
def test_optunas_private_part_is_where_it_was(owner, name, needed):
    assert hasattr(owner, name), f"Optuna {optuna.__version__} has no {name} there: {needed}"


def test_a_queued_trial_is_taken_back_unless_it_runs():
    study = optuna.create_study()
    for x in (1, 2):
        study.enqueue_trial({"x": x})
    queued = study.get_trials(deepcopy=False)
    assert parts.queued_params(queued[1]) == {"x": 2}, 'Optuna keeps no "fixed_params" any more'
    running = study.ask()
    for trial in queued:
        parts.take_back(study, trial, "mark")
    assert [t.state for t in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    assert [t.user_attrs for t in study.trials] == [{}, {"mark": True}]
    assert parts.queued_params(parts.latest(study, running)) == {"x": 1}
    assert parts.queued_params(parts.latest(study, study.ask())) is None


def test_a_score_is_reported_and_pruned_by_with_several_objectives():
    study, threshold = two_objectives(), optuna.pruners.ThresholdPruner(upper=0.5)
    trial = study.ask()
    parts.report_step(study, trial, 1, 0.9)
    seen = parts.latest(study, trial)
    assert seen.intermediate_values == {1: 0.9}
    assert threshold.prune(parts.as_one_objective(study, StudyDirection.MINIMIZE), seen)
    parts.note(study, seen, "key", "value")
    assert parts.every_trial(study)[0].user_attrs == {"key": "value"}


def test_a_quasi_random_sequence_goes_by_the_trials_place():
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}

    def draw(place: int) -> float:
        sampler = parts.PlacedQmc(
            distributions=space, place=place, seed=1, warn_independent_sampling=False
        )
        return optuna.create_study(sampler=sampler).ask(space).params["x"]

    assert draw(3) == draw(3) != draw(4)


def test_lines_of_a_journal_are_known():
    known = (b'{"op_code": 0}', b'{"op_code": 6, "values": null}', b'{"op_code": 6, "values": [1]}')
    assert all(map(parts.is_journal_line, known))
    others = (b'{"op_code": 99}', b"{}", b"[]", b"7", b"torn", b'{"op_code": 6, "values": ["1"]}')
    assert not any(map(parts.is_journal_line, others))


def test_tpe_keeps_the_best_trials_and_thins_out_the_others(monkeypatch):
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study = optuna.create_study()
    for i in range(200):
        study.add_trial(optuna.create_trial(params={"x": i / 200}, distributions=space, value=i))
    densities = []

    class Density(optuna.samplers._tpe.parzen_estimator._ParzenEstimator):
        def __init__(self, observations, *rest):
            densities.append(list(observations["x"]))
            super().__init__(observations, *rest)

    monkeypatch.setattr(parts, "MOST_KERNELS", 50)
    sampler = parts.ThinnedTpe(seed=0)
    sampler._parzen_estimator_cls = Density
    study.sampler = sampler
    study.ask(space)
    best, others = densities
    assert best == [i / 200 for i in range(20)]
    assert others == [i / 200 for i in range(20, 200, 4)]


def test_what_is_read_of_the_trials_is_handed_on():
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study = optuna.create_study(sampler=TPESampler())
    study.add_trial(optuna.create_trial(params={"x": 0.5}, distributions=space, value=0))
    study.ask()
    after, random = TPESampler(), optuna.samplers.RandomSampler()
    parts.share_space(study.sampler, after)
    assert after._search_space is study.sampler._search_space
    parts.share_space(random, after)
