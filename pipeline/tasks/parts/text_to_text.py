"""Summarization and translation: one text is generated from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Annotated, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from pipeline.common.errors import ConfigError, DataError
from pipeline.config.task import AnyColumns
from pipeline.config.types import MOST_TOKENS, STRICT, Text, Tokens
from pipeline.data import Rows
from pipeline.data.rows import Row, Values
from pipeline.data.shapes import Shape, text_of
from pipeline.models.batches import IGNORED, LEFT
from pipeline.tasks.base import Examples
from pipeline.tasks.parts.writing import WritingConfig, WritingTask, start_tokens


@checked(config=STRICT, frozen=True, kw_only=True)
class TextToTextConfig(WritingConfig):
    """One text is generated from another, by an encoder-decoder or a decoder."""

    prefix: str  # before the source; T5 was trained with "summarize: "
    # Between source and target, for decoders, which read both as one text.
    separator: str
    max_target_length: Annotated[Tokens, Field(ge=4)]  # tokens


@checked(config=STRICT, frozen=True, kw_only=True)
class TextToTextColumns(AnyColumns):
    """A text, and the text that is written from it."""

    input: Text
    target: Text


@dataclass(frozen=True)
class SourceTarget(Shape):
    """Columns ``source`` and ``target``: two texts."""

    columns: TextToTextColumns

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return both texts; neither may be empty."""
        row: Row = {"source": text_of(values, "data.input", self.columns.input, place)}
        if with_targets:
            row["target"] = text_of(values, "data.target", self.columns.target, place)
        return row

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep equal sources together."""
        return rows["source"]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The source."""
        return {self.columns.input: "source"}

    def check(self, train: Rows) -> list[str]:
        """Warn of sources that are their own targets."""
        pairs = zip(train["source"], train["target"], strict=True)
        same = sum(source.strip() == target.strip() for source, target in pairs)
        if same < len(train):
            return []
        return [
            f"all {same} training rows have a source equal to its target: the model learns to copy "
            f"(data.input={self.columns.input}, data.target={self.columns.target})"
        ]


T = TypeVar("T", bound=TextToTextConfig)


