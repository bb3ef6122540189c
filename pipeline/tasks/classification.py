"""Classification: one label, or several, for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipeline.common.errors import ModelError
from pipeline.config.types import STRICT, Text, Tokens, conflict
from pipeline.models.batches import reads_types
from pipeline.tasks.base import Examples, Task
from pipeline.tasks.parts.labels import LabelConfig, LabelTask
from pipeline.tasks.parts.long_rows import (
    Pair,
    Read,
    length_of,
    read_pairs,
    read_texts,
    read_windows,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline.data import Rows

_PAIR = Pair(
    ("text", "text_pair"),
    1,
    "its second text",
    "windows of the first",
    least=4,
    advice=", or task.long_rows=truncate, which cuts the longer one",
)


@dataclass(config=STRICT, frozen=True, kw_only=True)
class ClassificationConfig(LabelConfig):
    """One label, or several, for each text or pair of texts."""

    name: Literal["classification"]
    # head: a new layer over the model; generative: the probability of the label's name as the
    # model's next words after the prompt, of a decoder or encoder-decoder.
    approach: Literal["head", "generative"]
    prompt: Text  # for the generative approach; also {text_pair} and {labels}
    stride: Tokens  # tokens that neighbouring windows share

    @model_validator(mode="after")
    def _can_be_prompted(self) -> ClassificationConfig:
        if self.approach == "generative":
            if "{text}" not in self.prompt:
                raise conflict(
                    f"task.prompt={self.prompt!r}: expected a template with {{text}} in it"
                )
            if self.multi_label:
                raise conflict(
                    "task.multi_label=true: task.approach=generative answers with one label; "
                    "expected task.approach=head"
                )
        return self


class Classification(LabelTask[ClassificationConfig]):
    """The labels are those of a new head over the model."""

    config_class = ClassificationConfig
    auto_class = "AutoModelForSequenceClassification"  # with a new head

    @classmethod
    def variant(cls, config: ClassificationConfig) -> type[Task[ClassificationConfig]]:
        """Return the class of the approach: this one, or the generative one."""
        if config.approach == "generative":
            from pipeline.tasks.parts.generative import GenerativeClassification

            return GenerativeClassification
        return cls

    def check(self) -> None:
        """Refuse what any task of labels refuses, and a tokenizer that cannot make windows.

        Raises:
            ConfigError: for another number of class weights than of labels.
            ModelError: naming models that can; also for a tokenizer without windows.
        """
        super().check()
        if self._windows and not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"task.long_rows=window: the tokenizer of {self.checkpoint.name} is written in "
                "Python and makes no windows; expected truncate, drop or error."
            )

    @property
    def encoding_refuses(self) -> bool:
        """Windows of a first text need room next to the second."""
        return super().encoding_refuses or self._windows

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn texts into unpadded token ids, at most ``max_length``, and labels into positions.

        With ``task.long_rows=window`` a long text makes several examples; of a pair, the first text
        has windows, each read with the complete second. Special tokens spelled out in a text are
        plain characters.

        Raises:
            DataError: for long rows that are to be refused; in training also for a second text that
                leaves windows of the first no room (other splits cut it).
        """
        tokenizer = self.checkpoint.tokenizer
        texts = [list(rows[name]) for name in ("text", "text_pair") if name in rows.columns]
        read = self._read_windows(rows, training) if self._windows else self._read(texts)
        return self.examples(
            rows,
            read.columns,
            read.cut,
            lambda i: length_of(tokenizer, *(column[i] for column in texts)),
            training=training,
        )

    @property
    def _windows(self) -> bool:
        return self.config.long_rows == "window"

    def _read(self, texts: Sequence[list[str]]) -> Read:
        """Return one example per row; of a pair the longer text is cut."""
        tokenizer, read = self.checkpoint.tokenizer, texts
        if len(texts) > 1:
            read = [_capped(column, tokenizer, self.max_length) for column in texts]
        return read_texts(
            tokenizer,
            read,
            self.max_length,
            truncation=True,
            return_token_type_ids=len(texts) > 1 and reads_types(self.checkpoint),
        )

    def _read_windows(self, rows: Rows, training: bool) -> Read:
        """Return as many examples per row as its first text has windows."""
        stride = self.config.stride
        if "text_pair" in rows.columns:
            return read_pairs(self, rows, _PAIR, stride, training=training)
        return read_windows(self, list(rows["text"]), stride)


def _capped(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[str]:
    """Return texts of a pair, cut after so many tokens, more than an example can hold.

    Else a tokenizer would return every combination of the parts that it cuts off both.
    """
    if not tokenizer.is_fast:
        return texts
    encoded = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
    )
    pairs = zip(texts, encoded.encodings, strict=True)
    return [text[: of.offsets[-1][1]] if of.overflowing else text for text, of in pairs]


TASK = Classification
