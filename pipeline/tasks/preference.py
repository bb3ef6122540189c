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
_TOKENS = 1024  # whose whole vocabulary is compared at once
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
            chat = Chats(replace(self.columns, layout=AUTO), self.system)
            return chat.read(values, place, with_targets=False)
        asked, chosen, rejected = read_preference(values, layout, place)
        asked = self.begun(asked)
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
                f"{len(same)} of {len(pairs)} pairs have the same reply twice, as in row "
                f"{train.ids[same[0]]}: they train nothing"
            )
        if begun:
            odd.append(
                f"in {len(begun)} of {len(pairs)} pairs one reply is the beginning of the other, "
                f"as in row {train.ids[begun[0]]}: they may teach the length alone"
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
    per_token = frozenset({"kl", "reply_tokens"})
    sequences = 2
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

        Text that is too long is cut at its end. Training leaves out pairs of which no reply is
        left, or whose replies are the same; elsewhere they are not scored.

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
        compared = [i for i in kept if _teaches(*(side[i] for side in cut))]
        if not compared:
            raise DataError(
                f"row {rows.ids[0]}: no pair of its split has two different replies within "
                f"training.max_length={self.max_length} tokens; expected at least one."
            )
        notes: list[str] = []
        if len(compared) < len(kept):
            notes.append(
                f"{len(kept) - len(compared)} of {len(kept)} pairs do not have two different "
                f"replies within training.max_length={self.max_length} tokens, so they are not "
                f"{'trained' if training else 'scored'}"
            )
        kept = compared if training else kept
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
        notes += self.endless(columns["labels"]) if training else ()
        dataset = Dataset.from_dict({**columns, "row": kept})
        return Examples(rows, dataset, len(longer), len(rows) - len(kept), tuple(notes))

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return each pair's loss, log-probabilities, and how far they are from the reference's.

        In training the loss is that of the settings, else DPO's with a beta of 1, of the margin
        alone, so that trials with other settings can be compared.
        ``kl`` is that of the model from the reference, of the next token, in nats: the mean over
        the tokens of the chosen reply.
        """
        import torch
        from torch.nn import functional

        if f"{_OTHER}input_ids" not in batch:
            return super().forward(model, batch)
        ids, mask, labels = (
            _both(batch, name) for name in ("input_ids", "attention_mask", "labels")
        )
        is_drift = not model.training
        first, second = labels.chunk(2)  # padded alike, as the ids of both sides may not be
        own, logits = _read(model, ids, mask, labels, chosen=is_drift)
        # Of a pair without two different replies there is nothing to compare.
        weight = ((own.tokens > 0).all(dim=0) & (first != second).any(dim=1)).float()
        if model.training and self.config.loss == "simpo":
            return {"loss": weight * self._loss(own, own.logps), "weight": weight}
        with torch.no_grad(), self._reference(model) as frozen:
            held, before = _read(frozen, ids, mask, labels, chosen=is_drift)
        gained = own.logps - held.logps
        if model.training:
            return {"loss": weight * self._loss(own, gained), "weight": weight}
        margin = gained[0] - gained[1]
        return {
            "loss": -weight * functional.logsigmoid(margin),
            "weight": weight,
            "chosen_logps": own.logps[0],
            "rejected_logps": own.logps[1],
            "margin": margin,
            "kl": _divergence(logits, before, labels.chunk(2)[0]),
        }

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score pairs: ``accuracy`` is the share whose margin is above 0, a half of one at 0."""
        import numpy as np

        del examples
        compared = outputs["weight"] > 0
        if not compared.any():
            raise DataError(
                f"none of {len(compared)} scored pairs has two different replies within "
                f"training.max_length={self.max_length} tokens; expected at least one (see "
                "evaluation.early_rows)."
            )
        margins = outputs["margin"][compared].astype("float64")
        scores = {
            "accuracy": float((margins > 0).mean() + (margins == 0).mean() / 2),
            **{
                name: float(outputs[name][compared].mean(dtype="float64"))
                for name in ("margin", "chosen_logps", "rejected_logps", "kl")
            },
        }
        if "written" in outputs:
            scores["reply_tokens"] = float(np.mean((outputs["written"] != PADDING).sum(axis=1)))
        return scores

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd; also DPO's scale of rewards where SimPO's is larger."""
        found = super().warnings(rows)
        if self.config.loss == "simpo" and self.config.beta < 1:
            found.append(
                f"task.loss=simpo with task.beta={self.config.beta:g}: SimPO's authors take 2 to 10"
            )
        return found

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return nothing: no metric reads words."""
        del rows
        return ()

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
        try:
            with model.disable_adapter():
                yield model
        finally:
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
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
    *,
    chosen: bool,
) -> tuple[Sides, torch.Tensor]:
    """Return both sides; if asked for, also the logits of the chosen replies' tokens.

    Only the replies' positions are kept, since the vocabulary is what takes the memory.
    """
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    targets = labels[:, 1:]
    counted = targets != IGNORED
    some = logits[counted].float()  # [tokens, vocabulary]
    each = -cross_entropy(some, targets[counted], reduction="none")
    sums = each.new_zeros(len(ids)).index_add(0, counted.nonzero()[:, 0], each)
    first = int(counted.chunk(2)[0].sum()) if chosen else 0
    return Sides(sums.view(2, -1), counted.sum(dim=1).view(2, -1)), some[:first]


def _divergence(own: torch.Tensor, held: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of the next token over each reply, [examples].

    The logits of both are [tokens, vocabulary], of the tokens that are labelled.
    """
    import torch

    parts = zip(torch.split(own, _TOKENS), torch.split(held, _TOKENS), strict=True)
    each = torch.cat([_kl(*(of.log_softmax(dim=-1) for of in part)) for part in parts])
    counted = labels[:, 1:] != IGNORED
    sums = own.new_zeros(len(labels)).index_add(0, counted.nonzero()[:, 0], each)
    means: torch.Tensor = sums / counted.sum(dim=1).clamp(min=1)
    return means


def _kl(own: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    return (own.exp() * (own - held)).sum(dim=-1)


TASK = Preference