class TextToText(WritingTask[T]):
    """Encoder-decoders read the source; decoders read the source, the separator and the target."""

    columns_class = TextToTextColumns
    shape_class = SourceTarget
    after_encoding = WritingTask.after_encoding | {"generation"}

    @classmethod
    def uncut(cls, config: T) -> T:
        """Return settings that cut no target either."""
        return replace(super().uncut(config), max_target_length=MOST_TOKENS)

    def check(self) -> None:
        """Refuse a model that cannot generate, and targets that leave sources no room in a decoder.

        Raises:
            ConfigError: for such targets, or for more tokens than the model has positions.
            ModelError: for the model.
        """
        super().check()
        room, longest = self._source_room, self.config.max_target_length
        if room < 4:
            raise ConfigError(
                f"training.max_length={self.max_length}: a decoder reads source and target as one "
                f"text, and task.max_target_length={longest} leaves {max(0, room)} tokens for the "
                "source; expected at least 4: raise max_length or lower max_target_length."
            )
        if not self.is_encoder_decoder:
            self.check_positions(room)
        elif self.positions is not None and longest > self.positions:
            raise ConfigError(
                f"task.max_target_length={longest}: {self.checkpoint.name} writes at most "
                f"{self.positions} tokens."
            )

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn sources and targets into token ids; texts that are too long are cut at their ends.

        A target that is cut has no end token: the model must not learn to stop within a sentence.

        Raises:
            DataError: for the first long row if none is allowed, or if none is left.
        """
        from datasets import Dataset

        sources = self._sources(rows["source"])
        targets = self._targets(rows["target"]) if "target" in rows.columns else None
        room, longest = self._source_room, self.config.max_target_length
        long_targets = {i for i, ids in enumerate(targets or []) if len(ids) > longest}
        longer = {i for i, ids in enumerate(sources) if len(ids) > room} | long_targets
        policy = self.config.long_rows
        dropped = longer if policy == "drop" and training else set()
        if longer and (policy == "error" or len(dropped) == len(rows)):
            i = min(longer)
            target = f" and its target {len(targets[i])}" if targets is not None else ""
            raise DataError(
                f"row {rows.ids[i]}: its source has {len(sources[i])} tokens{target}, and "
                f"{len(longer)} of {len(rows)} rows of its split are too long; with "
                f"training.max_length={self.max_length} and task.max_target_length={longest} "
                f"expected at most {room} and {longest}, since task.long_rows={policy}."
            )
        kept = [i for i in range(len(rows)) if i not in dropped]
        read = [self._cut(sources[i]) for i in kept]
        written = None if targets is None else [targets[i][:longest] for i in kept]
        columns = self._columns(read, written, training=training)
        dataset = Dataset.from_dict({**columns, "row": kept})
        cut_targets = len(long_targets - dropped)
        note = (
            f"{cut_targets} of {len(rows)} targets are longer than "
            f"task.max_target_length={longest} and are cut"
        )
        notes = (note,) if cut_targets else ()
        return Examples(rows, dataset, len(longer), len(dropped), notes)

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return the targets."""
        return rows["target"]

    @property
    def _source_room(self) -> int:
        """Tokens of a source, with the special tokens around it."""
        if self.is_encoder_decoder:
            return self.max_length
        return self.max_length - self.config.max_target_length

    def _sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of complete sources, with special tokens."""
        tokenizer = self.checkpoint.tokenizer
        whole = [self.config.prefix + text for text in texts]
        if self.is_encoder_decoder:
            return list(tokenizer(whole, verbose=False)["input_ids"])
        parted = [text + self.config.separator for text in whole]
        found = tokenizer(parted, add_special_tokens=False, verbose=False)["input_ids"]
        return [start_tokens(self.checkpoint) + ids for ids in found]

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of complete targets, with the end token."""
        tokenizer, end = self.checkpoint.tokenizer, [self.end]
        if self.is_encoder_decoder:
            ids: list[list[int]] = tokenizer(text_target=list(texts), verbose=False)["input_ids"]
            # If a tokenizer writes the language last, the end token is before it.
            return [target if self.end in target[-2:] else target + end for target in ids]
        found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [target + end for target in found]

    def _cut(self, source: list[int]) -> list[int]:
        """Cut a source at its end, but keep the tokens that follow every source."""
        room = self._source_room
        if len(source) <= room:
            return source
        return source[: room - len(self._tail)] + self._tail

    @cached_property
    def _tail(self) -> list[int]:
        """The tokens after every source: the end for an encoder, the separator for a decoder."""
        tokenizer, separator = self.checkpoint.tokenizer, self.config.separator
        if self.is_encoder_decoder:
            nothing, something = tokenizer(["", "a"])["input_ids"]
            tail = common_end(nothing, something)
        else:
            tail = tokenizer(separator, add_special_tokens=False)["input_ids"]
        return tail[: self._source_room // 2]

    def _columns(
        self, sources: list[list[int]], targets: list[list[int]] | None, *, training: bool
    ) -> Mapping[str, list[list[int]]]:
        """Return what the model reads: a decoder reads source and target as one text."""
        if self.is_encoder_decoder:
            read = {"input_ids": sources, "attention_mask": _ones(sources)}
            return read if targets is None else {**read, "labels": targets}
        prompts = {f"{LEFT}input_ids": sources, f"{LEFT}attention_mask": _ones(sources)}
        if targets is None:
            return {"input_ids": sources, **prompts}
        both = list(zip(sources, targets, strict=True))
        whole = [source + target for source, target in both]
        return {
            "input_ids": whole,
            "attention_mask": _ones(whole),
            "labels": [[IGNORED] * len(source) + target for source, target in both],
            **({} if training else prompts),
        }


def _ones(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[1] * len(row) for row in rows]


def common_end(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Return the longest common suffix."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)][::-1]
