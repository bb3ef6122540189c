"""Chat: the assistant's replies in conversations of any number of turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic.dataclasses import dataclass as checked

from pipeline.common.contract import Direction
from pipeline.config.types import STRICT
from pipeline.data import Rows
from pipeline.evaluation.names import reply_metrics
from pipeline.tasks.parts.conversing import (
    Chats,
    ConversationConfig,
    ConversationTask,
    last_replies,
)
from pipeline.tasks.parts.writing import TOKEN_METRICS


@checked(config=STRICT, frozen=True, kw_only=True)
class ChatConfig(ConversationConfig):
    """The assistant's replies in conversations, by a decoder."""

    name: Literal["chat"]


def frequent_reply(train: Rows) -> str:
    """Return the most frequent last reply."""
    counts = Counter(last_replies(train))
    return max(sorted(counts), key=lambda reply: counts[reply])


class Chat(ConversationTask[ChatConfig]):
    """The loss is on the assistant's tokens; the last reply of each conversation is written."""

    config_class = ChatConfig
    shape_class = Chats
    baseline_name = "frequent_reply"

    @classmethod
    def metrics(cls, config: ChatConfig) -> Mapping[str, Direction]:
        """Return the loss and token metrics, and those of generated replies if any."""
        return {**TOKEN_METRICS, **(reply_metrics(config.language) if config.generate else {})}

    def text_scores(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Return the metrics of replies."""
        from pipeline.evaluation.text import reply_scores

        return reply_scores(written, targets, self.config.language)

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score always answering with training's most frequent reply; nothing without replies."""
        if not self.config.generate:
            return {}
        return self.text_scores([frequent_reply(train)] * len(rows), last_replies(rows))


TASK = Chat
