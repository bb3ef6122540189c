"""What a search is expected to cost, and what it did cost: time, disk, energy and money."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as typed

from pipeline.common.contract import RunCost

JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0


_Price = Annotated[float, Field(strict=True, ge=0, description="a number from 0 on")]


@typed(config=ConfigDict(extra="forbid"), frozen=True)
class Prices:
    """What a machine draws and costs; a table of the config."""

    core_watts: _Price
    gpu_watts: _Price
    usd_per_kwh: _Price
    usd_per_core_hour: _Price
    usd_per_gpu_hour: _Price

    def rates(self, cores: float, gpus: float) -> "Rates":
        """Return what a worker draws and costs that has so many cores and GPUs."""
        return Rates(
            watts=cores * self.core_watts + gpus * self.gpu_watts,
            usd_per_hour=cores * self.usd_per_core_hour + gpus * self.usd_per_gpu_hour,
            usd_per_kwh=self.usd_per_kwh,
        )


@dataclass(frozen=True)
class Rates:
    """What one worker draws and costs while it works."""

    watts: float = 0.0
    usd_per_hour: float = 0.0
    usd_per_kwh: float = 0.0

    def kwh(self, seconds: float) -> float:
        """Return the energy of so many seconds of a worker, as the stated power has it."""
        return seconds * self.watts / JOULES_PER_KWH

    def usd(self, seconds: float, kwh: float) -> float:
        """Return the money for so many seconds of a worker, and so much energy."""
        return seconds / SECONDS_PER_HOUR * self.usd_per_hour + kwh * self.usd_per_kwh


FREE = Rates()


@dataclass(frozen=True)
class Spent:
    """What a search costs, forecast or measured."""

    seconds: float  # by the clock
    machine_seconds: float  # of all workers together
    disk: int  # bytes
    kwh: float
    usd: float
    is_measured: bool = False  # the energy, by sensors

    def __str__(self) -> str:
        """Return it in words."""
        how = "measured" if self.is_measured else "estimated from the stated power"
        money = f", {self.usd:.3g} USD" if self.usd else ""
        return (
            f"{span(self.seconds)}, {self.disk / 1e6:.0f} MB on disk, {self.kwh * 1000:.2g} Wh "
            f"({how}){money}"
        )


def forecast(
    costs: Sequence[Sequence[RunCost]],
    seeds: int,
    workers: int,
    rates: Rates,
    begun: float,
    before: Spent,
    models: int,
) -> Spent:
    """Forecast a study, earlier starts of its search included, if no trial is pruned from now on.

    Args:
        costs: of a run of each trial, in the order in which they begin, for each stage: the next
            one begins when the last trial of the one before has ended.
        seeds: runs of a trial.
        workers: how many trials run in parallel.
        rates: of a worker.
        begun: seconds of this start that have gone by already.
        before: what earlier starts have cost.
        models: how many more are kept than earlier starts left.
    """
    stages = [[seeds * cost.seconds for cost in stage] for stage in costs]
    every = list(chain.from_iterable(costs))
    left = sum(map(sum, stages))
    kwh = rates.kwh(left)
    kept = models * max(cost.model for cost in every)
    return Spent(
        before.seconds + begun + sum(makespan(trials, workers) for trials in stages),
        before.machine_seconds + left,
        before.disk + seeds * sum(cost.record for cost in every) + kept,
        before.kwh + kwh,
        before.usd + rates.usd(left, kwh),
    )


def spread(costs: Sequence[RunCost], count: int) -> list[RunCost]:
    """Return a cost for each of so many trials, of a grid in its order.

    Where only some points were costed, each is taken as often as needed.
    """
    return [costs[i * len(costs) // count] for i in range(count)]


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last trial ends, where each worker takes the next one as it becomes free."""
    free = [0.0] * max(1, workers)
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def compared(expected: Spent, found: Spent) -> str:
    """Return both, with the error of the forecast."""
    error = found.seconds / expected.seconds - 1
    return f"forecast {span(expected.seconds)}, took {found} ({error:+.0%})"


def span(seconds: float) -> str:
    """Return a time in the unit that is read best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
