"""Why trials fail, and what a search learns from it.

A trial that ran out of memory or diverged says something about its parameters: it is told to the
sampler as a violated constraint. (Told as a failure, which samplers leave out, such a point would
be proposed again and again.) A bug says nothing about them, and a killed process nothing at all:
its point is tried again.
"""

import hashlib
import traceback

import optuna
from optuna.trial import Trial, TrialState

from pipeline.common.errors import reason_of
from pipeline.search.study.trials import REASON, TRACE, TRACEBACK, ended

TEACHES = ("oom", "diverged", "timeout")  # kinds that are the parameters' doing
FIRST_TRIALS = 3  # this many trials that fail at one place, and none that does not, end a search
TRACEBACK_CHARACTERS = 4000


def tell_failure(study: optuna.Study, trial: Trial, error: BaseException) -> None:
    """Tell the study why a trial failed, and its sampler what is to be learned from it."""
    why = reason_of(error)
    kind = why.partition(":")[0]
    trial.set_user_attr(REASON, why)
    if kind == "error":
        lines = "".join(traceback.format_exception(error))
        trial.set_user_attr(TRACEBACK, lines[-TRACEBACK_CHARACTERS:])
        trial.set_user_attr(TRACE, _place(error))
    if kind in TEACHES:
        trial.set_constraint(kind, 1.0)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, state=TrialState.FAIL)


def why_hopeless(study: optuna.Study, max_failure_rate: float) -> str | None:
    """Say why a search should end for its failures, if it should."""
    failed = ended(study, "failed")
    if not failed:
        return None
    done = ended(study)
    places = {t.user_attrs.get(TRACE) for t in failed}
    if len(done) == len(failed) >= FIRST_TRIALS and len(places) == 1 and None not in places:
        return (
            f"the first {len(failed)} trials all failed at the same place:\n"
            f"{failed[0].user_attrs[TRACEBACK].rstrip()}"
        )
    if len(failed) / len(done) > max_failure_rate:
        return (
            f"{len(failed)} of {len(done)} finished trials failed, and "
            f"hydra.sweeper.max_failure_rate is {max_failure_rate:g}. "
            f"The first: {failed[0].user_attrs.get(REASON, '')}"
        )
    return None


def _place(error: BaseException) -> str:
    """Return a digest of the error's type and of the lines of code that led to it."""
    frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    text = "\n".join([type(error).__name__, *frames])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
