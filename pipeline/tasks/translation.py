"""Translation: a text in another language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic.dataclasses import dataclass
from typing_extensions import override

from pipeline.common.contract import Direction
from pipeline.config.types import STRICT
from pipeline.data import Rows
from pipeline.evaluation.names import translation_metrics
from pipeline.tasks.base import Examples, Outputs
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

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score what the model wrote against the targets."""
        from pipeline.evaluation.text import translation_scores

        written, targets = self.texts(outputs), examples.rows["target"]
        scores = translation_scores(written, targets, self.config.language)
        return {**self.token_scores(outputs), **scores}

    @override
    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the sources as they are."""
        from pipeline.evaluation.text import translation_scores

        return translation_scores(rows["source"], rows["target"], self.config.language)


TASK = Translation
