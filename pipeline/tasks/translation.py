"""Translation: a text in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic.dataclasses import dataclass
from typing_extensions import override

from pipeline.common.contract import Direction
from pipeline.config.types import STRICT
from pipeline.data import Rows
from pipeline.evaluation.names import translation_metrics
from pipeline.tasks.parts.text_to_text import TextToText, TextToTextConfig
from pipeline.tasks.parts.writing import TOKEN_METRICS


@dataclass(config=STRICT, frozen=True, kw_only=True)
class TranslationConfig(TextToTextConfig):
    """Translates a text."""

    name: Literal["translation"]


class Translation(TextToText[TranslationConfig]):
    """BLEU, chrF and TER of generated translations, by sacrebleu."""

    config_class = TranslationConfig
    baseline_name = "copy_source"

    @classmethod
    def metrics(cls, config: TranslationConfig) -> Mapping[str, Direction]:
        """Return the loss and token metrics, and sacrebleu's metrics in the target language."""
        return {**TOKEN_METRICS, **translation_metrics(config.language)}

    def text_scores(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Return sacrebleu's metrics."""
        from pipeline.evaluation.text import translation_scores

        return translation_scores(written, targets, self.config.language)

    @override
    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the sources as they are."""
        return self.text_scores(rows["source"], rows["target"])


TASK = Translation
