"""Question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.config import DataConfig, QuestionAnsweringConfig
from pipeline.data import Rows
from pipeline.data.shapes import NO_ANSWER, QuestionAnswers, Shape
from pipeline.errors import DataError
from pipeline.evaluation.names import Direction, answer_metrics
from pipeline.tasks.base import Batch, Examples, Outputs, Task
from pipeline.tasks.parts.long_rows import kept_rows

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

_ROOM = 8  # tokens that a question must leave for its context
_NO_TOKEN = (-1, -1)  # the offsets of what is not of the context


@dataclass(frozen=True)
class Span:
    """A part of a context, and how well it answers."""

    start: int  # in characters
    end: int
    score: float  # logits of its first and of its last token, added


class QuestionAnswering(Task[QuestionAnsweringConfig]):
    """Cross-entropy over the first and the last token of the answer; scored on texts.

    Long contexts are read in windows that overlap; the best span of all of them is the answer. A
    window without the answer points at the first token, and so does a question without an answer
    (Devlin et al., 2019).
    """

    baseline_name = "random_span"
    encoding_refuses = True

    @classmethod
    def metrics(cls, config: QuestionAnsweringConfig) -> Mapping[str, Direction]:
        """Return the loss, exact match and F1 of the words of answers."""
        return {"loss": "minimize", **answer_metrics(config.language)}

    @classmethod
    @override
    def shape(cls, config: QuestionAnsweringConfig, data: DataConfig) -> Shape:
        """Return context, question and answers."""
        return QuestionAnswers(data)

    @property
    def auto_class(self) -> str:
        """A model with a new head that points at tokens."""
        return "AutoModelForQuestionAnswering"

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn questions and contexts into token ids, and first answers into token positions.

        A context makes as many examples as it has windows.

        Raises:
            DataError: for a question that leaves its context no room.
        """
        from datasets import Dataset

        tokenizer, windows = self.checkpoint.tokenizer, self.config.long_rows == "window"
        room = self._room(rows)
        questions, contexts = list(rows["question"]), list(rows["context"])
        encoded = tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=self.max_length,
            stride=min(self.config.stride, room // 2) if windows else 0,
            return_overflowing_tokens=windows,
            return_offsets_mapping=True,
        )
        row = encoded.pop("overflow_to_sample_mapping", list(range(len(rows))))
        sequences = [encoded.sequence_ids(i) for i in range(len(row))]
        offsets = [
            [tuple(span) if of == 1 else _NO_TOKEN for span, of in zip(spans, ids, strict=True)]
            for spans, ids in zip(encoded.pop("offset_mapping"), sequences, strict=True)
        ]
        names = ("input_ids", "attention_mask", "token_type_ids")
        columns = {name: encoded[name] for name in names if name in encoded}
        if "answers" in rows.columns:
            places = [
                _positions(rows["answers"][i], spans) for i, spans in zip(row, offsets, strict=True)
            ]
            columns["start_positions"] = [start for start, _ in places]
            columns["end_positions"] = [end for _, end in places]
        cut = [i for i, encoding in enumerate(encoded.encodings) if encoding.overflowing]
        longer = sorted({row[i] for i in cut})
        kept = kept_rows(
            rows,
            longer,
            lambda i: len(tokenizer(questions[i], contexts[i], verbose=False)["input_ids"]),
            self.config.long_rows,
            self.max_length,
            training=training,
        )
        dataset = Dataset.from_dict({**columns, "offsets": offsets, "row": row})
        if len(kept) < len(rows):
            dataset = dataset.select(kept)  # a row is an example where any are dropped
        return Examples(rows, dataset, len(longer), len(rows) - len(kept))

    def collate(self, examples: Any) -> Batch:
        """Make a batch of what the model reads; the offsets are for `decode`."""
        return super().collate(
            [{k: v for k, v in example.items() if k != "offsets"} for example in examples]
        )

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return logits of first and last tokens, both of shape [examples, tokens], and losses."""
        from torch.nn import functional

        names = ("input_ids", "attention_mask", "token_type_ids")
        found = model(**{name: batch[name] for name in names if name in batch})
        # Padding cannot be pointed at; finite, so that outputs that are not are found.
        padding = batch["attention_mask"] == 0
        starts = found.start_logits.float().masked_fill(padding, -1e4)
        ends = found.end_logits.float().masked_fill(padding, -1e4)
        outputs = {"start_logits": starts, "end_logits": ends}
        if "start_positions" not in batch:
            return outputs
        pairs = ((starts, batch["start_positions"]), (ends, batch["end_positions"]))
        losses = [functional.cross_entropy(x, place, reduction="none") for x, place in pairs]
        loss = (losses[0] + losses[1]) / 2
        return {**outputs, "loss": loss, "weight": loss.new_ones(len(loss))}

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the texts of the best spans against all answers of their questions."""
        return self._scores(self.decode(examples, outputs)["prediction"], examples.rows)

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score a random span of each context, as long as training's answers on average."""
        chance = random.Random(0)
        lengths = [len(a[0][0].split()) for a in train["answers"] if a]
        words = max(1, round(sum(lengths) / len(lengths)))
        return self._scores([_random_span(c, words, chance) for c in rows["context"]], rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's answer, empty where there is none, and its score in logits."""
        best: dict[int, Span] = {}
        nothing: dict[int, float] = {}
        arrays = zip(
            examples.row,
            examples.dataset["offsets"],
            outputs["start_logits"],
            outputs["end_logits"],
            strict=True,
        )
        for row, offsets, starts, ends in arrays:
            # A window without the answer says "nothing here": only the least sure of them counts.
            nothing[row] = min(nothing.get(row, float("inf")), float(starts[0] + ends[0]))
            span = self._best_span(offsets, starts, ends)
            if span is not None and (row not in best or span.score > best[row].score):
                best[row] = span
        texts, scores = [], []
        for row, context in enumerate(examples.rows["context"]):
            span = best.get(row)
            least = nothing[row] - self.config.no_answer_threshold
            if span is None or (self._may_be_none and least > span.score):
                texts.append("")
                scores.append(round(nothing[row], 4))
            else:
                texts.append(context[span.start : span.end])
                scores.append(round(span.score, 4))
        return {"prediction": texts, "score": scores}

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return all texts of answers."""
        return [text for answers in rows["answers"] for text, _ in answers]

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows, their answers as texts, with the predictions."""
        columns = super().predictions(examples, outputs)
        if "answers" in columns:
            columns["answers"] = [[text for text, _ in answers] for answers in columns["answers"]]
        return columns

    def _best_span(
        self,
        offsets: list[list[int]],
        starts: np.ndarray[Any, Any],
        ends: np.ndarray[Any, Any],
    ) -> Span | None:
        """Return the best span of a window: first before last, not too long, in the context."""
        inside = [i for i, (start, _) in enumerate(offsets) if start >= 0]
        count = self.config.n_best
        firsts = sorted(inside, key=lambda i: -starts[i])[:count]
        lasts = sorted(inside, key=lambda i: -ends[i])[:count]
        most = self.config.max_answer_tokens
        pairs = [(i, j) for i in firsts for j in lasts if i <= j < i + most]
        if not pairs:  # the best first and last tokens do not fit together: one token does
            pairs = [(i, i) for i in firsts]
        if not pairs:
            return None
        i, j = max(pairs, key=lambda pair: float(starts[pair[0]] + ends[pair[1]]))
        return Span(offsets[i][0], offsets[j][1], float(starts[i] + ends[j]))

    @cached_property
    def _may_be_none(self) -> bool:
        """Whether training had questions without an answer."""
        return NO_ANSWER in self.label_counts

    def _room(self, rows: Rows) -> int:
        """Return the tokens that are left for the context beside the longest question."""
        tokenizer = self.checkpoint.tokenizer
        questions = tokenizer(list(rows["question"]), add_special_tokens=False, verbose=False)
        lengths = [len(ids) for ids in questions["input_ids"]]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        around = tokenizer.num_special_tokens_to_add(pair=True)
        room: int = self.max_length - around - lengths[longest]
        if room < _ROOM:
            raise DataError(
                f"row {rows.ids[longest]}: its question has {lengths[longest]} tokens and leaves "
                f"{max(0, room)} of training.max_length={self.max_length} for its context; "
                f"expected at least {_ROOM}."
            )
        return room

    def _scores(self, predicted: list[str], rows: Rows) -> dict[str, float]:
        from pipeline.evaluation.answers import answer_scores

        references = [[text for text, _ in answers] for answers in rows["answers"]]
        return answer_scores(predicted, references, self.config.language)


def _positions(answers: Any, offsets: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the tokens of the first answer; the first token where the window does not hold it."""
    if not answers:
        return 0, 0
    text, start = answers[0]
    end = start + len(text)
    covered = [i for i, (a, b) in enumerate(offsets) if a >= 0 and a < end and b > start]
    if not covered or offsets[covered[0]][0] > start or offsets[covered[-1]][1] < end:
        return 0, 0
    return covered[0], covered[-1]


def _random_span(context: str, words: int, chance: random.Random) -> str:
    """Return so many words of a context, from a random one on."""
    found = list(re.finditer(r"\S+", context))
    first = chance.randrange(max(1, len(found) - words + 1))
    last = min(first + words, len(found)) - 1
    return context[found[first].start() : found[last].end()]


TASK = QuestionAnswering
