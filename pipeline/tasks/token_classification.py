"""Token classification: a tag for each word, and so the entities of a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass

from pipeline.common.contract import Direction
from pipeline.config.task import AnyTaskConfig
from pipeline.config.types import STRICT, Tokens
from pipeline.data import Rows
from pipeline.models.batches import IGNORED
from pipeline.tasks.base import Array, Batch, Examples, Outputs, Task
from pipeline.tasks.parts.heads import named_head, replaced_head
from pipeline.tasks.parts.long_rows import chosen, length_of, read_windows
from pipeline.tasks.parts.tagged import Tagged, TaggedColumns, Words, of_text, of_words
from pipeline.tasks.parts.tags import (
    OUTSIDE,
    Entity,
    SchemeName,
    entities_in,
    vocabulary,
    written,
)
from pipeline.tasks.parts.windows import Windows, take_offsets

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.data.shapes import Shape

_KINDS = ("f1", "precision", "recall")


@dataclass(config=STRICT, frozen=True, kw_only=True)
class TokenClassificationConfig(AnyTaskConfig):
    """A tag for each word."""

    name: Literal["token_classification"]
    scheme: SchemeName  # of the tags in files, and of those that the model answers with
    stride: Tokens  # tokens that neighbouring windows share


class Answered(NamedTuple):
    """What is answered of a row."""

    tags: Sequence[str]  # of each word; of one that is not read, outside
    entities: Sequence[Entity]  # of the text
    strict: Sequence[Entity]  # those of them whose tags are well-formed
    scores: Sequence[float]  # of each entity: the mean probability of its words' tags


class _Token(NamedTuple):
    """A token that words begin at: the first and the last of them, and what is answered."""

    first: int
    last: int
    tag: str
    probability: float


class TokenClassification(Task[TokenClassificationConfig]):
    """Cross-entropy over the tags of words; scored on entities.

    A word's tag is that of its first token; the others are not learned (Devlin et al., 2019). A
    long text is read in windows, and each word in the one where most is read around it.
    """

    config_class = TokenClassificationConfig
    columns_class = TaggedColumns
    shape_class = Tagged
    baseline_name = "most_frequent_tag"
    auto_class = "AutoModelForTokenClassification"
    needs_offsets = True

    @classmethod
    def metrics(cls, config: TokenClassificationConfig) -> Mapping[str, Direction]:
        """Return loss, accuracy of tags, and F1, precision and recall of entities."""
        names: dict[str, Direction] = {"loss": "minimize", "accuracy": "maximize"}
        # Of the entities whose tags are well-formed; any tags are with a type alone.
        ends = ["_micro", "_macro", "/", *(["_strict"] if config.scheme != "plain" else [])]
        return names | dict.fromkeys((kind + end for kind in _KINDS for end in ends), "maximize")

    @classmethod
    def shape(cls, config: TokenClassificationConfig, columns: TaggedColumns) -> Shape:
        """Return words with tags, or a text with entities."""
        return Tagged(columns, config.scheme)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags in the order of the model's outputs."""
        return vocabulary(self.labels, self.config.scheme)

    @property
    def head(self) -> Mapping[str, Any]:
        """A head whose outputs are the tags."""
        return named_head(self.tags)

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd; also a trained head that is replaced."""
        return [*super().warnings(rows), *replaced_head(self.checkpoint, self.tags)]

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn texts into token ids, at most ``max_length``, and tags into positions.

        With ``task.long_rows=window`` a long text makes several examples. The tag of a word stands
        at its first token, in one window. Special tokens spelled out in a text are plain
        characters.

        Raises:
            DataError: for long rows that are to be refused.
        """
        from datasets import Dataset

        texts = list(rows["text"])
        stride = self.config.stride if self.config.long_rows == "window" else None
        read = read_windows(self, texts, stride, return_offsets_mapping=True)
        columns = read.columns
        columns["places"] = _places(rows["words"], columns["row"], take_offsets(read, text=0))
        kept = self.kept_rows(
            rows,
            read.cut,
            lambda i: length_of(self.checkpoint.tokenizer, texts[i]),
            training=training,
        )
        found = chosen(columns, kept)
        places = found.pop("places")
        if "entities" in rows.columns:
            found["labels"] = self._targets(rows, found, places)
        dropped = len(rows) - len(kept)
        return Windows(rows, Dataset.from_dict(found), len(read.cut), dropped, places=places)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return tag and probability of each token, [examples, tokens], and losses by example.

        The weight of an example is the number of words that are learned in it.
        """
        from torch.nn import functional

        inputs = {name: value for name, value in batch.items() if name not in ("labels", "row")}
        logits = model(**inputs).logits.float()  # [examples, tokens, tags]
        probability, tag = logits.softmax(dim=-1).max(dim=-1)
        outputs = {"tag": tag, "probability": probability}
        if "labels" not in batch:
            return outputs
        losses = functional.cross_entropy(
            logits.transpose(1, 2), batch["labels"], ignore_index=IGNORED, reduction="none"
        )
        counted = (batch["labels"] != IGNORED).sum(dim=1).float()
        return {**outputs, "loss": losses.sum(dim=1), "weight": counted}

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the entities that the tags tell, all and the well-formed, and the tags."""
        return self._scores(self._answered(examples, outputs), examples.rows)

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score giving each word its most frequent tag in training; to new words, the usual one."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        every = zip(train["text"], train["words"], self._tagged(train), strict=True)
        for text, words, tags in every:
            for (start, end), tag in zip(words, tags, strict=True):
                counts[text[start:end]][tag] += 1
        usual = {word: _first(of) for word, of in counts.items()}
        other = _first(sum(counts.values(), Counter()))
        answered = []
        for text, words in zip(rows["text"], rows["words"], strict=True):
            tags = [usual.get(text[a:b], other) for a, b in words]
            answered.append(
                self._answer([_Token(i, i, tag, 1.0) for i, tag in enumerate(tags)], words)
            )
        return self._scores(answered, rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's entities, by their characters in the text."""
        answered, texts = self._answered(examples, outputs), examples.rows["text"]
        columns: dict[str, list[Any]] = {
            "prediction": [
                [
                    {**_shown(one, text), "score": round(score, 4)}
                    for one, score in zip(of.entities, of.scores, strict=True)
                ]
                for of, text in zip(answered, texts, strict=True)
            ]
        }
        if "entities" in examples.rows.columns:
            pairs = zip(answered, examples.rows["entities"], strict=True)
            columns["correct"] = [set(of.entities) == set(true) for of, true in pairs]
        return columns

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows, their entities as those that are predicted, and the predictions."""
        columns = super().predictions(examples, outputs)
        del columns["words"]
        if "entities" in columns:
            pairs = zip(columns["entities"], columns["text"], strict=True)
            columns["entities"] = [[_shown(one, text) for one in of] for of, text in pairs]
        return columns

    def counts(self, examples: Examples, outputs: Outputs) -> dict[str, dict[str, int]]:
        """Return how many entities of each type there are, and how many are predicted."""
        answered = self._answered(examples, outputs)
        true = Counter(one.label for of in examples.rows["entities"] for one in of)
        found = Counter(one.label for of in answered for one in of.entities)
        return {
            label: {"entities": true[label], "predicted": found[label]} for label in self.labels
        }

    def _tagged(self, rows: Rows) -> list[list[str]]:
        """Return the tags of each row's words."""
        return [
            written(of_words(entities, words), len(words), self.config.scheme)
            for entities, words in zip(rows["entities"], rows["words"], strict=True)
        ]

    def _targets(
        self, rows: Rows, columns: Mapping[str, Sequence[Any]], places: Sequence[Array]
    ) -> list[list[int]]:
        """Return the tag at the first token of each word, else what the loss ignores."""
        position, tags = {tag: i for i, tag in enumerate(self.tags)}, self._tagged(rows)
        targets = [[IGNORED] * len(ids) for ids in columns["input_ids"]]
        for target, row, place in zip(targets, columns["row"], places, strict=True):
            for word, token in reversed(place.T.tolist()):  # the first word of a token counts
                target[token] = position[tags[row][word]]
        return targets

    def _answered(self, examples: Examples, outputs: Outputs) -> list[Answered]:
        """Return what is answered of each row."""
        assert isinstance(examples, Windows)
        every = examples.rows["words"]
        tokens: list[list[_Token]] = [[] for _ in every]
        parts = zip(
            examples.row, examples.places, outputs["tag"], outputs["probability"], strict=True
        )
        for row, places, tags, probabilities in parts:
            # A tokenizer may make one token of several words.
            for token, pairs in groupby(places.T.tolist(), key=itemgetter(1)):
                words = [word for word, _ in pairs]
                tag, probability = self.tags[int(tags[token])], float(probabilities[token])
                tokens[row].append(_Token(words[0], words[-1], tag, probability))
        return [self._answer(sorted(of), words) for of, words in zip(tokens, every, strict=True)]

    def _answer(self, tokens: Sequence[_Token], words: Words) -> Answered:
        tags = [OUTSIDE] * len(words)
        for first, last, tag, _ in tokens:
            tags[first : last + 1] = [tag] * (last + 1 - first)
        spans = tuple((words[first][0], words[last][1]) for first, last, *_ in tokens)
        told = [of.tag for of in tokens]
        found, strict = (
            entities_in(told, self.config.scheme, strict=only) for only in (False, True)
        )
        scores = [fmean(of.probability for of in tokens[a:b]) for a, b, _ in found]
        return Answered(tags, of_text(found, spans), of_text(strict, spans), scores)

    def _scores(self, answered: Sequence[Answered], rows: Rows) -> dict[str, float]:
        """Score answers to rows by all metrics but the loss."""
        from pipeline.evaluation.entities import entity_scores

        true = rows["entities"]
        pairs = [
            one == other
            for of, tags in zip(answered, self._tagged(rows), strict=True)
            for one, other in zip(of.tags, tags, strict=True)
        ]
        scores = entity_scores([of.entities for of in answered], true, self.labels)
        if self.config.scheme != "plain":
            strict = entity_scores([of.strict for of in answered], true, self.labels)
            scores |= {f"{kind}_strict": strict[f"{kind}_micro"] for kind in _KINDS}
        return {"accuracy": fmean(pairs), **scores}


def _first(counts: Counter[str]) -> str:
    """Return the most frequent one; of equally many the first by name."""
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _shown(entity: Entity, text: str) -> dict[str, Any]:
    start, end, label = entity
    return {"text": text[start:end], "start": start, "end": end, "label": label}


def _places(every: Sequence[Words], row: Sequence[int], offsets: Sequence[Array]) -> list[Array]:
    """Return which words each example reads, and at which of its tokens each begins, [2, words].

    A word that several windows of its row read is that one's where it is farthest from an end.
    """
    import numpy as np

    best: dict[tuple[int, int], tuple[int, int, int]] = {}  # distance, example and token
    for example, (i, spans) in enumerate(zip(row, offsets, strict=True)):
        inside = np.flatnonzero(spans[1] > spans[0])
        starts, ends = spans[:, inside]
        words = np.array(every[i], np.int32).reshape(-1, 2)
        # The first token that ends after the word begins, if it begins before the word ends.
        at = np.searchsorted(ends, words[:, 0], side="right")
        begins = np.append(starts, np.iinfo(np.int32).max)[at]
        for word in np.flatnonzero(begins < words[:, 1]).tolist():
            token = int(at[word])
            distance = min(token, len(inside) - 1 - token)
            if distance > best.get((i, word), (-1,))[0]:
                best[i, word] = distance, example, int(inside[token])
    found: list[list[tuple[int, int]]] = [[] for _ in row]
    for (_, word), (_, example, token) in sorted(best.items()):
        found[example].append((word, token))
    return [np.array(of, np.int32).reshape(-1, 2).T for of in found]


TASK = TokenClassification
