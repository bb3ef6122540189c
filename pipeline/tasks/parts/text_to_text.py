"""Summarization and translation: a text is written from another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from pipeline.config import DataConfig, SummarizationConfig, TranslationConfig
from pipeline.data import Rows
from pipeline.data.shapes import Shape, SourceTarget
from pipeline.errors import ConfigError
from pipeline.tasks.base import Examples, Outputs
from pipeline.tasks.parts.batches import IGNORED
from pipeline.tasks.parts.long_rows import kept_rows
from pipeline.tasks.parts.writing import WritingTask, start_tokens

T = TypeVar("T", bound=SummarizationConfig | TranslationConfig)


class TextToText(WritingTask[T]):
    """Encoder-decoders read the source; decoders read the source, the separator and the target."""

    @classmethod
    @override
    def shape(cls, config: T, data: DataConfig) -> Shape:
        """Return source and target."""
        return SourceTarget(data)

    def check(self) -> None:
        """Refuse a model that cannot write, and targets that leave a decoder no room for sources.

        Raises:
            ConfigError: for the latter.
            ModelError: for the former.
        """
        super().check()
        if self._source_room < 4:
            raise ConfigError(
                f"training.max_length={self.max_length}: source and target share the tokens of a "
                f"decoder, and task.max_target_length={self.config.max_target_length} leaves "
                f"{max(0, self._source_room)} for the source; expected at least 4."
            )

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn sources and targets into token ids; what is too long is cut at its end."""
        from datasets import Dataset

        sources = self._sources(rows["source"])
        room = self._source_room
        targets = self._targets(rows["target"]) if "target" in rows.columns else None
        longest = self.config.max_target_length
        longer = [
            i
            for i, source in enumerate(sources)
            if len(source) > room or (targets is not None and len(targets[i]) > longest)
        ]
        kept = kept_rows(
            rows,
            longer,
            lambda i: len(sources[i]) + (len(targets[i]) if targets is not None else 0),
            self.config.long_rows,
            self.max_length,
            training=training,
        )
        examples = [
            self._example(self._cut(sources[i]), targets[i][:longest] if targets else None)
            for i in kept
        ]
        columns = {name: [example[name] for example in examples] for name in examples[0]}
        dataset = Dataset.from_dict({**columns, "row": kept})
        return Examples(rows, dataset, len(longer), len(rows) - len(kept))

    @override
    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what the model wrote."""
        return {"prediction": self.texts(outputs)}

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return the targets."""
        return rows["target"]

    @property
    def _source_room(self) -> int:
        """Tokens of a source, with those around it."""
        if self.is_encoder_decoder:
            return self.max_length
        return self.max_length - self.config.max_target_length

    def _sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of whole sources, with those around them."""
        tokenizer = self.checkpoint.tokenizer
        whole = [self.config.prefix + text for text in texts]
        if self.is_encoder_decoder:
            ids: list[list[int]] = tokenizer(whole, verbose=False)["input_ids"]
            return ids
        parted = [text + self.config.separator for text in whole]
        found = tokenizer(parted, add_special_tokens=False, verbose=False)["input_ids"]
        return [start_tokens(self.checkpoint) + ids for ids in found]

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of whole targets with the token that ends them."""
        tokenizer, end = self.checkpoint.tokenizer, [self.end]
        if self.is_encoder_decoder:
            ids: list[list[int]] = tokenizer(text_target=list(texts), verbose=False)["input_ids"]
            return [target if target[-1:] == end else target + end for target in ids]
        found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [target + end for target in found]

    def _cut(self, source: list[int]) -> list[int]:
        """Cut a source at its end, but keep what stands after every source."""
        room = self._source_room
        if len(source) <= room:
            return source
        tail = self._tail
        return source[: room - len(tail)] + tail

    @property
    def _tail(self) -> list[int]:
        """The tokens after every source: the end for an encoder, the separator for a decoder."""
        if self.is_encoder_decoder:
            nothing: list[int] = self.checkpoint.tokenizer("")["input_ids"]
            return nothing[-1:]
        tokenizer, separator = self.checkpoint.tokenizer, self.config.separator
        tail: list[int] = tokenizer(separator, add_special_tokens=False)["input_ids"]
        return tail[: self._source_room // 2]

    def _example(self, source: list[int], target: list[int] | None) -> Mapping[str, list[int]]:
        if self.is_encoder_decoder:
            read = {"input_ids": source, "attention_mask": [1] * len(source)}
            return read if target is None else {**read, "labels": target}
        prompt = {"prompt_input_ids": source, "prompt_attention_mask": [1] * len(source)}
        if target is None:
            return {"input_ids": source, **prompt}
        whole = source + target
        return {
            "input_ids": whole,
            "attention_mask": [1] * len(whole),
            "labels": [IGNORED] * len(source) + target,
            **prompt,
        }
