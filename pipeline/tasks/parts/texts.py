"""Tasks that read a text or two with a head over the model, and give each row one answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic.dataclasses import dataclass

from pipeline.common.errors import ModelError
from pipeline.config.task import AnyTaskConfig
from pipeline.config.types import STRICT, Tokens
from pipeline.models.batches import reads_types
from pipeline.tasks.base import Array, Examples, Task
from pipeline.tasks.parts.long_rows import (
    Pair,
    Read,
    chosen,
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
class TextConfig(AnyTaskConfig):
    """What tasks that read a text or two share."""

    stride: Tokens  # tokens that neighbouring windows share


T = TypeVar("T", bound=TextConfig)


class TextTask(Task[T]):
    """Reads a text or two; a long one is cut, or read in windows whose answers are averaged."""

    @abstractmethod
    def encoded(self, labels: Sequence[Any]) -> list[Any]:
        """Return what is learned of each row's target."""

    def check(self) -> None:
        """Refuse a model that cannot do the task, and a tokenizer that cannot make windows.

        Raises:
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
        """Turn texts into unpadded token ids, at most ``max_length``, and targets into numbers.

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

    def examples(
        self,
        rows: Rows,
        columns: Mapping[str, list[Any]],
        longer: Sequence[int],
        length_of: Callable[[int], int],
        *,
        training: bool,
    ) -> Examples:
        """Return examples of the rows that stay, with targets if the rows have them."""
        from datasets import Dataset

        kept = self.kept_rows(rows, longer, length_of, training=training)
        found = chosen(columns, kept)
        if "label" in rows.columns:
            targets = self.encoded(rows["label"])
            found["labels"] = [targets[i] for i in found["row"]]
        return Examples(rows, Dataset.from_dict(found), len(longer), len(rows) - len(kept))

    def by_row(self, examples: Examples, values: Array) -> Array:
        """Return an output of shape [rows, …]: of a row with windows the mean."""
        import numpy as np

        counts = np.bincount(examples.row, minlength=len(examples.rows))
        sums = np.zeros((len(examples.rows), *values.shape[1:]))
        np.add.at(sums, examples.row, values.astype("float64"))
        means: Array = sums / counts.reshape(-1, *(1 for _ in values.shape[1:]))
        return means


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
