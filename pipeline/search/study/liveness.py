"""Who runs a trial, and whether that process is still there.

Optuna's heartbeats work only inside `Study.optimize`, so a trial that is asked for and told needs
its own. On one machine the process table tells at once. Of a worker on another machine only its
beat is seen: a count it writes with the trial every `BEAT_SECONDS`. Counts are compared, never
clocks, so machines need not agree on the time.
"""

import contextlib
import logging
import threading
import time
from typing import Any, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial

from pipeline.common.errors import is_explained
from pipeline.common.process import ABANDONED, identity, is_gone
from pipeline.search.optuna_parts import note

log = logging.getLogger(__name__)

OWNER, BEAT = "owner", "beat"  # user attributes of a trial
BEAT_SECONDS = 10.0
DEAD_SECONDS = 60.0  # without a new beat, on another machine
UNSIGNED_SECONDS = 120.0  # without a signature: longer than a sampler takes to propose


def was_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial was left because somebody stopped the search."""
    return bool(trial.user_attrs.get(OWNER, {}).get(ABANDONED) == "interrupted")


class Heartbeat:
    """Beats for the trials that this worker runs or holds, while the ``with`` block lasts."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._beats: dict[int, tuple[Trial, int]] = {}  # by number: a trial, its beats so far
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def sign(self, trial: Trial) -> None:
        """Make a trial this process's own."""
        trial.set_user_attr(OWNER, identity())
        with self._lock:
            self._beats[trial.number] = trial, 0

    def release(self, trial: Trial) -> None:
        """Beat no longer for a trial that has ended."""
        with self._lock:
            self._beats.pop(trial.number, None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._stop.set()
        self._thread.join()
        if error is not None:
            # The process may live on: what it leaves must not look as if somebody ran it.
            for trial, _ in self._beats.values():
                with contextlib.suppress(Exception):
                    how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                    abandoned = {**identity(), ABANDONED: how}
                    note(self._study, trial, OWNER, abandoned)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with self._lock:
                for number, (trial, beats) in self._beats.items():
                    self._beats[number] = trial, beats + 1
                    self._write(trial, beats + 1)

    def _write(self, trial: Trial, beats: int) -> None:
        try:
            note(self._study, trial, BEAT, beats)
        except UpdateFinishedTrialError:
            pass  # it was told between our look and our beat
        # One that stops at a hiccup of the storage gives living work away.
        except Exception as error:
            trace = not is_explained(error)
            log.warning("no beat could be written (%s); tried again", error, exc_info=trace)


class Watch:
    """Tells dead trials from living ones; one a process, since it remembers beats."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}  # trial number -> beat, when it was new

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Whether the process that ran a running trial is gone."""
        owner = trial.user_attrs.get(OWNER)
        if owner is None:
            return self._unchanged_for(trial, None) > UNSIGNED_SECONDS
        gone = is_gone(owner)
        if gone is not None:
            return gone
        return self._unchanged_for(trial, trial.user_attrs.get(BEAT, 0)) > DEAD_SECONDS

    def _unchanged_for(self, trial: FrozenTrial, beat: int | None) -> float:
        now = time.monotonic()
        if trial.number not in self._seen or self._seen[trial.number][0] != beat:
            self._seen[trial.number] = (beat, now)
        return now - self._seen[trial.number][1]
