"""The evaluation group: by which metric, on which rows a run is judged."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from pipeline.config.types import STRICT, Count, Text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


@dataclass(config=STRICT, frozen=True)
class EvaluationConfig:
    """How a run is judged."""

    # The metric that judges a run (val/f1_macro, val/f1_macro@last …), or several for a search.
    objective: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    constraints: tuple[Text, ...]  # limits on metrics: val/recall/positive >= 0.9
    # Rows at once, at most; null: only training.micro_batch_tokens counts. No influence on the
    # scores but of sampled texts.
    batch_size: Count | None
    test: bool  # read the test split once, with the best weights, at the end of the run
    # Validation rows of every evaluation but the last, which judges the run alone; null: all rows.
    early_rows: Count | None
    # Columns of the data whose values are groups that are compared; one may stand alone.
    slices: Annotated[tuple[Text, ...], BeforeValidator(_listed)]
    # List of terms of identity that are swapped to see whether answers change: a YAML file, or
    # default; null: none are.
    counterfactual: Text | None

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives, also where there is one."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective
