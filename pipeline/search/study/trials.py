"""What a trial's entry in the study says: its state in our words, its rank, its place.

Optuna knows running, complete, pruned and failed. A trial that is paused, one whose process died,
and one that taught the sampler what not to try are told apart by their attributes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from statistics import stdev
from typing import Any, Literal
from weakref import WeakKeyDictionary

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.search.optuna_parts import queued_params

State = Literal[
    "waiting", "running", "paused", "complete", "pruned", "failed", "killed", "rejected", "imported"
]

REASON = "reason"  # user attribute: why a trial failed, its kind first
TRACE = "trace"  # user attribute: where a failed trial failed, the same for the same place
TRACEBACK = "traceback"  # user attribute: the traceback's text
KILLED = "killed"  # user attribute: cut off or not wanted any more; another has its place
REJECTED = "rejected"  # user attribute: the space's filter refused it, and nothing was run
IMPORTED = "imported"  # user attribute: the earlier study that a trial was copied from
ATTEMPT = "attempt"  # user attribute: how often this point was begun before
REPLACES = "replaces"  # user attribute: the number of the failed trial that this one is instead of
CONTINUES = "continues"  # user attribute: the number of the killed trial that this one is a try of
STOP = "stop"  # user attribute: a user asked to end this trial; of a study: to stop its search
ADDED = "added"  # user attribute: a user added this point, one more than n_trials; its own mark
SOURCE = "source"  # user attribute: where its point comes from, if from no sampler and no grid
COPIED = "copied"  # user attribute: the trial that this one was copied from, study#number
PAUSED_AT = "paused_at"  # user attribute: the step at which a trial waits, None while it runs
REPEATS = "repeats"  # user attribute: a complete trial's scores on each of its seeds
PAUSED_SINCE = "paused_since"  # user attribute: time.time() of the pause that a trial is in
WAITED = "waited"  # user attribute: seconds of the pauses before that
COSTED = "costs"  # user attribute: what a complete trial's run cost, by names of metrics
SCORES = "scores"  # user attribute: the scores that a pruned trial's run had when it ended
STEP = "step"  # user attribute: the last step a pruned or paused trial made
STAGE = "stage"  # user attribute: which of the study's stages it is of, from 1
FIXED = "fixed"  # user attribute: parameters that its stage does not search and others do
RUN_ID = "run_id"  # user attribute: its MLflow run
RUNS = "runs"  # user attribute: its MLflow runs, one a seed, as far as it came
COMMAND = "overrides"  # user attribute: the command line of its run
RATES = "rates"  # user attribute: what its worker draws and costs, the fields of `Rates`
RAN = "ran"  # user attribute: seconds by the clock that its runs took, pauses left out
ACCOUNT = "account"  # user attribute: seconds by phase, and those of the lower bound
CHARGED = "charged"  # user attribute: USD that a provider's service takes for its runs, by run
ASKS = "asks_usd"  # user attribute: USD that it asks of the budget for such a run, until answered
NEEDED = "needed_usd"  # user attribute of the study: what the last trial asked for if in vain, or 0
TIMING = "timing"  # user attribute: what its first steps and evaluation took, for the forecast
SET_ASIDE = "set_aside"  # user attribute of the study: trials that its changed space has no more

# Trials that use up no budget, cannot be the best, and are in no table.
_SET_ASIDE: dict[str, State] = {KILLED: "killed", REJECTED: "rejected", IMPORTED: "imported"}


def state_of(trial: FrozenTrial) -> State:
    """Return a trial's state in our words."""
    if trial.state == TrialState.WAITING:
        return "waiting"
    if trial.state == TrialState.RUNNING:
        return "running" if trial.user_attrs.get(PAUSED_AT) is None else "paused"
    for mark, state in _SET_ASIDE.items():
        if trial.user_attrs.get(mark):
            return state
    if trial.state == TrialState.COMPLETE:
        return "complete"
    # Out of memory and divergence are told as pruned, so that samplers learn from them.
    return "failed" if trial.state == TrialState.FAIL or REASON in trial.user_attrs else "pruned"


def why_ended(trial: FrozenTrial) -> str:
    """Return why a trial failed, or why it was pruned if that was no pruner's doing, else ''."""
    stopped = trial.user_attrs.get(STOP, "") if state_of(trial) == "pruned" else ""
    return str(trial.user_attrs.get(REASON, stopped))


def kind_of_failure(trial: FrozenTrial) -> str:
    """Return the first word of a failed trial's reason: oom, diverged, error, killed and so on."""
    return str(trial.user_attrs.get(REASON, "")).partition(":")[0]


def is_run_again(trial: FrozenTrial) -> bool:
    """Whether a death or a stop cut a trial off, and its point was queued again.

    One that was claimed one too many is set aside as well, but ran nothing and has no reason.
    """
    return state_of(trial) == "killed" and bool(trial.params) and REASON in trial.user_attrs


def counted(study: optuna.Study, *, waiting: bool = False) -> list[FrozenTrial]:
    """Return the trials that use up the budget: not the queued unless asked, none set aside."""
    left_out = (*_SET_ASIDE.values(), *(() if waiting else ("waiting",)))
    return [trial for trial, state in _in_force(study) if state not in left_out]


def planned(study: optuna.Study, n_trials: int) -> int:
    """Return how many trials a study is to have: ``n_trials``, and those that users added."""
    return n_trials + sum(ADDED in t.user_attrs for t in counted(study, waiting=True))


def ended(study: optuna.Study, *states: State) -> list[FrozenTrial]:
    """Return the trials that ended by themselves, all or those in some states."""
    return in_state(study, *(states or ("complete", "pruned", "failed")))


def in_state(study: optuna.Study, *states: State) -> list[FrozenTrial]:
    """Return the trials in force that are in one of some states."""
    return [trial for trial, state in _in_force(study) if state in states]


def run_again(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials in force that were cut off, and whose points were queued again."""
    return list(filter(is_run_again, in_state(study, "killed")))


def in_force(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that no other replaces, and that the study's space still has.

    A trial that is over takes no mark any more, so the one that replaces it names it, or the study.
    """
    return [trial for trial, _ in _in_force(study)]


def _in_force(study: optuna.Study) -> list[tuple[FrozenTrial, State]]:
    """Return the trials in force, each with its state."""
    pairs, replaced = _SEEN.setdefault(study, _Seen()).look(study)
    left_out = replaced.union(study.user_attrs.get(SET_ASIDE, ()))
    return [pair for pair in pairs if pair[0].number not in left_out] if left_out else pairs


class _Seen:
    """What is known of a study's trials; one that is over changes no more, and is read once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of a study's threads, none may be behind another
        self._states: list[State] = []  # by a trial's number
        self._replaced: set[int] = set()
        self._open: list[int] = []  # that were not over

    def look(self, study: optuna.Study) -> tuple[list[tuple[FrozenTrial, State]], set[int]]:
        """Return all trials with their states, and the numbers of those that others replace."""
        with self._lock:
            trials = study.get_trials(deepcopy=False)
            new = range(len(self._states), len(trials))
            self._states += ["waiting"] * len(new)
            for number in (looked_at := [*self._open, *new]):
                self._states[number] = state_of(trials[number])
                if (other := trials[number].user_attrs.get(REPLACES)) is not None:
                    self._replaced.add(other)
            self._open = [number for number in looked_at if not trials[number].state.is_finished()]
            return list(zip(trials, self._states, strict=True)), set(self._replaced)


_SEEN: WeakKeyDictionary[optuna.Study, _Seen] = WeakKeyDictionary()


def tries(study: optuna.Study) -> list[FrozenTrial]:
    """Return all that ran for this study: killed and replaced trials too, copies not."""
    own = {}
    for trial in study.get_trials(deepcopy=False):
        is_own = COPIED not in trial.user_attrs and trial.datetime_start is not None
        if is_own and state_of(trial) not in ("rejected", "imported"):
            own[trial.user_attrs.get(RUN_ID), trial.datetime_start] = trial  # or its twin's: a copy
    return list(own.values())


def tries_before(marks: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the tries of a point that were killed or failed, the latest first.

    Args:
        marks: user attributes of the try after them.
        trials: all of the study.
    """
    tries: list[FrozenTrial] = []
    while (number := marks.get(CONTINUES, marks.get(REPLACES))) is not None:
        tries.append(trials[number])
        marks = trials[number].user_attrs
    return tries


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, those that keep all constraints first, by their scores.

    Where the first objective is equal the next one decides, so that no trial beats the best one in
    all objectives; of equals the earlier one comes first.
    """
    return sorted(ended(study, "complete"), key=_rank(study))


def in_order_of_end(study: optuna.Study) -> list[tuple[FrozenTrial, FrozenTrial | None]]:
    """Return all complete trials as they ended, each with the best one until then.

    Those that the study's space has no more keep their places, but are never the best: None where
    there is no other.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if state_of(t) == "complete"]
    complete.sort(key=lambda t: (t.datetime_complete, t.number))
    own, rank = {t.number for t in ended(study, "complete")}, _rank(study)
    best: FrozenTrial | None = None
    found = []
    for trial in complete:
        if trial.number in own and (best is None or rank(trial) < rank(best)):
            best = trial
        found.append((trial, best))
    return found


def pareto_front(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, of those that keep all constraints, that none beats in all."""
    allowed = _allowed(study)
    losses = [_losses(study.directions, t.values) for t in allowed]

    def is_beaten(own: list[float]) -> bool:
        return any(
            other != own and all(o <= mine for o, mine in zip(other, own, strict=True))
            for other in losses
        )

    return [t for t, own in zip(allowed, losses, strict=True) if not is_beaten(own)]


def violation(trial: FrozenTrial) -> float:
    """Return by how much a trial breaks its constraints; 0 where it keeps them."""
    return sum(value for value in trial.constraints.values() if value > 0)


def is_among_best(study: optuna.Study, scores: Sequence[float], number: int, most: int = 1) -> bool:
    """Whether a trial with these scores would be among the first ``most`` of `best_first`."""
    directions = study.directions
    own = (_losses(directions, scores), number)
    before = ((_losses(directions, t.values), t.number) < own for t in _allowed(study))
    return sum(before) < most


def _allowed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials that keep all constraints."""
    return [t for t in ended(study, "complete") if violation(t) == 0]


def spreads(trial: FrozenTrial) -> list[float]:
    """Return each score's standard deviation over a complete trial's seeds; none of but one."""
    # A worker notes the seeds' scores before it tells the trial, which until then has reports.
    repeats = trial.user_attrs.get(REPEATS, []) if state_of(trial) == "complete" else []
    return [stdev(scores) for scores in zip(*repeats, strict=True)]


def scores_of(trial: FrozenTrial) -> list[float]:
    """Return a trial's scores: what its state leaves it.

    A complete trial has those that the study was told, a pruned one those that its run ended with,
    one that is not over the latest it reported, by the pruner's metric, and a failed one none.
    """
    state = state_of(trial)
    if state == "complete":
        return list(trial.values)
    reported = trial.intermediate_values
    if state == "failed" or not (reported or SCORES in trial.user_attrs):
        return []
    return list(trial.user_attrs.get(SCORES) or [reported[max(reported)]])


def score_text(trial: FrozenTrial) -> str:
    """Return a trial's scores, with their spread where it has several seeds."""
    return ", ".join(score_texts(trial))


def score_texts(trial: FrozenTrial, digits: str = ".4f") -> list[str]:
    """Return a trial's scores, one a text."""
    means = scores_of(trial)
    widths: Sequence[float | None] = spreads(trial) or [None] * len(means)
    return [with_spread(*one, digits) for one in zip(means, widths, strict=True)]


def with_spread(mean: float, spread: float | None, digits: str = ".4f") -> str:
    """Return a score as text: over several seeds their mean, and its standard deviation."""
    return format(mean, digits) + ("" if spread is None else f" ± {spread:.2g}")


def sign_of(direction: StudyDirection) -> float:
    """Return 1 where more is better, -1 where less is."""
    return 1.0 if direction == StudyDirection.MAXIMIZE else -1.0


def _rank(study: optuna.Study) -> Callable[[FrozenTrial], tuple[float, list[float], int]]:
    """Return what complete trials are sorted by."""
    directions = study.directions
    return lambda t: (violation(t), _losses(directions, t.values), t.number)


def _losses(directions: Sequence[StudyDirection], scores: Sequence[float]) -> list[float]:
    """Return scores so that less is better."""
    return [-sign_of(way) * score for way, score in zip(directions, scores, strict=True)]


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters, those it was queued with and has not taken yet included."""
    return {**(queued_params(trial) or {}), **trial.params}


def all_params(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """Return a trial's parameters, those that its stage does not search included."""
    return {**trial.user_attrs.get(FIXED, {}), **trial.params}


def stage_marks(trial: FrozenTrial) -> dict[str, Any]:
    """Return the attributes by which another try of a trial's point is of the same stage."""
    return {key: trial.user_attrs[key] for key in (STAGE, FIXED) if key in trial.user_attrs}


def place_of(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials before this one count; a retry takes the place of a killed one.

    What replaces a failed trial takes its very place, so that none after it moves. A point that a
    user adds moves none either.
    """
    while (replaced := trials[number].user_attrs.get(REPLACES)) is not None:
        number = replaced
    return sum(
        not t.user_attrs.get(KILLED, False) and {REPLACES, ADDED}.isdisjoint(t.user_attrs)
        for t in trials[:number]
    )
