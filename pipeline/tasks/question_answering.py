"""Question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass as checked

from pipeline.common.contract import Direction
from pipeline.common.errors import DataError
from pipeline.common.languages import suffix
from pipeline.config.task import AnyTaskConfig
from pipeline.config.types import STRICT, Few, Number, Tokens
from pipeline.data import Rows
from pipeline.evaluation.names import answer_metrics
from pipeline.models.batches import MODEL_INPUTS
from pipeline.tasks.base import Array, Batch, Examples, Outputs, Task
from pipeline.tasks.parts.long_rows import Pair, Read, chosen, length_of, read_pairs
from pipeline.tasks.parts.squad import NO_ANSWER, AnswerColumns, Answers, QuestionAnswers
from pipeline.tasks.parts.windows import Windows, take_offsets

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_PAIR = Pair(("question", "context"), 0, "its question", "its context", least=8)
_LISTED = 5  # most answers listed by a prediction
_LEFT_OUT = "CMZ"  # Unicode's categories of control characters, accents and blanks


@checked(config=STRICT, frozen=True, kw_only=True)
class QuestionAnsweringConfig(AnyTaskConfig):
    """The answer to a question is a span of its context, or there is none."""

    name: Literal["question_answering"]
    stride: Tokens  # tokens of the context that neighbouring windows share
    n_best: Few  # candidate starts and ends of spans
    max_answer_tokens: Tokens
    # How much better than the best span "no answer" must score to be given, in logits.
    no_answer_threshold: Number


@dataclass(frozen=True)
class Span:
    """A span of a context, and its score as an answer."""

    text: str
    score: float  # sum of the logits of its first and last token


class QuestionAnswering(Task[QuestionAnsweringConfig]):
    """Cross-entropy over the first and the last token of the answer; scored on texts.

    Long contexts are read in overlapping windows; the best span of all windows is the answer. A
    window without the answer points at the first token, as does a question without an answer
    (Devlin et al., 2019).
    """

    config_class = QuestionAnsweringConfig
    columns_class = AnswerColumns
    shape_class = QuestionAnswers
    baseline_name = "random_span"
    after_encoding = Task.after_encoding | {"n_best", "max_answer_tokens", "no_answer_threshold"}
    auto_class = "AutoModelForQuestionAnswering"  # a new head for first and last tokens
    needs_offsets = True
    encoding_refuses = True

    @classmethod
    def metrics(cls, config: QuestionAnsweringConfig) -> Mapping[str, Direction]:
        """Return the loss, exact match and F1 of the words of answers."""
        return {"loss": "minimize", **answer_metrics(config.language)}

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn questions and contexts into token ids, and first answers into token positions.

        A context makes as many examples as it has windows. Training leaves out rows whose answer no
        window contains completely: they would teach that there is none. A question that leaves its
        context no room is cut, but not in training. Special tokens spelled out in a text are plain
        characters.

        Raises:
            DataError: for a training question that leaves its context no room, for long rows that
                are to be refused, or if no row with an answer is left.
        """
        from datasets import Dataset

        read = self._read(rows, training=training)
        columns, lost = read.columns, set[int]()
        if "answers" in rows.columns:
            columns |= _targets(rows["answers"], columns)
            lost = _lost(rows["answers"], columns) if training else lost
        within = self.kept_rows(
            rows,
            read.cut,
            lambda i: length_of(self.checkpoint.tokenizer, rows["question"][i], rows["context"][i]),
            training=training,
        )
        kept = [i for i in within if i not in lost]
        found = chosen(columns, kept)
        offsets, notes = found.pop("offsets"), self._notes(rows, within, kept)
        dropped = len(rows) - len(kept)
        return Windows(rows, Dataset.from_dict(found), len(read.cut), dropped, notes, offsets)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return logits of first and last tokens, both of shape [examples, tokens], and losses."""
        from torch.nn import functional

        found = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch})
        # Padding cannot be an answer; finite, so that truly infinite outputs are detected.
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
        # If words are not separated by spaces, metrics count characters.
        word = r"\S" if suffix(self.config.language) else r"\S+"
        lengths = [len(re.findall(word, a[0][0])) for a in train["answers"] if a]
        words = max(1, round(fmean(lengths))) if lengths else 1
        return self._scores([_random_span(c, word, words, chance) for c in rows["context"]], rows)

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return each row's answer, empty if there is none, and its score in logits.

        ``n_best`` lists the best spans with distinct texts, whether or not one is the answer.
        """
        assert isinstance(examples, Windows)
        spans, nothing = self._candidates(examples, outputs)
        answers = [self._answer(*both) for both in zip(spans, nothing, strict=True)]
        return {
            "prediction": [answer.text for answer in answers],
            "score": [round(answer.score, 4) for answer in answers],
            "n_best": [
                [{"text": span.text, "score": round(span.score, 4)} for span in of] for of in spans
            ],
        }

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return all texts of answers."""
        return [text for answers in rows["answers"] for text, _ in answers]

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows, with their answers as texts and the predictions."""
        columns = super().predictions(examples, outputs)
        if "answers" in columns:
            columns["answers"] = [[text for text, _ in answers] for answers in columns["answers"]]
        return columns

    def _candidates(
        self, examples: Windows, outputs: Outputs
    ) -> tuple[list[list[Span]], list[float]]:
        """Return each row's best spans over all of its windows, and the score of "no answer"."""
        contexts = examples.rows["context"]
        spans: list[list[Span]] = [[] for _ in contexts]
        nothing = [float("inf")] * len(contexts)
        logits = zip(outputs["start_logits"], outputs["end_logits"], strict=True)
        for i, offsets, (starts, ends) in zip(examples.row, examples.places, logits, strict=True):
            # A window without the answer predicts "no answer": only the least certain one counts.
            nothing[i] = min(nothing[i], float(starts[0] + ends[0]))
            spans[i] += self._spans(contexts[i], offsets, starts, ends)
        ordered = [sorted(of, key=lambda span: -span.score) for of in spans]
        return [self._best(of) for of in ordered], nothing

    def _spans(self, context: str, offsets: Array, starts: Array, ends: Array) -> list[Span]:
        """Return the best spans of a window: first before last, not too long, in the context."""
        import numpy as np

        inside = np.flatnonzero((offsets[0] >= 0) & (offsets[1] > offsets[0]))
        count = self.config.n_best
        firsts = inside[np.argsort(-starts[inside], kind="stable")[:count]]
        lasts = inside[np.argsort(-ends[inside], kind="stable")[:count]]
        apart = lasts[None, :] - firsts[:, None]  # [firsts, lasts]
        fit = (apart >= 0) & (apart < self.config.max_answer_tokens)
        if not fit.any():  # no candidate pair is a valid span: take a single token
            lasts, fit = firsts, np.eye(len(firsts), dtype=bool)
        i, j = np.nonzero(fit)
        scores = starts[firsts[i]] + ends[lasts[j]]
        order = np.argsort(-scores, kind="stable")
        parts = zip(offsets[0, firsts[i]][order], offsets[1, lasts[j]][order], strict=True)
        spans = zip((_text(context, *part) for part in parts), scores[order], strict=True)
        return self._best(Span(text, float(score)) for text, score in spans)

    def _best(self, spans: Iterable[Span]) -> list[Span]:
        """Return the first span of each non-empty text, as many as are listed."""
        found: dict[str, Span] = {}
        for span in spans:
            if span.text:
                found.setdefault(span.text, span)
            if len(found) == min(_LISTED, self.config.n_best):
                break
        return list(found.values())

    def _answer(self, spans: Sequence[Span], nothing: float) -> Span:
        """Return the best span, or "no answer" if that scores higher or there is no span."""
        least = nothing - self.config.no_answer_threshold
        may_be_none = NO_ANSWER in self.targets.counts  # training had such questions
        if not spans or (may_be_none and least > spans[0].score):
            return Span("", nothing)
        return spans[0]

    def _read(self, rows: Rows, *, training: bool) -> Read:
        """Return windows of the contexts with their questions, or the contexts' beginnings."""
        stride = self.config.stride if self.config.long_rows == "window" else None
        read = read_pairs(self, rows, _PAIR, stride, training=training, return_offsets_mapping=True)
        read.columns["offsets"] = take_offsets(read, text=1)
        return read

    def _notes(self, rows: Rows, within: Sequence[int], kept: Sequence[int]) -> tuple[str, ...]:
        """Report how many rows lost their answers; refuse rows if none with an answer is left."""
        lost = len(within) - len(kept)
        if not lost:
            return ()
        found = (
            f"{lost} of {len(rows)} rows have an answer that is cut off, or longer than what two "
            f"windows share, with training.max_length={self.max_length}, "
            f"task.stride={self.config.stride} and task.long_rows={self.config.long_rows}"
        )
        if not any(rows["answers"][i] for i in kept):
            raise DataError(f"{found}; expected at least one row whose answer can be learned.")
        return (f"{found}: they are left out of training",)

    def _scores(self, predicted: list[str], rows: Rows) -> dict[str, float]:
        from pipeline.evaluation.answers import answer_scores

        references = [[text for text, _ in answers] for answers in rows["answers"]]
        return answer_scores(predicted, references, self.config.language)


def _targets(
    answers: Sequence[Answers], columns: Mapping[str, Sequence[Any]]
) -> dict[str, list[int]]:
    """Return where each window has the first answer of its row."""
    pairs = zip(columns["row"], columns["offsets"], strict=True)
    places = [_positions(answers[i], offsets) for i, offsets in pairs]
    return {"start_positions": [a for a, _ in places], "end_positions": [b for _, b in places]}


def _lost(answers: Sequence[Answers], columns: Mapping[str, Sequence[Any]]) -> set[int]:
    """Return the positions of the rows whose answer no window contains completely."""
    pairs = zip(columns["row"], columns["start_positions"], strict=True)
    whole = {i for i, start in pairs if start > 0}
    return {i for i, of in enumerate(answers) if of} - whole


def _positions(answers: Answers, offsets: Array) -> tuple[int, int]:
    """Return the tokens of the first answer; the first token if the window does not contain it."""
    if not answers:
        return 0, 0
    text, start = answers[0]
    end = start + len(text)
    covered = ((offsets[0] >= 0) & (offsets[0] < end) & (offsets[1] > start)).nonzero()[0]
    # At its ends an answer may have characters that a tokenizer skips.
    kept = [i for i, char in enumerate(text) if unicodedata.category(char)[0] not in _LEFT_OUT]
    if not len(covered) or not kept:
        return 0, 0
    first, last = int(covered[0]), int(covered[-1])
    if offsets[0, first] > start + kept[0] or offsets[1, last] <= start + kept[-1]:
        return 0, 0
    return first, last


def _text(context: str, start: int, end: int) -> str:
    """Return a part of it, with the accents of its last letter, which tokenizers may skip."""
    while end < len(context) and unicodedata.category(context[end])[0] == "M":
        end += 1
    return context[start:end].strip()


def _random_span(context: str, word: str, words: int, chance: random.Random) -> str:
    """Return so many words of a context, from a random one on; ``word`` matches one."""
    found = list(re.finditer(word, context))
    first = chance.randrange(max(1, len(found) - words + 1))
    last = min(first + words, len(found)) - 1
    return context[found[first].start() : found[last].end()]


TASK = QuestionAnswering
