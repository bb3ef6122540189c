"""Token classification: a tag for each word, and so the entities of a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass as checked

from pipeline.common.contract import Direction
from pipeline.config.task import AnyTaskConfig
from pipeline.config.types import STRICT, Tokens
from pipeline.data import Rows
from pipeline.models.batches import IGNORED, inputs_of
from pipeline.tasks.base import Array, Batch, Examples, Outputs, Task
from pipeline.tasks.parts.heads import head_warnings, named_head
from pipeline.tasks.parts.long_rows import chosen, length_of, read_windows
from pipeline.tasks.parts.tagged import Tagged, TaggedColumns, Words, to_characters, to_words
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


@checked(config=STRICT, frozen=True, kw_only=True)
class TokenClassificationConfig(AnyTaskConfig):
    """A tag for each word."""

    name: Literal["token_classification"]
    scheme: SchemeName  # of the tags in files; the model answers iob1 as bio
    stride: Tokens  # tokens that neighbouring windows share


class Unit(NamedTuple):
    """Words that begin at one token, usually one; a word that is not read is one of its own."""

    first: int
    last: int
    place: tuple[int, int] | None  # example and token


@dataclass(frozen=True)
class Reading:
    """A row as it is read: what is learned, answered and scored of it are tags of its units."""

    units: Sequence[Unit]
    spans: Words  # the characters of each unit

    @classmethod
    def of(cls, words: Words, places: Mapping[int, tuple[int, int]]) -> Reading:
        """Return the units of words, of which some have a place."""
        units: list[Unit] = []
        for word in range(len(words)):
            place = places.get(word)
            if units and place is not None and units[-1].place == place:
                units[-1] = Unit(units[-1].first, word, place)
            else:
                units.append(Unit(word, word, place))
        return cls(units, tuple((words[of.first][0], words[of.last][1]) for of in units))


class Answer(NamedTuple):
    """The tags of a row's units, and how probable each is."""

    tags: Sequence[str]
    probabilities: Sequence[float]


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
        # Of the entities whose tags are well-formed, as they always are where tags are types.
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
        return [*super().warnings(rows), *head_warnings(self, self.tags)]

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn texts into token ids, at most ``max_length``, and tags into positions.

        With ``task.long_rows=window`` a long text makes several examples. The tag of a word stands
        at its first token, in one window; training leaves out windows without any. Special tokens
        spelled out in a text are plain characters.

        Raises:
            DataError: for long rows that are to be refused.
        """
        from datasets import Dataset

        texts = list(rows["text"])
        stride = self.config.stride if self.config.long_rows == "window" else None
        read = read_windows(self, texts, stride, return_offsets_mapping=True)
        columns = read.columns
        columns["places"] = _places(rows["words"], columns["row"], take_offsets(read, text=0))
        within = self.kept_rows(
            rows,
            read.cut,
            lambda i: length_of(self.checkpoint.tokenizer, texts[i]),
            training=training,
        )
        found = chosen(columns, within)
        if training:
            some = [j for j, places in enumerate(found["places"]) if places.size]
            found = {name: [values[j] for j in some] for name, values in found.items()}
        places = found.pop("places")
        notes: tuple[str, ...] = ()
        if "entities" in rows.columns:
            readings = _readings(rows, found["row"], places)
            found["labels"] = self._targets(rows, readings, found["input_ids"])
            notes = _unreachable(rows, readings, within)
        dropped = len(rows) - len(set(found["row"]))
        return Windows(rows, Dataset.from_dict(found), len(read.cut), dropped, notes, places)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return tag and probability of each token, [examples, tokens], and losses by example.

        The weight of an example is the number of tags that are learned in it.
        """
        from torch.nn import functional

        logits = model(**inputs_of(batch)).logits.float()  # [examples, tokens, tags]
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
        return self._scores(*self._answered(examples, outputs), examples.rows)

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score giving each word its most frequent tag in training; to new words, the usual one."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        readings = [Reading.of(words, {}) for words in train["words"]]
        for text, of, tags in zip(
            train["text"], readings, self._tagged(train, readings), strict=True
        ):
            for (start, end), tag in zip(of.spans, tags, strict=True):
                counts[text[start:end]][tag] += 1
        usual = {word: _most_frequent(of) for word, of in counts.items()}
        other = _most_frequent(sum(counts.values(), Counter()))
        judged = [
            Reading.of(words, {word: (0, word) for word in range(len(words))})
            for words in rows["words"]
        ]
        answers = []
        for text, of in zip(rows["text"], judged, strict=True):
            tags = [usual.get(text[a:b], other) for a, b in of.spans]
            answers.append(Answer(tags, [1.0] * len(tags)))
        return self._scores(judged, answers, rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's entities, by their characters in the text."""
        texts, every = examples.rows["text"], zip(*self._answered(examples, outputs), strict=True)
        found = [self._entities(*both) for both in every]
        columns: dict[str, list[Any]] = {
            "prediction": [
                [{**_shown(one, text), "score": round(score, 4)} for one, score in of]
                for of, text in zip(found, texts, strict=True)
            ]
        }
        if "entities" in examples.rows.columns:
            pairs = zip(found, examples.rows["entities"], strict=True)
            columns["correct"] = [{one for one, _ in of} == set(true) for of, true in pairs]
        return columns

    def example(self, prediction: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a prediction with an entity in it, whether or not this one has any."""
        some = {**_shown(Entity(0, 1, self.labels[0]), "?"), "score": 1.0}
        return {**prediction, "prediction": prediction["prediction"] or [some]}

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
        every = zip(*self._answered(examples, outputs), strict=True)
        found = Counter(one.label for both in every for one, _ in self._entities(*both))
        true = Counter(one.label for of in examples.rows["entities"] for one in of)
        return {
            label: {"entities": true[label], "predicted": found[label]} for label in self.labels
        }

    def _tagged(self, rows: Rows, readings: Sequence[Reading]) -> list[list[str]]:
        """Return the true tags of each row's units."""
        return [
            written(to_words(entities, of.spans), len(of.spans), self.config.scheme)
            for entities, of in zip(rows["entities"], readings, strict=True)
        ]

    def _targets(
        self, rows: Rows, readings: Sequence[Reading], ids: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Return the tag at the first token of each unit, else what the loss ignores."""
        position = {tag: i for i, tag in enumerate(self.tags)}
        targets = [[IGNORED] * len(of) for of in ids]
        for of, tags in zip(readings, self._tagged(rows, readings), strict=True):
            for unit, tag in zip(of.units, tags, strict=True):
                if unit.place is not None:
                    example, token = unit.place
                    targets[example][token] = position[tag]
        return targets

    def _answered(
        self, examples: Examples, outputs: Outputs
    ) -> tuple[Sequence[Reading], Sequence[Answer]]:
        """Return how each row is read, and what is answered; of what is not read, outside."""
        assert isinstance(examples, Windows)
        readings = _readings(examples.rows, examples.row, examples.places)
        answers = []
        for of in readings:
            places = [unit.place for unit in of.units]
            tags = [self.tags[int(outputs["tag"][at])] if at else OUTSIDE for at in places]
            shares = [float(outputs["probability"][at]) if at else 1.0 for at in places]
            answers.append(Answer(tags, shares))
        return readings, answers

    def _entities(
        self, reading: Reading, answer: Answer, *, strict: bool = False
    ) -> list[tuple[Entity, float]]:
        """Return the entities of a row by characters, and the mean probability of their tags."""
        # What is not read, such as a word of blanks, does not interrupt an entity.
        read = [i for i, unit in enumerate(reading.units) if unit.place is not None]
        found = entities_in([answer.tags[i] for i in read], self.config.scheme, strict=strict)
        shares = [fmean(answer.probabilities[i] for i in read[a:b]) for a, b, _ in found]
        placed = to_characters(found, tuple(reading.spans[i] for i in read))
        return list(zip(placed, shares, strict=True))

    def _scores(
        self, readings: Sequence[Reading], answers: Sequence[Answer], rows: Rows
    ) -> dict[str, float]:
        """Score answers to rows by all metrics but the loss."""
        from pipeline.evaluation.entities import entity_scores

        def found(*, strict: bool) -> list[list[Entity]]:
            both = zip(readings, answers, strict=True)
            return [[one for one, _ in self._entities(*of, strict=strict)] for of in both]

        pairs = [
            one == other
            for answer, tags in zip(answers, self._tagged(rows, readings), strict=True)
            for one, other in zip(answer.tags, tags, strict=True)
        ]
        scores = entity_scores(found(strict=False), rows["entities"], self.labels)
        if self.config.scheme != "plain":
            strict = entity_scores(found(strict=True), rows["entities"], self.labels)
            scores |= {f"{kind}_strict": strict[f"{kind}_micro"] for kind in _KINDS}
        return {"accuracy": fmean(pairs), **scores}


def _most_frequent(counts: Counter[str]) -> str:
    """Return the most frequent tag; of equally many the first by name."""
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _shown(entity: Entity, text: str) -> dict[str, Any]:
    start, end, label = entity
    return {"text": text[start:end], "start": start, "end": end, "label": label}


def _readings(rows: Rows, row: Sequence[int], places: Sequence[Array]) -> list[Reading]:
    """Return how each row is read, by the rows of examples and their places."""
    found: list[dict[int, tuple[int, int]]] = [{} for _ in rows.ids]
    for example, (i, of) in enumerate(zip(row, places, strict=True)):
        found[i] |= {word: (example, token) for word, token in of.T.tolist()}
    return [Reading.of(*both) for both in zip(rows["words"], found, strict=True)]


def _unreachable(
    rows: Rows, readings: Sequence[Reading], positions: Sequence[int]
) -> tuple[str, ...]:
    """Report the entities of rows that no tags can tell, since words or tokens have more."""
    every = [(i, one) for i in positions for one in rows["entities"][i]]
    within = [
        (i, one)
        for i, one in every
        if one.start not in {a for a, _ in readings[i].spans}
        or one.end not in {b for _, b in readings[i].spans}
    ]
    if not within:
        return ()
    i, (start, end, _) = within[0]
    return (
        f"{len(within)} of {len(every)} entities begin or end within a word or a token, as "
        f"{rows['text'][i][start:end]!r} in row {rows.ids[i]}: they cannot be answered, and count "
        "as missed",
    )


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
