"""What one start of a search has cost; its energy is measured where sensors can be read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import optuna

from pipeline.search.cost import Rates, Spent
from pipeline.search.searchable import Searchable
from pipeline.search.study.budget import machine_seconds


class Spending:
    """Counts energy and money from its making on, and time from the start of the command.

    Disk is that of all trials of the study, those of earlier starts included.

    Args:
        study: that is searched.
        task: knows what the trials have written.
        rates: of a worker.
        began: when the command was started, as of `time.time`.
        workers: how many trials run at the same time.
    """

    def __init__(
        self, study: optuna.Study, task: Searchable, rates: Rates, began: float, workers: int
    ) -> None:
        self.began, self.workers = began, workers
        self._study = study
        self._task = task
        self._rates = rates
        self._machine_before = machine_seconds(study)
        self._measured: float | None = None  # kWh; None: nothing is measured here, or not yet

    @cached_property
    def total(self) -> Spent:
        """All of it, from the start of the command until this is asked: then the search ends."""
        seconds = machine_seconds(self._study) - self._machine_before
        disk = self._task.disk(self._study)
        kwh = self._rates.kwh(seconds) if self._measured is None else self._measured
        usd = self._rates.usd(seconds, kwh)
        wall = time.time() - self.began
        return Spent(wall, seconds, disk, kwh, usd, is_measured=self._measured is not None)

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
