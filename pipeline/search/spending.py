"""What one start of a search has cost."""

from __future__ import annotations

import time

import optuna

from pipeline.search.cost import Rates, Spent
from pipeline.search.power import Energy
from pipeline.search.searchable import Searchable
from pipeline.search.study.budget import machine_seconds


class Spending:
    """Counts time, disk, energy and money from its making on; the time from the process's start."""

    def __init__(self, study: optuna.Study, task: Searchable, rates: Rates, began: float) -> None:
        self.energy = Energy()
        self._study = study
        self._task = task
        self._rates = rates
        self._began = began
        self._machine_before = machine_seconds(study)
        self._disk_before = task.disk(study)

    def so_far(self) -> Spent:
        """Return it."""
        seconds = machine_seconds(self._study) - self._machine_before
        disk = self._task.disk(self._study) - self._disk_before
        measured = self.energy.kwh
        kwh = self._rates.kwh(seconds) if measured is None else measured
        usd = self._rates.usd(seconds, kwh)
        wall = time.time() - self._began
        return Spent(wall, seconds, disk, kwh, usd, is_measured=measured is not None)
