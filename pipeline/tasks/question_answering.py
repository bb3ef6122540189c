"""Question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.config import DataConfig, QuestionAnsweringConfig
from pipeline.data import Rows
from pipeline.data.shapes import NO_ANSWER, Answers, QuestionAnswers, Shape
from pipeline.errors import DataError, ModelError
from pipeline.evaluation.names import Direction, answer_metrics
from pipeline.languages import suffix
from pipeline.tasks.base import Batch, Examples, Outputs, Task
from pipeline.tasks.parts.batches import MODEL_INPUTS, reads_types
from pipeline.tasks.parts.long_rows import kept_rows

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

_ROOM = 8  # tokens that a question must leave for its context
_LEFT_OUT = "CMZ"  # Unicode's categories of control characters, accents and blanks


@dataclass(frozen=True)
class Windows(Examples):
    """Parts of contexts, each with its question.

    ``offsets`` [tokens, 2] say which characters of its context a window's tokens are; -1 is what
    is not of the context.
    """

    offsets: Sequence[np.ndarray[Any, Any]] = ()


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

    def check(self) -> None:
        """Refuse a model that cannot point, or whose tokenizer forgets where tokens were.

        Raises:
            ModelError: for the one or the other.
        """
        super().check()
        if not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"model.checkpoint={self.checkpoint.name}: its tokenizer is written in Python and "
                "does not tell where in a text its tokens are; task=question_answering needs that."
            )

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
            return_token_type_ids=reads_types(self.checkpoint),
        )
        row = encoded.pop("overflow_to_sample_mapping", list(range(len(rows))))
        sequences = [encoded.sequence_ids(i) for i in range(len(row))]
        offsets = [
            _of_context(spans, of)
            for spans, of in zip(encoded.pop("offset_mapping"), sequences, strict=True)
        ]
        columns = {name: encoded[name] for name in MODEL_INPUTS if name in encoded}
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
        dataset = Dataset.from_dict({**columns, "row": row})
        if len(kept) < len(rows):  # a row is an example where any are dropped
            dataset, offsets = dataset.select(kept), [offsets[i] for i in kept]
        return Windows(rows, dataset, len(longer), len(rows) - len(kept), offsets)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return logits of first and last tokens, both of shape [examples, tokens], and losses."""
        from torch.nn import functional

        found = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch})
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
        # Where words are not parted by blanks, characters are what metrics count.
        word = r"\S" if suffix(self.config.language) else r"\S+"
        lengths = [len(re.findall(word, a[0][0])) for a in train["answers"] if a]
        words = max(1, round(fmean(lengths))) if lengths else 1
        return self._scores([_random_span(c, word, words, chance) for c in rows["context"]], rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's answer, empty where there is none, and its score in logits."""
        assert isinstance(examples, Windows)
        best: dict[int, Span] = {}
        nothing: dict[int, float] = {}
        arrays = zip(
            examples.row,
            examples.offsets,
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
                texts.append(_text(context, span))
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
        offsets: np.ndarray[Any, Any],
        starts: np.ndarray[Any, Any],
        ends: np.ndarray[Any, Any],
    ) -> Span | None:
        """Return the best span of a window: first before last, not too long, in the context."""
        import numpy as np

        inside = np.flatnonzero((offsets[:, 0] >= 0) & (offsets[:, 1] > offsets[:, 0]))
        if not len(inside):
            return None
        count = self.config.n_best
        firsts = inside[np.argsort(-starts[inside], kind="stable")[:count]]
        lasts = inside[np.argsort(-ends[inside], kind="stable")[:count]]
        apart = lasts[None, :] - firsts[:, None]  # [firsts, lasts]
        fit = (apart >= 0) & (apart < self.config.max_answer_tokens)
        if not fit.any():  # the best first and last tokens do not fit together: one token does
            lasts, fit = firsts, np.eye(len(firsts), dtype=bool)
        scores = np.where(fit, starts[firsts][:, None] + ends[lasts][None, :], -np.inf)
        i, j = np.unravel_index(scores.argmax(), scores.shape)
        first, last = offsets[firsts[i]], offsets[lasts[j]]
        return Span(int(first[0]), int(last[1]), float(scores[i, j]))

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


def _of_context(spans: Sequence[tuple[int, int]], of: Sequence[int | None]) -> np.ndarray[Any, Any]:
    """Return a window's offsets, -1 where the text that a token is ``of`` is not the context."""
    import numpy as np

    is_context = np.array([text == 1 for text in of])
    return np.where(is_context[:, None], np.array(spans, dtype=np.int32), np.int32(-1))


def _positions(answers: Answers, offsets: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Return the tokens of the first answer; the first token where the window does not hold it."""
    if not answers:
        return 0, 0
    text, start = answers[0]
    end = start + len(text)
    covered = ((offsets[:, 0] >= 0) & (offsets[:, 0] < end) & (offsets[:, 1] > start)).nonzero()[0]
    # At its ends an answer may have characters that a tokenizer leaves out.
    kept = [i for i, char in enumerate(text) if unicodedata.category(char)[0] not in _LEFT_OUT]
    if not len(covered) or not kept:
        return 0, 0
    first, last = int(covered[0]), int(covered[-1])
    if offsets[first, 0] > start + kept[0] or offsets[last, 1] <= start + kept[-1]:
        return 0, 0
    return first, last


def _text(context: str, span: Span) -> str:
    """Return a span's text; with the accents of its last letter, which tokenizers may leave out."""
    end = span.end
    while end < len(context) and unicodedata.category(context[end])[0] == "M":
        end += 1
    return context[span.start : end].strip()


def _random_span(context: str, word: str, words: int, chance: random.Random) -> str:
    """Return so many words of a context, from a random one on; ``word`` is what one matches."""
    found = list(re.finditer(word, context))
    first = chance.randrange(max(1, len(found) - words + 1))
    last = min(first + words, len(found)) - 1
    return context[found[first].start() : found[last].end()]


TASK = QuestionAnswering
