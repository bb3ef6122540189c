"""The energy that this machine draws, where CodeCarbon is there and can read its sensors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass
class Energy:
    """What sensors counted."""

    kwh: float | None = None  # None: nothing is measured here, or not yet


@contextmanager
def metered(energy: Energy) -> Iterator[None]:
    """Count the energy of processor, memory and GPUs of the whole machine while it is open.

    What CodeCarbon would only estimate counts as not measured: the stated power says that better.

    Args:
        energy: gets what was counted, at the end.
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
        energy.kwh = float(tracker.final_emissions_data.energy_consumed)


def has_sensors() -> bool:
    """Whether the processor's counters (RAPL) or a GPU's can be read, and CodeCarbon is there."""
    try:
        from codecarbon.core.cpu import is_rapl_available
        from codecarbon.core.gpu import is_gpu_details_available
    except ImportError:
        return False
    return bool(is_rapl_available() or is_gpu_details_available())
