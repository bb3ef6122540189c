"""The controller's watch over a running search: dead workers, and what there is to record."""

import logging
import threading
from collections.abc import Callable
from typing import Self

from pipeline.common.errors import is_explained
from pipeline.search.forecasts import Forecast
from pipeline.search.searchable import Searchable
from pipeline.search.spending import Spending
from pipeline.search.study.liveness import Watch
from pipeline.search.study.queue import settle
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import in_state

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # a dead worker on this machine is seen within this time


class Supervisor:
    """Settles the trials of dead workers, and tells the task of all that ended, from a thread.

    Workers write their own trials only; what the whole study has in MLflow is written here.
    """

    def __init__(
        self,
        spec: StudySpec,
        task: Searchable,
        spending: Spending,
        forecast: Forecast | None = None,
        describe: Callable[[], None] | None = None,
    ) -> None:
        self._spec = spec
        self._task = task
        self._spending = spending
        self._forecast, self._describe = forecast, describe
        self._study = spec.open()
        self._watch = Watch()
        self._told: set[int] = set()
        self._looking = threading.Lock()  # the sweeper looks as well as the thread
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="supervisor")

    def look(self) -> None:
        """Settle what is dead and tell what is new, now."""
        with self._looking:
            settle(self._study, self._spec, self._watch)
            if self._describe is not None:  # while the workers begin: they need not wait for it
                self._describe()
                self._describe = None
            if self._forecast is not None:
                self._forecast.look(self._study)
            done = in_state(self._study, "complete", "pruned", "failed", "killed")
            news = [t for t in done if t.number not in self._told]
            if news:
                self._task.progressed(self._study, news)
                self._told |= {t.number for t in news}
                self._spending.keep(is_over=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.look()

    def _follow(self) -> None:
        is_over = False
        while not is_over:
            try:
                self.look()
            except Exception as error:  # the last look, which is not caught, tells again
                trace = not is_explained(error)
                log.error(
                    "what ended could not be recorded (%s); tried again", error, exc_info=trace
                )
            is_over = self._stop.wait(LOOK_SECONDS)
