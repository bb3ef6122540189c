"""The evaluation group: by which metric, on which rows a run is judged."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, BatchRows, Count, FileName, Text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


@dataclass(config=STRICT, frozen=True)
class EvaluationConfig:
    """How a run is judged."""

    # The metric that judges a run (val/f1_macro, val/f1_macro@last …), or several for a search.
    objective: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    constraints: tuple[Text, ...]  # limits on metrics: val/recall/positive >= 0.9
    # Rows at once, at most; null: only training.micro_batch_tokens counts. Affects no scores but
    # those of sampled texts.
    batch_size: BatchRows | None
    test: bool  # read the test split once, with the best weights, at the end of the run
    # Validation rows of every evaluation but the last, the only one to judge the run; null: all.
    early_rows: Count | None
    # Columns of the data whose values are groups to compare; a single one needs no list.
    slices: Annotated[tuple[Text, ...], BeforeValidator(_listed)]
    # Identity terms to swap, to see whether answers change: a YAML file, or default; null: none.
    counterfactual: FileName | None

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives as a sequence, even a single one."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective
