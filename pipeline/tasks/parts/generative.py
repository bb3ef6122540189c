"""Classification by a language model: how likely is each label's name as its next words?

The names make a tree of tokens. At each branching the model's probabilities are normalised over the
branches, so the probability of a name is the product of its branches' and all names add up to 1. If
all names differ in their first token, as is usual, the prompt's end is enough; names with a common
beginning cost one more sequence for each further branching, in the same forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, ModelError
from pipeline.data import Rows
from pipeline.data.shapes import Shape
from pipeline.tasks.base import Batch, Examples
from pipeline.tasks.parts.labelled import LabelColumns
from pipeline.tasks.parts.labels import LabelTask
from pipeline.tasks.parts.long_rows import unforged_ids
from pipeline.tasks.parts.writing import decoder_start, end_token_id, start_tokens

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.tasks.classification import ClassificationConfig

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Branching:
    """A place where names branch."""

    prefix: Tokens  # the tokens they share before it
    branches: Tokens  # the next token of each branch
    branch_of: tuple[int, ...]  # of each name, its branch here; -1: its path does not pass


def branchings(names: Sequence[Tokens]) -> list[Branching]:
    """Return where names branch; none may be a prefix of another one."""
    prefixes = sorted({name[:i] for name in names for i in range(len(name))})
    found = []
    for prefix in prefixes:
        size = len(prefix)
        by = [name[size] if name[:size] == prefix else None for name in names]
        branches = tuple(sorted({token for token in by if token is not None}))
        if len(branches) > 1:
            branch_of = tuple(-1 if token is None else branches.index(token) for token in by)
            found.append(Branching(prefix, branches, branch_of))
    return found


class GenerativeClassification(LabelTask["ClassificationConfig"]):
    """Scores the label names as the next words of a decoder, or as what an encoder-decoder writes.

    Loss, metrics and predictions are as with a head, so both can be compared in one study.
    """

    reads_once = False
    answers_untrained = True

    @classmethod
    def shape(cls, config: ClassificationConfig, columns: LabelColumns) -> Shape:
        """Return text, second text and label.

        Raises:
            ConfigError: if the prompt leaves out the second text, or there is none.
        """
        if ("{text_pair}" in config.prompt) != (columns.text_pair is not None):
            found = "without {text_pair}" if columns.text_pair else "with {text_pair}"
            raise ConfigError(
                f"task.prompt={config.prompt!r}: {found}, and data.text_pair="
                f"{columns.text_pair or 'null'}; expected both or neither."
            )
        return super().shape(config, columns)

    @property
    def auto_class(self) -> str:
        """A language model."""
        return "AutoModelForSeq2SeqLM" if self._has_encoder else "AutoModelForCausalLM"

    def check(self) -> None:
        """Refuse a model that cannot generate, and a prompt that leaves its text no room.

        Raises:
            ConfigError: for the prompt, or windows.
            ModelError: for the model, or names that its tokenizer cannot tell apart.
        """
        if self.config.long_rows == "window":
            raise ConfigError(
                "task.long_rows=window: task.approach=generative reads one prompt a row; expected "
                "truncate, drop or error."
            )
        super().check()
        if len(set(self._names)) < len(self._names):
            raise ModelError(
                f"model.checkpoint={self.checkpoint.name}: its tokenizer encodes two of the "
                f"labels {', '.join(self.labels)} identically; expected "
                "task.approach=head, or other labels."
            )
        if self._room < 4:
            raise ConfigError(
                f"training.max_length={self.max_length}: task.prompt and the longest label leave "
                f"{max(0, self._room)} tokens for a text; expected at least 4."
            )

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn prompts into token ids, and labels into positions.

        A text that is too long is cut at its end, not what the prompt says after it. Special tokens
        spelled out in a text are plain characters, unless the prompt itself has special tokens.
        """
        pairs = rows.columns.get("text_pair", [""] * len(rows))
        filled = [self._fill(*texts) for texts in zip(rows["text"], pairs, strict=True)]
        most = self.max_length - self._longest_name
        lengths = [len(ids) for ids in self._encoded(filled)]
        longer = [i for i, length in enumerate(lengths) if length > most]
        for i in longer:  # the pair stays complete if it can
            filled[i] = self._fill(self._shorter(rows["text"][i], lengths[i] - most), pairs[i])
        ids = [sequence[-most:] for sequence in self._encoded(filled)]
        columns: dict[str, list[Any]] = {
            "input_ids": ids,
            "attention_mask": [[1] * len(sequence) for sequence in ids],
            "row": list(range(len(rows))),
        }
        return self.examples(
            rows, columns, longer, lambda i: lengths[i] + self._longest_name, training=training
        )

    @property
    def head(self) -> Mapping[str, Any]:
        """No head but the language model's own."""
        return {}

    def logits(self, model: PreTrainedModel, inputs: Batch) -> torch.Tensor:
        """Return each label's log probability, [examples, labels]."""
        import torch

        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        read = self._written if self._has_encoder else self._continued
        scores = torch.zeros(len(ids), len(self.labels), device=ids.device)
        for branching, logits in read(model, ids, mask):  # [examples, vocabulary]
            branches = torch.tensor(branching.branches, device=ids.device)
            shares = logits[:, branches].float().log_softmax(dim=-1)
            by = torch.tensor(branching.branch_of, device=ids.device)
            scores = scores + shares[:, by.clamp(min=0)] * (by >= 0)
        return scores

    def _continued(
        self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor
    ) -> list[tuple[Branching, torch.Tensor]]:
        """Continue the prompts with a decoder; sequences end together, at the right."""
        import torch

        most = max(len(path) for path in self._paths)
        pairs = [_followed(ids, mask, path, most) for path in self._paths]
        whole, masks = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
        # Not of a wrapper: an adapter takes any argument, mixed precision hides all names.
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = signature(type(plain).forward).parameters
        options: dict[str, object] = {}
        if "position_ids" in accepted:
            options["position_ids"] = (masks.cumsum(dim=1) - 1).clamp(min=0)
        if "logits_to_keep" in accepted:
            options["logits_to_keep"] = most + 1
        logits = model(input_ids=whole, attention_mask=masks, use_cache=False, **options).logits
        parts = logits.reshape(len(self._paths), len(ids), *logits.shape[1:])
        return [(b, parts[j][:, len(b.prefix) - len(self._paths[j]) - 1]) for b, j in self._where]

    def _written(
        self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor
    ) -> list[tuple[Branching, torch.Tensor]]:
        """Continue the start token with an encoder-decoder."""
        import torch

        start, most = decoder_start(model), max(len(path) for path in self._paths)
        pad = self.checkpoint.tokenizer.pad_token_id
        begun = torch.tensor(
            [[start, *path, *[pad] * (most - len(path))] for path in self._paths], device=ids.device
        )
        count = len(self._paths)
        logits = model(
            input_ids=ids.repeat(count, 1),
            attention_mask=mask.repeat(count, 1),
            decoder_input_ids=begun.repeat_interleave(len(ids), dim=0),
            use_cache=False,
        ).logits
        parts = logits.reshape(count, len(ids), *logits.shape[1:])
        return [(b, parts[j][:, len(b.prefix)]) for b, j in self._where]

    @property
    def _has_encoder(self) -> bool:
        return bool(self.checkpoint.config.is_encoder_decoder)

    @cached_property
    def _names(self) -> list[Tokens]:
        """The label names as the model would write them, each with an end token."""
        tokenizer, end = self.checkpoint.tokenizer, end_token_id(self.checkpoint)
        if self._has_encoder:  # BART's begin with a special token
            ids = tokenizer(text_target=list(self.labels))["input_ids"]
        else:
            blank = "" if self.config.prompt[-1:].isspace() else " "
            labels = [blank + label for label in self.labels]
            ids = tokenizer(labels, add_special_tokens=False)["input_ids"]
        return [tuple(name) if name[-1:] == [end] else (*name, end) for name in ids]

    @cached_property
    def _branchings(self) -> list[Branching]:
        return branchings(self._names)

    @cached_property
    def _paths(self) -> list[Tokens]:
        """The fewest prefixes to read that pass all branchings."""
        prefixes = [branching.prefix for branching in self._branchings]
        return [p for p in prefixes if not any(q != p and q[: len(p)] == p for q in prefixes)]

    @cached_property
    def _where(self) -> list[tuple[Branching, int]]:
        """Each branching with the position of a path that passes it."""
        return [
            (b, next(j for j, path in enumerate(self._paths) if path[: len(b.prefix)] == b.prefix))
            for b in self._branchings
        ]

    @cached_property
    def _longest_name(self) -> int:
        return 0 if self._has_encoder else max(map(len, self._names))

    @property
    def _room(self) -> int:
        """Tokens left for a text."""
        return self.max_length - self._longest_name - len(self._encoded([self._fill("", "")])[0])

    def _shorter(self, text: str, excess: int) -> str:
        """Return the beginning of a text, without so many of its tokens, but at least one."""
        tokenizer = self.checkpoint.tokenizer
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=self._is_plain,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,
        )
        left = max(1, len(encoded["input_ids"]) - excess)
        if not tokenizer.is_fast:
            return str(tokenizer.decode(encoded["input_ids"][:left]))
        return text[: max((end for _, end in encoded["offset_mapping"][:left]), default=0)]

    def _fill(self, text: str, text_pair: str) -> str:
        return _replace(
            self.config.prompt,
            {"{text}": text, "{text_pair}": text_pair, "{labels}": ", ".join(self.labels)},
        )

    def _encoded(self, prompts: Sequence[str]) -> list[list[int]]:
        tokenizer = self.checkpoint.tokenizer
        encoded = tokenizer(
            list(prompts),
            add_special_tokens=self._has_encoder,
            split_special_tokens=self._is_plain,
            verbose=False,
        )
        ids = unforged_ids(tokenizer, encoded) if self._is_plain else encoded["input_ids"]
        return ids if self._has_encoder else [start_tokens(self.checkpoint) + one for one in ids]

    @cached_property
    def _is_plain(self) -> bool:
        """Whether the prompt has no special token: else they are recognized in texts, too."""
        special = self.checkpoint.tokenizer.all_special_tokens
        return not any(token in self.config.prompt for token in special)


def _followed(
    ids: torch.Tensor, mask: torch.Tensor, path: Tokens, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prompts followed by a path, ``most`` columns wider, at the right end; and their mask.

    What a model reads for the prompts' ids [examples, tokens]: padding comes first.
    """
    import torch

    tail = torch.tensor(path, dtype=ids.dtype, device=ids.device).expand(len(ids), -1)
    pad = ids.new_zeros(len(ids), most - len(path))
    order = mask.argsort(dim=1, stable=True)  # padding, then the tokens in their order
    moved = torch.cat([pad, ids.gather(1, order), tail], dim=1)
    return moved, torch.cat([pad, mask.gather(1, order), torch.ones_like(tail)], dim=1)


def _replace(template: str, values: Mapping[str, str]) -> str:
    """Fill a template in one pass, so that braces in a text are not filled."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], template)
