"""Chat: the assistant's replies in conversations of any number of turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.config import ChatConfig, DataConfig
from pipeline.data import Rows
from pipeline.data.shapes import Chats, Shape
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.evaluation.names import Direction, reply_metrics
from pipeline.tasks.base import Batch, Examples, Outputs
from pipeline.tasks.parts.batches import IGNORED
from pipeline.tasks.parts.long_rows import kept_rows
from pipeline.tasks.parts.writing import TOKEN_METRICS, WritingTask

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.data.conversations import Conversation, Message


class Chat(WritingTask[ChatConfig]):
    """The loss is on the assistant's tokens; the last reply of each conversation is written."""

    baseline_name = "frequent_reply"
    encoding_refuses = True

    @classmethod
    def metrics(cls, config: ChatConfig) -> Mapping[str, Direction]:
        """Return the loss and figures of single tokens, and those of written replies if any."""
        return {**TOKEN_METRICS, **(reply_metrics(config.language) if config.generate else {})}

    @classmethod
    @override
    def shape(cls, config: ChatConfig, data: DataConfig) -> Shape:
        """Return conversations."""
        return Chats(data)

    def check(self) -> None:
        """Refuse a model that cannot write, reads with an encoder, or has no chat template.

        Raises:
            ConfigError: for a file of `task.chat_template` that is not there.
            ModelError: for a model that cannot hold a conversation.
        """
        super().check()
        if self.is_encoder_decoder:
            raise ModelError(
                f"task=chat: model.checkpoint={self.checkpoint.name} is an encoder-decoder; "
                "expected a decoder, such as model=smollm-instruct, qwen or llama."
            )
        if self._template is None:
            raise ModelError(
                f"task=chat: the tokenizer of model.checkpoint={self.checkpoint.name} has no chat "
                "template; expected a model with one (model=smollm-instruct, qwen), or "
                "task.chat_template=FILE with one in Jinja."
            )

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn conversations into token ids, with the assistant's as targets.

        What is too long is cut at its end. Training leaves out conversations without a token to
        learn from, and counts them.

        Raises:
            DataError: where none is left.
        """
        from datasets import Dataset

        found = [self._tokens(messages) for messages in rows["messages"]]
        longer = [i for i, (ids, _) in enumerate(found) if len(ids) > self.max_length]
        kept = kept_rows(
            rows,
            longer,
            lambda i: len(found[i][0]),
            self.config.long_rows,
            self.max_length,
            training=training,
        )
        cut = [(ids[: self.max_length], labels[: self.max_length]) for ids, labels in found]
        if training:
            kept = [i for i in kept if any(label != IGNORED for label in cut[i][1])]
            if not kept:
                raise DataError(
                    f"row {rows.ids[0]}: no token of a reply to learn from, as on all {len(rows)} "
                    f"training rows; expected replies within training.max_length={self.max_length}."
                )
        prompts = [self._prompt(messages)[-self.max_length :] for messages in rows["messages"]]
        columns = {
            "input_ids": [cut[i][0] for i in kept],
            "attention_mask": [[1] * len(cut[i][0]) for i in kept],
            "labels": [cut[i][1] for i in kept],
            "prompt_input_ids": [prompts[i] for i in kept],
            "prompt_attention_mask": [[1] * len(prompts[i]) for i in kept],
            "row": kept,
        }
        return Examples(rows, Dataset.from_dict(columns), len(longer), len(rows) - len(kept))

    def generate(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Write each conversation's last reply."""
        return super().generate(model, batch) if self.config.generate else {}

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the tokens, and the written replies against the conversations' last ones."""
        scores = self.token_scores(outputs)
        if not self.config.generate:
            return scores
        from pipeline.evaluation.text import reply_scores

        references = _replies(examples.rows)
        return {**scores, **reply_scores(self.texts(outputs), references, self.config.language)}

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the reply that is training's most frequent one, always."""
        from pipeline.evaluation.text import reply_scores

        counts = Counter(_replies(train))
        frequent = max(sorted(counts), key=lambda reply: counts[reply])
        return reply_scores([frequent] * len(rows), _replies(rows), self.config.language)

    @override
    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the replies that the model wrote."""
        if not self.config.generate:
            return {}
        return {"prediction": self.texts(outputs)}

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return the last replies."""
        return _replies(rows)

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the conversations as lists of role and content, with the written replies."""
        columns = super().predictions(examples, outputs)
        columns["messages"] = [_plain(messages) for messages in columns["messages"]]
        return columns

    @cached_property
    def _template(self) -> str | None:
        path = self.config.chat_template
        if path is None:
            template: str | None = self.checkpoint.tokenizer.chat_template
            return template
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"task.chat_template={path}: cannot be read: {error}; expected a file with a Jinja "
                "template."
            ) from error

    def _text(self, messages: Sequence[Message], *, to_answer: bool = False) -> str:
        """Render messages by the template; with ``to_answer`` a reply is begun.

        Raises:
            DataError: where the template refuses them.
        """
        from jinja2.exceptions import TemplateError

        try:
            text: str = self.checkpoint.tokenizer.apply_chat_template(
                _plain(messages),
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=to_answer,
            )
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"the chat template of {self.checkpoint.name} refuses a conversation of the roles "
                f"{roles}: {error}. task.chat_template=FILE takes another."
            ) from error
        return text

    def _tokens(self, messages: Conversation) -> tuple[list[int], list[int]]:
        """Return a conversation's token ids, and which of them are targets.

        Rendered up to a reply and up to its end, one text begins with the other: what is between
        is the reply, with the token that ends it.
        """
        text = self._text(messages)
        spans = []
        for i, message in enumerate(messages):
            if message.role == "assistant" and message.trained:
                before = self._text(messages[:i], to_answer=True)
                until = self._text(messages[: i + 1])
                if not (text.startswith(until) and until.startswith(before)):
                    raise ModelError(
                        f"task=chat: the chat template of {self.checkpoint.name} writes earlier "
                        "messages otherwise once later ones follow, so replies cannot be told "
                        "apart; expected task.chat_template=FILE with one that does not."
                    )
                spans.append((len(before), len(until)))
        encoded = self.checkpoint.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        labels = [
            token if any(a <= start < b for a, b in spans) and end > start else IGNORED
            for token, (start, end) in zip(ids, offsets, strict=True)
        ]
        if messages[-1].trained and self.end not in ids[-3:]:
            # A template that writes no end, which may be followed by a line break.
            ids, labels = [*ids, self.end], [*labels, self.end]
        return ids, labels

    def _prompt(self, messages: Conversation) -> list[int]:
        """Return the token ids of what the last reply, or the one that is to come, answers."""
        asked = messages[:-1] if messages[-1].role == "assistant" else messages
        text = self._text(asked, to_answer=True)
        ids: list[int] = self.checkpoint.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids


def _replies(rows: Rows) -> list[str]:
    """Return the last reply of each conversation."""
    return [messages[-1].content for messages in rows["messages"]]


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


TASK = Chat
