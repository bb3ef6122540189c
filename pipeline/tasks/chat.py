"""Chat: the assistant's replies in conversations of any number of turns."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.config import ChatConfig, DataConfig
from pipeline.data import Rows
from pipeline.data.conversations import Message
from pipeline.data.shapes import Chats, Shape
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.evaluation.names import Direction, reply_metrics
from pipeline.tasks.base import Batch, Examples, Outputs
from pipeline.tasks.parts.batches import IGNORED
from pipeline.tasks.parts.long_rows import kept_rows
from pipeline.tasks.parts.writing import TOKEN_METRICS, WritingTask, end_token_id

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.data.conversations import Conversation
    from pipeline.models import Checkpoint

_LEAST_PROMPT = 4  # tokens
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")  # transformers' own, around what a reply is

_PROBE = (Message("user", "Ping?"), Message("assistant", "Pong."))


class Chat(WritingTask[ChatConfig]):
    """The loss is on the assistant's tokens; the last reply of each conversation is written."""

    baseline_name = "frequent_reply"
    encoding_refuses = True
    heads = ("AutoModelForCausalLM",)

    def __init__(
        self,
        config: ChatConfig,
        checkpoint: Checkpoint,
        max_length: int,
        label_counts: Mapping[str, int],
    ) -> None:
        if config.chat_template is not None:
            # A copy, since runs share the checkpoint; the template is kept with the model.
            tokenizer = copy.copy(checkpoint.tokenizer)
            tokenizer.chat_template = _read_template(config.chat_template)
            checkpoint = replace(checkpoint, tokenizer=tokenizer)
        super().__init__(config, checkpoint, max_length, label_counts)

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
            ConfigError: for a template that is none, or a model without positions to write at.
            ModelError: for a model that cannot hold a conversation.
        """
        super().check()
        name = self.checkpoint.name
        if not self._template:
            raise ModelError(
                f"task=chat: the tokenizer of model.checkpoint={name} has no chat template; "
                "expected a model with one (model=smollm-instruct, qwen), or "
                "task.chat_template=FILE with one in Jinja."
            )
        if not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"task=chat: the tokenizer of model.checkpoint={name} does not tell which token "
                "is of which character; expected one of the tokenizers library (tokenizer.json)."
            )
        self._read_frame()  # a template that is none is refused now
        if self.config.generate:
            self.check_positions(_LEAST_PROMPT)

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn conversations into token ids, with the assistant's as targets.

        What is too long is cut at its end, and a prompt at its beginning. Training leaves out
        conversations without a token to learn from, and counts them.

        Raises:
            DataError: where none is left, or the template refuses a conversation.
        """
        from datasets import Dataset

        found = [self._encoded(i, rows) for i in range(len(rows))]
        longer = [i for i, one in enumerate(found) if len(one.ids) > self.max_length]
        kept = kept_rows(
            rows,
            longer,
            lambda i: len(found[i].ids),
            self.config.long_rows,
            self.max_length,
            training=training,
        )
        cut = [(one.ids[: self.max_length], one.labels[: self.max_length]) for one in found]
        learned = [i for i in kept if any(label != IGNORED for label in cut[i][1])]
        if not learned and (training or any(one.has_reply for one in found)):
            raise DataError(
                f"row {rows.ids[kept[0]]}: no token of a reply to learn from, as on all "
                f"{len(kept)} rows of its split; expected replies within "
                f"training.max_length={self.max_length} tokens whose weight is not 0."
            )
        kept = learned if training else kept
        room = self._prompt_room
        columns = {
            "input_ids": [cut[i][0] for i in kept],
            "attention_mask": [[1] * len(cut[i][0]) for i in kept],
            "labels": [cut[i][1] for i in kept],
            "prompt_input_ids": [found[i].prompt[-room:] for i in kept],
            "prompt_attention_mask": [[1] * len(found[i].prompt[-room:]) for i in kept],
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
        """Score the reply that is training's most frequent one, always; nothing without replies."""
        if not self.config.generate:
            return {}
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

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd, with a template whose text depends on the day."""
        found = super().warnings(rows)
        if "strftime_now" in (self._template or ""):
            found.append(
                "the chat template writes the day's date: a rerun on another day reads other "
                "tokens; task.chat_template=FILE takes one that does not"
            )
        return found

    def texts(self, outputs: Outputs) -> list[str]:
        """Return what the model wrote, without what the template writes after a reply."""
        after = self._frame.after.strip()
        return [text.split(after)[0].strip() if after else text for text in super().texts(outputs)]

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the conversations as lists of role and content, with the written replies."""
        columns = super().predictions(examples, outputs)
        columns["messages"] = [_plain(messages) for messages in columns["messages"]]
        return columns

    @cached_property
    def end(self) -> int:
        """The token by which the template ends a reply, or else the tokenizer's own end."""
        special = self._special
        after = self._ids(self._frame.after)
        return next((token for token in after if token in special), end_token_id(self.checkpoint))

    @cached_property
    def _special(self) -> set[int]:
        added = self.checkpoint.tokenizer.added_tokens_decoder
        return {token for token, text in added.items() if text.special}

    @property
    def _prompt_room(self) -> int:
        """Tokens of a prompt after which the model can still write."""
        if self.positions is None:
            return self.max_length
        return min(self.max_length, self.positions - self.config.generation.max_new_tokens)

    @property
    def _template(self) -> str | None:
        given = self.checkpoint.tokenizer.chat_template
        template: str | None = given.get("default") if isinstance(given, Mapping) else given
        return template  # of several by name, the one for plain conversations

    @property
    def _template_name(self) -> str:
        path = self.config.chat_template
        return f"the chat template of {self.checkpoint.name}" if path is None else path

    @cached_property
    def _frame(self) -> _Frame:
        return self._read_frame()

    def _read_frame(self) -> _Frame:
        """Return what the template writes around a reply, beyond what begins one.

        Raises:
            ConfigError: for a template that is none.
        """
        try:
            before, whole = self._apply(_PROBE[:1], to_answer=True), self._apply(_PROBE)
        except DataError:  # it may want a system message; rows are refused with their place
            return _Frame("", "")
        content = _PROBE[1].content
        if content not in whole:
            return _Frame("", "")
        head, _, after = whole.rpartition(content)
        begins = before != self._apply(_PROBE[:1])  # else the template knows nothing of it
        return _Frame("" if begins or not head.startswith(before) else head[len(before) :], after)

    def _apply(self, messages: Sequence[Message], *, to_answer: bool = False) -> str:
        """Render messages by the template; with ``to_answer`` a reply is begun.

        Raises:
            ConfigError: for a template that is none.
            DataError: where the template refuses the messages.
        """
        return str(self._rendered(messages, tokenize=False, add_generation_prompt=to_answer))

    def _rendered(self, messages: Sequence[Message], **options: Any) -> Any:
        from jinja2.exceptions import TemplateError, TemplateSyntaxError

        tokenizer = self.checkpoint.tokenizer
        try:
            return tokenizer.apply_chat_template(
                _plain(messages), chat_template=self._template, **options
            )
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"task.chat_template: {self._template_name}, line {error.lineno}: no Jinja "
                f"template: {error}."
            ) from error
        # A template's filters and additions raise what Python's do.
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"{self._template_name} refuses a conversation of the roles {roles}: {error}. "
                "task.chat_template=FILE takes another."
            ) from error

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.checkpoint.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _begun(self, messages: Sequence[Message]) -> str:
        """Render messages and the beginning of a reply.

        A blank at its end belongs to the reply: tokenizers write blanks and words as one.
        """
        return (self._apply(messages, to_answer=True) + self._frame.before).rstrip(" ")

    def _encoded(self, i: int, rows: Rows) -> _Encoded:
        """Return a conversation as tokens, with those of its last prompt.

        Raises:
            DataError: naming the row whose conversation the template refuses.
            ModelError: for a template that does not tell what a reply is.
        """
        messages: Conversation = rows["messages"][i]
        has_reply = messages[-1].role == "assistant"
        asked = messages[:-1] if has_reply else messages
        try:
            ids, labels = self._tokens(messages)
            return _Encoded(ids, labels, self._ids(self._begun(asked)), has_reply)
        except DataError as error:
            raise DataError(f"row {rows.ids[i]}: {error}") from error
        except ModelError as error:
            raise ModelError(f"row {rows.ids[i]}: {error}") from error

    def _tokens(self, messages: Conversation) -> tuple[list[int], list[int]]:
        """Return a conversation's token ids, and which of them are targets.

        Where a template writes no end after a reply, the model is taught one all the same: it is
        the target of what follows the reply.
        """
        is_marked = _MARKS.search(self._template or "")
        ids, replies = self._marked(messages) if is_marked else self._parted(messages)
        labels = [IGNORED] * len(ids)
        for start, stop in replies:
            labels[start:stop] = ids[start:stop]
        for start, stop in replies:
            if self.end not in ids[max(start, stop - 3) : stop]:
                if stop == len(ids):
                    ids, labels = [*ids, self.end], [*labels, self.end]
                else:
                    labels[stop] = self.end
        return ids, labels

    def _parted(self, messages: Conversation) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids, and where the replies are that are trained.

        Rendered up to a reply and up to its end, one text begins with the other: what is between
        is the reply, with the token that ends it.
        """
        text = self._apply(messages)
        encoded = self.checkpoint.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets: list[tuple[int, int]] = encoded["offset_mapping"]
        replies = []
        for i, message in enumerate(messages):
            if message.role != "assistant" or not message.trained:
                continue
            before, until = self._begun(messages[:i]), self._apply(messages[: i + 1])
            if not (text.startswith(until) and until.startswith(before)):
                raise ModelError(
                    f"{self._template_name} writes messages[{i}] otherwise once more messages "
                    "follow, so replies cannot be told apart; expected task.chat_template=FILE "
                    "with one that does not or that has {% generation %} around replies, or "
                    "weight 0 on every reply but the last."
                )
            inside = [
                j
                for j, (start, stop) in enumerate(offsets)
                if stop > start and stop > len(before) and start < len(until)
            ]
            if inside:
                replies.append((inside[0], inside[-1] + 1))
        return encoded["input_ids"], replies

    def _marked(self, messages: Conversation) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids, and where the replies are that are trained, as the template marks."""
        rendered = self._rendered(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = rendered["input_ids"], rendered["assistant_masks"]
        runs = [list(run) for is_in, run in groupby(range(len(ids)), mask.__getitem__) if is_in]
        trained = [message.trained for message in messages if message.role == "assistant"]
        if not all(trained) and len(runs) != len(trained):
            raise ModelError(
                f"{self._template_name} marks {len(runs)} replies of {len(trained)}, so it cannot "
                "be told which have weight 0; expected {% generation %} around each."
            )
        if all(trained):
            trained = [True] * len(runs)
        chosen = [run for run, is_in in zip(runs, trained, strict=True) if is_in]
        return ids, [(run[0], run[-1] + 1) for run in chosen]


@dataclass(frozen=True)
class _Frame:
    """What a template writes around the content of a reply."""

    before: str
    after: str


@dataclass(frozen=True)
class _Encoded:
    """A conversation as token ids."""

    ids: list[int]
    labels: list[int]
    prompt: list[int]  # of its last reply, or the one that is to come
    has_reply: bool  # whether the last message is one


def _read_template(path: str) -> str:
    """Return a file's text.

    Raises:
        ConfigError: for a file that is not there or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"task.chat_template={path}: cannot be read: {error}; expected a file with a Jinja "
            "template."
        ) from error


def _replies(rows: Rows) -> list[str]:
    """Return the last reply of each conversation."""
    return [messages[-1].content for messages in rows["messages"]]


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


TASK = Chat
