"""A service that is away or busy: requests wait and are made again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_never,
    wait_exponential_jitter,
)

from pipeline.providers.service import ServiceError
from pipeline.training.outcome import RUN_LOGGER

if TYPE_CHECKING:
    from pipeline.config.provider import HostedConfig

T = TypeVar("T")

BUSY_SECONDS = 24 * 3600.0
SAY_SECONDS = 600.0  # between two words on what is waited for
LOOK_SECONDS = 1.0  # between two looks at whether the trial is to end
FIRST, LONGEST = 0.5, 30.0  # seconds between two tries, unless the service asks for more

log = logging.getLogger(RUN_LOGGER)


class Patience:
    """Makes requests again until they succeed, an outage is too long, or the trial is to end.

    A service that is busy (429) is waited for as long as it says so, a day at most: jobs of others,
    or a limit of a day's requests, may be in the way.

    Args:
        config: says how long an outage may be.
        check: raises once the trial is to end; called while a request waits.
        busy: seconds for which the service may be busy.
    """

    def __init__(
        self, config: HostedConfig, check: Callable[[], None], busy: float = BUSY_SECONDS
    ) -> None:
        self._busiest = busy
        self._most, self._check = 60.0 * config.outage_minutes, check
        self._growing = wait_exponential_jitter(initial=FIRST, max=LONGEST, jitter=FIRST)

    def __call__(self, request: Callable[[], T]) -> T:
        """Return what a request gives.

        Raises:
            ServiceError: that does not pass, or an outage that lasted too long.
        """
        self._check()
        began = time.monotonic()
        away: float | None = None  # since when the service does not answer

        def passes(error: BaseException) -> bool:
            nonlocal away
            if not isinstance(error, ServiceError) or not error.passes:
                return False
            now = time.monotonic()
            if error.fault == "busy":
                away = None
                return now - began < self._busiest
            away = now if away is None else away
            return now - away < self._most

        said = -math.inf

        def say(state: RetryCallState) -> None:
            nonlocal said
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                log.warning(
                    "%s; tried again, an outage for up to %g minutes",
                    *(str(_error(state)).removesuffix("."), self._most / 60),
                )

        again = Retrying(
            retry=retry_if_exception(passes),
            wait=self._delay,
            stop=stop_never,
            sleep=self.wait,
            before_sleep=say,
            reraise=True,
        )
        return again(request)

    def wait(self, seconds: float) -> None:
        """Wait, and look meanwhile whether the trial is to end."""
        end = time.monotonic() + seconds
        self._check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            self._check()

    def _delay(self, state: RetryCallState) -> float:
        """Return the seconds until the next try: more each time, and at least what is asked for."""
        return max(self._growing(state), min(_error(state).wait or 0.0, SAY_SECONDS))


def _error(state: RetryCallState) -> ServiceError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ServiceError)
    return error
