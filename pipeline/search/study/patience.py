"""A study's database that is away for a while: calls wait and are made again."""

import logging
import threading
from typing import NoReturn

from optuna.storages import BaseStorage
from sqlalchemy.exc import InterfaceError, OperationalError
from tenacity import (
    RetryCallState,
    retry,
    retry_if_exception,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_exponential_jitter,
)

from pipeline.common.errors import RESUMES, TrackingError, causes
from pipeline.common.secrets import masked

log = logging.getLogger(__name__)

AWAY = (OperationalError, InterfaceError)  # what SQLAlchemy raises of a server or its network
PATIENCE_SECONDS = 60.0  # in which a server restarts


def patient(storage: BaseStorage, url: str) -> BaseStorage:
    """Have the calls of a database wait while it does not answer.

    A call is one transaction, which a lost connection undoes, so it can be made again. Where only
    the answer was lost, a trial that is made or claimed twice has no owner, and is settled as one
    that was killed.

    Raises:
        TrackingError: by the calls, where it does not answer for `PATIENCE_SECONDS`.
    """
    lost = threading.Event()

    def give_up(state: RetryCallState) -> NoReturn:
        lost.set()  # what is left to be written as this process ends does not wait again
        raise TrackingError(
            f"hydra.sweeper.storage={masked(url)}: did not answer for {PATIENCE_SECONDS:.0f} s "
            f"({_why(state)}). When it does, {RESUMES}."
        ) from _error_of(state)

    def say_once(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("the study's database does not answer, tried again: %s", _why(state))

    again = retry(
        retry=retry_if_exception(_is_away),
        wait=wait_exponential_jitter(initial=0.1, max=5),
        stop=stop_any(stop_after_delay(PATIENCE_SECONDS), stop_when_event_set(lost)),
        before_sleep=say_once,
        retry_error_callback=give_up,
    )
    for name, value in vars(BaseStorage).items():
        if callable(value) and not name.startswith("_"):
            setattr(storage, name, again(getattr(storage, name)))
    return storage


def _is_away(error: BaseException) -> bool:
    return any(isinstance(one, AWAY) for one in causes(error))


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _why(state: RetryCallState) -> str:
    error = _error_of(state)
    assert error is not None
    away = next(one for one in causes(error) if isinstance(one, AWAY))
    return masked(str(away).strip().splitlines()[0])
