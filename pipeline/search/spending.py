"""What a study has cost, over all starts of its search; energy is measured where sensors are."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property

import optuna

from pipeline.common.timing import Account, Start, account_of_search, ledger
from pipeline.search.cost import Rates, Spent
from pipeline.search.searchable import Searchable
from pipeline.search.study.budget import used
from pipeline.search.study.trials import ACCOUNT, tries

_START = "start "  # beginning of a user attribute of the study, before the time of a start


class Spending:
    """Adds what this start of a search takes to what earlier ones took: pauses are no part of it.

    The study keeps what each start took. One that finds nothing to run is none.

    Args:
        study: that is searched.
        task: knows what the trials have written.
        rates: of a worker of this start.
        began: when the command was started, as of `time.time`.
        workers: how many trials run at the same time.
        runs: whether there is a trial to run.
    """

    def __init__(
        self,
        study: optuna.Study,
        task: Searchable,
        rates: Rates,
        began: float,
        workers: int,
        *,
        runs: bool = True,
    ) -> None:
        self.runs = runs
        self._began, self._workers = began, workers
        self.study = study
        self._task = task
        self._rates = rates
        self._measured: float | None = None  # kWh; None: nothing is measured here, or not yet
        known = study.user_attrs
        self._earlier = [Start(**known[key]) for key in sorted(known) if key.startswith(_START)]
        self.before = self._spent(self._earlier)  # this start

    @cached_property
    def starts(self) -> list[Start]:
        """All of the study, this one until this is first asked: then the search ends."""
        here = Start(time.time() - self._began, self._workers, ledger().seconds(), self._measured)
        return [*self._earlier, here] if self.runs else self._earlier

    @property
    def end(self) -> float:
        """When the search ended, as of `time.time`."""
        return self._began + self.starts[-1].seconds

    @cached_property
    def total(self) -> Spent:
        """All that the study has cost."""
        return self._spent(self.starts)

    @cached_property
    def account(self) -> Account:
        """Where the time of all its workers went."""
        known = [t.user_attrs for t in tries(self.study)]
        trials = [Account(*attrs[ACCOUNT]) for attrs in known if ACCOUNT in attrs]
        return account_of_search(trials, self.starts)

    def keep(self, *, is_over: bool) -> None:
        """Keep with the study what this start took, or until now: all that is known if killed."""
        if self.runs:
            now = Start(time.time() - self._began, self._workers)
            start = self.starts[-1] if is_over else now
            self.study.set_user_attr(f"{_START}{self._began:.6f}", asdict(start))

    def _spent(self, starts: list[Start]) -> Spent:
        by_rates = used(self.study, self._rates)
        measured = [start.kwh for start in starts if start.kwh is not None]
        is_measured = bool(measured) and len(measured) == len(starts)
        kwh = sum(measured) if is_measured else by_rates.kwh
        usd = by_rates.usd + self._rates.usd(0.0, kwh - by_rates.kwh)
        wall, disk = sum(start.seconds for start in starts), self._task.disk(self.study)
        return Spent(wall, by_rates.seconds, disk, kwh, usd, is_measured)

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Count the energy of processor, memory and GPUs of the whole machine while it is open.

        What CodeCarbon would only estimate counts as not measured: the stated power says that
        better.
        """
        if not has_sensors():
            yield
            return
        from codecarbon import OfflineEmissionsTracker

        tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # for the carbon, which is not read; it asks no address for it
            save_to_file=False,
            log_level="error",
            allow_multiple_runs=True,
        )
        tracker.start()
        try:
            yield
        finally:
            tracker.stop()
            self._measured = float(tracker.final_emissions_data.energy_consumed)


def has_sensors() -> bool:
    """Whether the processor's counters (RAPL) or a GPU's can be read, and CodeCarbon is there."""
    try:
        from codecarbon.core.cpu import is_rapl_available
        from codecarbon.core.gpu import is_gpu_details_available
    except ImportError:
        return False
    return bool(is_rapl_available() or is_gpu_details_available())
