"""Summarization: a text is shortened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic.dataclasses import dataclass
from typing_extensions import override

from pipeline.common.contract import Direction
from pipeline.common.languages import lead
from pipeline.config.types import STRICT
from pipeline.data import Rows
from pipeline.evaluation.names import summary_metrics
from pipeline.tasks.parts.text_to_text import TextToText, TextToTextConfig
from pipeline.tasks.parts.writing import TOKEN_METRICS


@dataclass(config=STRICT, frozen=True, kw_only=True)
class SummarizationConfig(TextToTextConfig):
    """Shortens a text."""

    name: Literal["summarization"]


class Summarization(TextToText[SummarizationConfig]):
    """ROUGE of generated summaries."""

    config_class = SummarizationConfig
    baseline_name = "lead3"

    @classmethod
    def metrics(cls, config: SummarizationConfig) -> Mapping[str, Direction]:
        """Return the loss and token metrics, and ROUGE in the summaries' language."""
        return {**TOKEN_METRICS, **summary_metrics(config.language)}

    def text_scores(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Return ROUGE."""
        from pipeline.evaluation.text import summary_scores

        return summary_scores(written, targets, self.config.language)

    @override
    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the first three sentences of each source."""
        leads = [lead(source, 3, self.config.language) for source in rows["source"]]
        return self.text_scores(leads, rows["target"])


TASK = Summarization
