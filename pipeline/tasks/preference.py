"""Preference tuning: of two replies to a conversation, the preferred one becomes more likely.

Rafailov et al., 2023: Direct preference optimization (DPO); Azar et al., 2024: A general
theoretical paradigm to understand learning from human preferences (IPO); Meng et al., 2024: SimPO.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass as checked
from typing_extensions import override

from pipeline.common.contract import Direction
from pipeline.common.errors import DataError, ModelError, did_you_mean, listing
from pipeline.config.types import STRICT, Number, Positive
from pipeline.data import Rows
from pipeline.data.conversations import Message
from pipeline.data.layouts import AUTO
from pipeline.data.preferences import PAIR_LAYOUTS, read_preference
from pipeline.data.rows import Row, Values
from pipeline.models.batches import IGNORED
from pipeline.tasks.base import PADDING, Batch, Examples, Outputs
from pipeline.tasks.parts.conversing import (
    Chats,
    ConversationConfig,
    ConversationTask,
    last_replies,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_OTHER = "rejected_"  # prefix of the columns of the rejected side
_HABIT, _MANY = 0.75, 20  # share of pairs, out of so many, whose sides differ alike


@checked(config=STRICT, frozen=True, kw_only=True)
class PreferenceConfig(ConversationConfig):
    """Of two replies to a conversation, the preferred one becomes more likely."""

    name: Literal["preference"]
    loss: Literal["dpo", "ipo", "simpo"]
    # How strongly the reference holds the model (DPO, IPO): larger stays closer to it. SimPO has no
    # reference: its scale of rewards.
    beta: Positive
    simpo_margin: Number  # by which the chosen reply's reward is to exceed the other's


@dataclass(frozen=True)
class Pairs(Chats):
    """Columns ``messages``, a conversation up to the chosen reply, and ``rejected``, the other."""

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return both sides; of what is to be answered the conversation."""
        layout = self.columns.layout
        if layout not in (AUTO, *PAIR_LAYOUTS):
            valid = [AUTO, *PAIR_LAYOUTS]
            raise DataError(
                f"data.layout={layout}: there is no such layout of preferences."
                f"{did_you_mean(layout, valid)} Valid: {listing(valid)}."
            )
        if not with_targets and not any(of.fits(values) for of in PAIR_LAYOUTS.values()):
            chat = replace(self, columns=replace(self.columns, layout=AUTO))
            return super(Pairs, chat).read(values, place, with_targets=False)
        asked, chosen, rejected = read_preference(values, layout, place)
        if not with_targets:
            return {"messages": asked}
        before = [message._replace(trained=False) for message in asked]
        return {"messages": (*before, Message("assistant", chosen)), "rejected": rejected}

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return each conversation with both replies."""
        pairs = zip(super().texts(rows), rows["rejected"], strict=True)
        return ["\n".join(pair) for pair in pairs]

    def check(self, train: Rows) -> list[str]:
        """Warn of pairs that teach nothing, or the length of replies alone."""
        pairs = list(zip(last_replies(train), train["rejected"], strict=True))
        same = [i for i, (a, b) in enumerate(pairs) if a == b]
        begun = [i for i, (a, b) in enumerate(pairs) if a != b and a[: len(b)] == b[: len(a)]]
        odd = []
        if same:
            odd.append(
                f"{len(same)} of {len(pairs)} pairs have twice the same reply, as row "
                f"{train.ids[same[0]]}: they train nothing"
            )
        if begun:
            odd.append(
                f"in {len(begun)} of {len(pairs)} pairs one reply is the beginning of the other, "
                f"as in row {train.ids[begun[0]]}: they teach a length"
            )
        for name, longer in (
            ("chosen", sum(len(a) > len(b) for a, b in pairs)),
            ("rejected", sum(len(b) > len(a) for a, b in pairs)),
        ):
            if len(pairs) >= _MANY and longer >= _HABIT * len(pairs):
                odd.append(
                    f"the {name} reply is the longer one in {longer / len(pairs):.0%} of the "
                    "pairs: a model may learn its length alone"
                )
        return odd


class Sides(NamedTuple):
    """Chosen and rejected replies of a batch, as one model reads them; each [2, examples]."""

    logps: torch.Tensor  # sum over the tokens of a reply
    tokens: torch.Tensor  # how many they are


class Preference(ConversationTask[PreferenceConfig]):
    """The reference is the model that training begins with: its adapter off, or a copy of it.

    Scores compare log-probabilities with the reference's, whatever loss is trained, in nats and
    without beta, so that trials with several can be compared.
    """

    config_class = PreferenceConfig
    shape_class = Pairs
    baseline_name = "reference"
    per_token = frozenset()
    after_encoding = ConversationTask.after_encoding | {"loss", "beta", "simpo_margin"}
    _frozen: PreTrainedModel | None = None

    @classmethod
    def metrics(cls, config: PreferenceConfig) -> Mapping[str, Direction]:
        """Return what is scored of pairs, and the length of replies if they are written."""
        names: dict[str, Direction] = {
            "loss": "minimize",
            "accuracy": "maximize",
            "margin": "maximize",
            "chosen_logps": "maximize",
            "rejected_logps": "minimize",
            "kl": "minimize",
        }
        return names | ({"reply_tokens": "minimize"} if config.generate else {})

    @override
    def begin(self, model: PreTrainedModel) -> None:
        """Keep a copy of the model that training begins with, unless its adapter can be off."""
        from pipeline.models.adapters import is_adapter

        if not is_adapter(model):
            self._frozen = copy.deepcopy(model).eval().requires_grad_(False)

    @override
    def to_answer(self, rows: Rows) -> Rows:
        """Return the conversations with the chosen reply, as those of a chat."""
        return Rows(rows.shape, rows.ids, {"messages": rows["messages"]})

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn both sides into token ids, with the reply's as targets.

        Text that is too long is cut at its end. Training leaves out pairs whose replies are cut off
        or are the same.

        Raises:
            DataError: if no pair is left, or if the template refuses a conversation.
        """
        if "rejected" not in rows.columns:
            return super().encode(rows, training=training)
        from datasets import Dataset

        other = [
            (*messages[:-1], Message("assistant", text))
            for messages, text in zip(rows["messages"], rows["rejected"], strict=True)
        ]
        sides = [self.tokens(rows), self.tokens(Rows(rows.shape, rows.ids, {"messages": other}))]
        lengths = [max(len(side[i][0]) for side in sides) for i in range(len(rows))]
        longer = [i for i, length in enumerate(lengths) if length > self.max_length]
        kept = self.kept_rows(rows, longer, lengths.__getitem__, training=training)
        cut = [
            [(ids[: self.max_length], labels[: self.max_length]) for ids, labels in side]
            for side in sides
        ]
        if training:
            kept = [i for i in kept if _teaches(*(side[i] for side in cut))]
            if not kept:
                raise DataError(
                    f"row {rows.ids[0]}: no pair has two different replies within "
                    f"training.max_length={self.max_length} tokens; expected at least one."
                )
        columns: dict[str, list[Any]] = {}
        for prefix, side in zip(("", _OTHER), cut, strict=True):
            columns |= {
                f"{prefix}input_ids": [side[i][0] for i in kept],
                f"{prefix}attention_mask": [[1] * len(side[i][0]) for i in kept],
                f"{prefix}labels": [side[i][1] for i in kept],
            }
        if self.config.generate and not training:
            prompts = self.prompts(rows)
            columns |= self.prompt_columns([prompts[i] for i in kept])
        notes = self.endless(columns["labels"]) if training else ()
        dataset = Dataset.from_dict({**columns, "row": kept})
        return Examples(rows, dataset, len(longer), len(rows) - len(kept), notes)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return each pair's loss, log-probabilities, and how far they are from the reference's.

        ``kl`` is that of the model from the reference, of the next token, in nats: the mean over
        the tokens of the chosen reply.
        """
        import torch

        if f"{_OTHER}input_ids" not in batch:
            return super().forward(model, batch)
        ids, mask, labels = (
            _both(batch, name) for name in ("input_ids", "attention_mask", "labels")
        )
        own, logits = _read(model, ids, mask, labels)
        with torch.no_grad(), self._reference(model) as frozen:
            held, before = _read(frozen, ids, mask, labels)
        gained = own.logps - held.logps
        loss = self._loss(own, gained)
        outputs = {"loss": loss, "weight": torch.ones_like(loss)}
        if model.training:
            return outputs
        return outputs | {
            "chosen_logps": own.logps[0],
            "rejected_logps": own.logps[1],
            "margin": gained[0] - gained[1],
            "kl": _divergence(logits, before, labels)[: len(loss)],
        }

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score pairs: ``accuracy`` is the share whose margin is above 0, a half of one at 0."""
        import numpy as np

        del examples
        margins = outputs["margin"].astype("float64")
        scores = {
            "accuracy": float((margins > 0).mean() + (margins == 0).mean() / 2),
            **{
                name: float(outputs[name].mean(dtype="float64"))
                for name in ("margin", "chosen_logps", "rejected_logps", "kl")
            },
        }
        if "written" in outputs:
            scores["reply_tokens"] = float(np.mean((outputs["written"] != PADDING).sum(axis=1)))
        return scores

    def text_scores(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Return nothing: there is no one right reply."""
        del written, targets
        return {}

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the reference, which differs from itself in nothing."""
        del train, rows
        return {"accuracy": 0.5, "margin": 0.0, "kl": 0.0}

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what the model wrote, if it did, and the margin of each pair."""
        columns = super().decode(examples, outputs)
        if "margin" in outputs:
            place = {row: i for i, row in enumerate(examples.row)}
            margins = outputs["margin"].astype("float64").round(4).tolist()
            columns["margin"] = [margins[place[row]] for row in range(len(examples.rows))]
        return columns

    def _loss(self, own: Sides, gained: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair; ``gained`` [2, examples] is over the reference."""
        from torch.nn.functional import logsigmoid

        beta = self.config.beta
        tokens = own.tokens.clamp(min=1)
        if self.config.loss == "ipo":  # of means over tokens, as its authors and TRL have it
            chosen, rejected = gained / tokens
            off: torch.Tensor = (chosen - rejected - 1 / (2 * beta)) ** 2
            return off
        if self.config.loss == "simpo":
            chosen, rejected = beta * own.logps / tokens
            return -logsigmoid(chosen - rejected - self.config.simpo_margin)
        return -logsigmoid(beta * (gained[0] - gained[1]))

    @contextmanager
    def _reference(self, model: PreTrainedModel) -> Iterator[PreTrainedModel]:
        """Yield the model that training began with, without dropout."""
        from pipeline.models.adapters import is_adapter

        if not is_adapter(model):
            yield self._held(model)
            return
        was_training = model.training
        model.eval()
        with model.disable_adapter():
            yield model
        model.train(was_training)

    def _held(self, model: PreTrainedModel) -> PreTrainedModel:
        if self._frozen is None:  # a model is judged that was not trained here
            if self.checkpoint.is_new:
                raise ModelError(
                    "task=preference: the model that training began with was new and random, and "
                    "is gone; expected one with weights of its own (model.checkpoint)."
                )
            self._frozen = self.load_model().eval().requires_grad_(False)
        if self._frozen.device != model.device:
            self._frozen = self._frozen.to(model.device)
        return self._frozen


def _teaches(chosen: tuple[list[int], list[int]], rejected: tuple[list[int], list[int]]) -> bool:
    """Whether a pair has two different replies, both of which are read."""
    are_read = all(any(i != IGNORED for i in labels) for _, labels in (chosen, rejected))
    return are_read and chosen[0] != rejected[0]


def _both(batch: Batch, name: str) -> torch.Tensor:
    """Return chosen sides, then rejected ones, padded to one width, [2 · examples, tokens]."""
    import torch
    from torch.nn.functional import pad

    sides = batch[name], batch[f"{_OTHER}{name}"]
    width = max(side.shape[1] for side in sides)
    fill = IGNORED if name == "labels" else 0  # of ids too: what is masked is not read
    return torch.cat([pad(side, (0, width - side.shape[1]), value=fill) for side in sides])


def _read(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> tuple[Sides, torch.Tensor]:
    """Return both sides, and the logits of their replies' tokens, [tokens, vocabulary]."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    targets = labels[:, 1:]
    counted = targets != IGNORED
    chosen = logits[counted].float()
    each = chosen.log_softmax(dim=-1).gather(1, targets[counted][:, None])[:, 0]
    sums = each.new_zeros(len(ids)).index_add(0, counted.nonzero()[:, 0], each)
    return Sides(sums.view(2, -1), counted.sum(dim=1).view(2, -1)), chosen


def _divergence(logits: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence over each side's tokens, [2 · examples]."""
    own, held = logits.log_softmax(dim=-1), before.log_softmax(dim=-1)
    each = (own.exp() * (own - held)).sum(dim=-1)  # [tokens]
    counted = labels[:, 1:] != IGNORED
    sums = each.new_zeros(len(labels)).index_add(0, counted.nonzero()[:, 0], each)
    means: torch.Tensor = sums / counted.sum(dim=1).clamp(min=1)
    return means


TASK = Preference
