"""What a hosted run found and what it paid: its metrics, and what is written of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.evaluation.score_table import FILE, score_table
from pipeline.evaluation.text import reply_scores
from pipeline.providers.answers import Answered
from pipeline.providers.money import price_of, usd
from pipeline.providers.plan import Plan
from pipeline.providers.tuning import Tuned
from pipeline.tasks.chat import Chat, frequent_reply
from pipeline.tasks.objective import logged_metrics
from pipeline.tasks.parts.conversing import last_replies
from pipeline.training.outcome import RUN_LOGGER

if TYPE_CHECKING:
    from pipeline.config.experiment import Experiment
    from pipeline.tracking import Record

log = logging.getLogger(RUN_LOGGER)

TRAIN_SECONDS, EVALUATE_SECONDS = "cost/train_seconds", "cost/evaluate_seconds"
ROWS_SECONDS, USD = "cost/seconds_per_1000_rows", "cost/usd"
JOB_FILE = "job.json"  # artifact: what the service told of the job, and the tokens that are paid


@dataclass(frozen=True)
class Findings:
    """A tuned model, and its replies to the splits that judge it."""

    planned: Plan
    tuned: Tuned
    judged: Mapping[str, Answered]  # by split, val and test, in this order

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All that is known, by full names; a cost that the service does not tell is left out."""
        return {
            **_named(self.scores),
            **_named({f"{self._last}/{Chat.baseline_name}": self.baseline}),
            **self._seconds,
            USD: usd(price_of(self.planned.config), **self.tokens),
        }

    @property
    def _seconds(self) -> dict[str, float]:
        rows = sum(len(one.rows) for one in self.judged.values())
        took = [one.seconds for one in self.judged.values() if one.seconds is not None]
        trained = self.tuned.job.seconds
        found = {} if trained is None else {TRAIN_SECONDS: trained}
        if len(took) == len(self.judged):
            found |= {EVALUATE_SECONDS: sum(took), ROWS_SECONDS: 1000 * sum(took) / rows}
        return found

    @property
    def withheld(self) -> int:
        """How many replies the service's filter kept back; they count as empty."""
        return sum(reply.is_withheld for one in self.judged.values() for reply in one.replies)

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """The chat task's metrics of each split."""
        return {split: self._scored(one, one.texts) for split, one in self.judged.items()}

    @cached_property
    def baseline(self) -> dict[str, float]:
        """The same of the most frequent reply, on the split that judges the run at the end."""
        one = self.judged[self._last]
        return self._scored(one, [frequent_reply(self.planned.splits.train)] * len(one.rows))

    @property
    def tokens(self) -> dict[str, int]:
        """The tokens that are paid; those of the training are forecast where it tells none."""
        replies = list(chain.from_iterable(one.replies for one in self.judged.values()))
        told = self.tuned.job.trained_tokens
        return {
            "trained": self.planned.cost.trained if told is None else told,
            "read": sum(reply.read for reply in replies),
            "written": sum(reply.written for reply in replies),
        }

    def log(self, record: Record, experiment: Experiment) -> None:
        """Write metrics, tables, replies and the job into the run's record."""
        record.metrics(logged_metrics(experiment, self.metrics), self.tuned.step)
        if self.withheld:
            log.warning("%d replies were withheld by the service and count as empty", self.withheld)
        for split, scores in self.scores.items():
            baseline = self.baseline if split == self._last else {}
            table = score_table(scores, baseline, Chat.baseline_name, {})
            record.table(table, FILE.format(split=split))
        record.table(self.judged[self._last].table, "predictions.json")
        digests = {split: one.digest for split, one in self.judged.items()}
        record.tag(predictions=json.dumps(digests))
        told = {
            "job": asdict(self.tuned.job),
            "files": dict(self.tuned.files),
            "tokens": self.tokens,
            "withheld": self.withheld,
            "events": [asdict(event) for event in self.tuned.events],
        }
        record.text(json.dumps(told, indent=1, ensure_ascii=False), JOB_FILE)

    @property
    def _last(self) -> str:
        return list(self.judged)[-1]

    def _scored(self, answered: Answered, texts: list[str]) -> dict[str, float]:
        return reply_scores(texts, last_replies(answered.rows), self.planned.task.language)


def _named(by_split: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{at}/{name}": value for at, of in by_split.items() for name, value in of.items()}
