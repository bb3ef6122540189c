"""What a search and the function it searches over tell each other, in types that both know."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]  # in which a metric gets better
PruningDecision = Literal["continue", "prune", "pause"]  # what a trial that reports a score is told
Precision = Literal["float32", "bfloat16", "float16"]  # in which matrix products are computed
State = Literal["complete", "pruned", "paused"]  # how a run ended that did not fail
STATE_AFTER: dict[PruningDecision, State] = {  # a run that was told so, and then ended
    "continue": "complete",
    "prune": "pruned",
    "pause": "paused",
}
NO_KEYS = ("filter", "first", "prior")  # what a space is described by besides its keys


@dataclass(frozen=True)
class RunCost:
    """What a run is expected to cost."""

    seconds: float  # by the clock, in a process that has everything imported
    record: int  # bytes of what it logs
    model: int  # bytes of the model that it keeps, if it is the best
