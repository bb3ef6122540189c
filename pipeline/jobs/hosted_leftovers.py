"""What providers' services keep of our runs: files, tuned models, and jobs at work."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.jobs.leftovers import Defect
from pipeline.providers.service import Held, service_of
from pipeline.tracking.runs import seek_run

if TYPE_CHECKING:
    from pipeline.config.provider import HostedConfig
    from pipeline.tracking import Store


def held(config: HostedConfig, store: Store, named: Collection[str]) -> Iterator[Defect]:
    """Yield what a service keeps; what is named by its id can be deleted, a job cancelled.

    Raises:
        ConfigError: for a name that is none of it.
        ServiceError: where the service does not answer.
    """
    service = service_of(config)
    found = {one.id: one for one in service.held()}
    for name in named:
        if name not in found:
            raise ConfigError(
                f"--delete {name}: {config.place} keeps nothing of ours by that name."
                f"{did_you_mean(name, found)} Found {listing(found) or 'nothing'}."
            )
    removals = {"file": service.delete_file, "model": service.delete_model, "job": service.cancel}
    for one in sorted(found.values(), key=lambda one: one.kind != "job"):
        place = f"{config.name}, {one.kind} {one.id}"
        wrong = f"{one.about}{_of_run(store, one)}"
        if one.id in named:
            remedy = "cancelled" if one.kind == "job" else "deleted"
            yield Defect(place, wrong, remedy, partial(removals[one.kind], one.id))
        else:
            yield Defect(place, wrong, left_alone=True)


def _of_run(store: Store, one: Held) -> str:
    """Say which run something is of, and how that ended."""
    if not one.mark:
        return ""
    run_id = one.mark.rpartition("-")[0]
    run = seek_run(store, run_id)
    state = "which is not in this store" if run is None else f"which is {run.info.status}"
    return f", of run {run_id}, {state}"
