"""Tasks of conversations: what a chat template makes of them, and which tokens are targets."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic.dataclasses import dataclass as checked
from typing_extensions import override

from pipeline.common.errors import ConfigError, DataError, ModelError, did_you_mean, listing
from pipeline.config.task import AnyColumns
from pipeline.config.types import STRICT, FileName, Text
from pipeline.data import Rows, Targets
from pipeline.data.conversations import Message, asked, plain
from pipeline.data.layouts import AUTO, LAYOUTS, read_conversation
from pipeline.data.preferences import PAIR_LAYOUTS
from pipeline.data.rows import Row, Values
from pipeline.data.shapes import Shape
from pipeline.models.batches import IGNORED, LEFT
from pipeline.tasks.base import Batch, Examples, Outputs
from pipeline.tasks.parts.writing import WritingConfig, WritingTask, end_token_id

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding
    from transformers import PreTrainedModel

    from pipeline.data.conversations import Conversation
    from pipeline.models import Checkpoint

_LEAST_PROMPT = 4  # tokens
_AFTER = 3  # tokens between a reply's last word and the next turn, unless more are known
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")  # transformers' own tag around a reply

_PROBE = (Message("user", "Ping?"), Message("assistant", "Pong."))


@checked(config=STRICT, frozen=True, kw_only=True)
class ConversationConfig(WritingConfig):
    """What tasks of conversations share."""

    system: Text | None  # a system message for conversations that have none
    chat_template: FileName | None  # file with a Jinja template; null: the tokenizer's own
    generate: bool  # write the last reply of each conversation at evaluations


K = TypeVar("K", bound=ConversationConfig)
T = TypeVar("T")


@checked(config=STRICT, frozen=True, kw_only=True)
class ChatColumns(AnyColumns):
    """How a record holds its conversation."""

    not_columns = frozenset({"layout"})

    layout: Text  # of docs/formats.md; auto: told by each row's keys


@dataclass(frozen=True)
class Chats(Shape):
    """Column ``messages``: a conversation, whatever the layout of the file."""

    columns: ChatColumns
    system: str | None = None  # the first message of conversations that have none of this role

    def read(self, values: Values, place: str, *, with_targets: bool = True) -> Row:
        """Return the conversation; one to be answered ends with the user."""
        layout = self.columns.layout
        if not with_targets and values.keys() == self.inputs.keys():
            layout = AUTO  # the layout of a server's requests, whatever that of the training file
        if layout not in (AUTO, *LAYOUTS):
            valid = [AUTO, *LAYOUTS]
            if layout in PAIR_LAYOUTS:
                raise DataError(f"data.layout={layout}: it is read by task=preference.")
            raise DataError(
                f"data.layout={layout}: there is no such layout.{did_you_mean(layout, valid)} "
                f"Valid: {listing(valid)}."
            )
        found = read_conversation(values, layout, place, to_answer=not with_targets)
        return {"messages": self.begun(found)}

    def begun(self, messages: Conversation) -> Conversation:
        """Return a conversation with the system message."""
        if self.system is None or messages[0].role == "system":
            return messages
        return (Message("system", self.system), *messages)

    def groups(self, rows: Rows) -> Sequence[str]:
        """Keep conversations with the same beginning together, whatever the settings put first."""
        given = (m[1:] if m[0] == ("system", self.system, True) else m for m in rows["messages"])
        return ["\n".join(_contents_to_first_user(messages)) for messages in given]

    def texts(self, rows: Rows) -> Sequence[str]:
        """Return each complete conversation."""
        return ["\n".join(m.content for m in messages) for messages in rows["messages"]]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The messages."""
        return {"messages": "messages"}

    def record(self, rows: Rows, i: int) -> dict[str, Any]:
        """Return a conversation up to its last reply."""
        return {"messages": plain(asked(rows["messages"][i]))}

    def check(self, train: Rows) -> list[str]:
        """Warn of conversations that train nothing."""
        idle = sum(
            not any(m.trained for m in messages if m.role == "assistant")
            for messages in train["messages"]
        )
        warning = f"{idle} conversations have weight 0 on every reply: they train nothing"
        return [warning] if idle else []


def _contents_to_first_user(messages: Conversation) -> Iterator[str]:
    for message in messages:  # a greeting alone may begin all of them
        yield message.content
        if message.role == "user":
            return


def last_replies(rows: Rows) -> list[str]:
    """Return the last reply of each conversation."""
    return [messages[-1].content for messages in rows["messages"]]


class ConversationTask(WritingTask[K]):
    """Reads conversations by a chat template; the assistant's tokens are the targets."""

    columns_class = ChatColumns
    encoding_refuses = True
    heads = ("AutoModelForCausalLM",)

    @classmethod
    @override
    def shape(cls, config: K, columns: ChatColumns) -> Shape:
        """Return conversations that begin as the settings say."""
        kind = cls.shape_class
        assert issubclass(kind, Chats)
        return kind(columns, config.system)

    def __init__(
        self,
        config: K,
        checkpoint: Checkpoint,
        max_length: int,
        targets: Targets,
    ) -> None:
        if config.chat_template is not None:
            # A copy, since runs share the checkpoint; the template is saved with the model.
            tokenizer = copy.copy(checkpoint.tokenizer)
            tokenizer.chat_template = _read_template(config.chat_template)
            checkpoint = replace(checkpoint, tokenizer=tokenizer)
        super().__init__(config, checkpoint, max_length, targets)

    @classmethod
    @override
    def for_prediction(cls, config: K) -> K:
        """Return settings for prediction: replies are written.

        By now the tokenizer has a chat template that was given as a file.
        """
        return replace(super().for_prediction(config), generate=True, chat_template=None)

    def check(self) -> None:
        """Refuse a model that cannot write, reads with an encoder, or has no chat template.

        Raises:
            ConfigError: for an invalid template, or a model without positions left to write at.
            ModelError: for a model that cannot hold a conversation.
        """
        super().check()
        name = self.checkpoint.name
        if not self._template:
            raise ModelError(
                f"task={self.config.name}: the tokenizer of model.checkpoint={name} has no chat "
                "template; expected a model with one (model=smollm-instruct, qwen), or "
                "task.chat_template=FILE with one in Jinja."
            )
        if not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"task={self.config.name}: the tokenizer of model.checkpoint={name} does not map "
                "tokens to characters; expected one of the tokenizers library (tokenizer.json)."
            )
        _ = self._frame  # an invalid template is refused now
        # Even if evaluations write nothing, a saved model will have to.
        self.check_positions(_LEAST_PROMPT)

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn conversations into token ids, with the assistant's as targets.

        Text that is too long is cut at its end, and a prompt at its beginning. Training leaves out
        conversations without a token to learn from, and counts them. Conversations to be answered
        have only a prompt.

        Raises:
            DataError: if none is left, or if the template refuses a conversation.
        """
        from datasets import Dataset

        has_replies = any(messages[-1].role == "assistant" for messages in rows["messages"])
        is_asked = not has_replies or (self.config.generate and not training)
        found = self.tokens(rows) if has_replies else []
        prompts = self.prompts(rows) if is_asked else []
        long_prompts = [i for i, ids in enumerate(prompts) if len(ids) > self.prompt_room]
        if not has_replies:
            columns = self.prompt_columns(prompts)
            read = {"input_ids": columns[f"{LEFT}input_ids"], **columns}
            dataset = Dataset.from_dict({**read, "row": list(range(len(rows)))})
            return Examples(rows, dataset, len(long_prompts))
        longer = [i for i, (ids, _) in enumerate(found) if len(ids) > self.max_length]
        kept = self.kept_rows(rows, longer, lambda i: len(found[i][0]), training=training)
        if long_prompts and self.config.long_rows == "error":
            i = long_prompts[0]
            raise DataError(
                f"row {rows.ids[i]}: {len(prompts[i])} tokens before its last reply; "
                f"{self.checkpoint.name} has {self.positions} positions, which leave "
                f"{self.prompt_room} after task.generation.max_new_tokens="
                f"{self.config.generation.max_new_tokens}; expected no more, since "
                "task.long_rows=error."
            )
        cut = [(ids[: self.max_length], labels[: self.max_length]) for ids, labels in found]
        learned = [i for i in kept if any(label != IGNORED for label in cut[i][1])]
        if not learned:
            raise DataError(
                f"row {rows.ids[kept[0]]}: no reply token to learn from, like all "
                f"{len(kept)} rows of its split; expected replies within "
                f"training.max_length={self.max_length} tokens with a weight other than 0."
            )
        kept = learned if training else kept
        columns = {
            "input_ids": [cut[i][0] for i in kept],
            "attention_mask": [[1] * len(cut[i][0]) for i in kept],
            "labels": [cut[i][1] for i in kept],
            **(self.prompt_columns([prompts[i] for i in kept]) if is_asked else {}),
        }
        dataset = Dataset.from_dict({**columns, "row": kept})
        notes = self.endless(columns["labels"]) if training else ()
        return Examples(rows, dataset, len({*longer, *long_prompts}), len(rows) - len(kept), notes)

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return the last reply of each conversation."""
        return last_replies(rows)

    def endless(self, labels: Sequence[Sequence[int]]) -> tuple[str, ...]:
        """Return a warning if no reply is trained up to its end."""
        is_taught = any(self.end in targets for targets in labels)
        if is_taught or all(map(self.is_whole, labels)):  # nothing is cut: no reply is trained
            return ()
        end = self.checkpoint.tokenizer.convert_ids_to_tokens(self.end)
        return (
            f"no trained target is the end token {end}: training.max_length={self.max_length} cuts "
            "every conversation before its first trained reply ends, so the model never learns to "
            "stop and writes on to task.generation.max_new_tokens; use a larger training.max_length"
            " or shorter conversations",
        )

    def generate(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Write each conversation's last reply."""
        return super().generate(model, batch) if self.config.generate else {}

    @override
    def trained_texts(self, rows: Rows) -> Sequence[str]:
        """Return the trained replies of each conversation as one text."""
        return [
            "".join(m.content for m in messages if m.role == "assistant" and m.trained)
            for messages in rows["messages"]
        ]

    @override
    def is_whole(self, labels: Sequence[int]) -> bool:
        """Whether a conversation is shorter than what may be read of one."""
        return len(labels) < self.max_length

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd; also a template whose text depends on the date."""
        found = super().warnings(rows)
        if "strftime_now" in (self._template or ""):
            found.append(
                "the chat template writes the current date: a rerun on another day reads different "
                "tokens; use task.chat_template=FILE with one that does not"
            )
        return found

    def texts(self, outputs: Outputs) -> list[str]:
        """Return what the model wrote, without what the template writes after a reply."""
        after = self.after_reply
        return [text.split(after)[0].strip() if after else text for text in super().texts(outputs)]

    @property
    def after_reply(self) -> str:
        """What the template writes after a reply, where it ends."""
        return self._frame.after.strip()

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the conversations as lists of role and content, with the generated replies."""
        columns = super().predictions(examples, outputs)
        columns["messages"] = [plain(messages) for messages in columns["messages"]]
        return columns

    @cached_property
    def end(self) -> int:
        """The token with which the template ends a reply, else the tokenizer's end token."""
        added = self.checkpoint.tokenizer.added_tokens_decoder
        (after,) = self._ids([self._frame.after])
        special = (token for token in after if token in added and added[token].special)
        return next(special, end_token_id(self.checkpoint))

    @property
    def prompt_room(self) -> int:
        """Most tokens of a prompt that leave the model room to write."""
        if self.positions is None:
            return self.max_length
        return min(self.max_length, self.positions - self.config.generation.max_new_tokens)

    @property
    def _template(self) -> str | None:
        given = self.checkpoint.tokenizer.chat_template
        template: str | None = given.get("default") if isinstance(given, Mapping) else given
        return template  # of several named ones, the one for plain conversations

    @property
    def _template_name(self) -> str:
        path = self.config.chat_template
        return f"the chat template of {self.checkpoint.name}" if path is None else path

    @cached_property
    def _frame(self) -> _Frame:
        """What the template writes around a reply, besides what begins one."""
        try:
            before, whole = self._apply(_PROBE[:1], to_answer=True), self._apply(_PROBE)
        except DataError:  # it may require a system message; rows are refused with their place
            return _Frame("", "")
        content = _PROBE[1].content
        if content not in whole:
            return _Frame("", "")
        head, _, after = whole.rpartition(content)
        begins = before != self._apply(_PROBE[:1])  # else the template does not know it
        return _Frame("" if begins or not head.startswith(before) else head[len(before) :], after)

    def _apply(self, messages: Sequence[Message], *, to_answer: bool = False) -> str:
        """Render messages by the template; ``to_answer`` starts a reply at the end."""
        with self._refusals(messages):
            text = self.checkpoint.tokenizer.apply_chat_template(
                plain(messages),
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=to_answer,
            )
        return str(text)

    @contextmanager
    def _refusals(self, messages: Sequence[Message]) -> Iterator[None]:
        """Turn a template's errors into ours: it is none, or it refuses the messages."""
        from jinja2.exceptions import TemplateError, TemplateSyntaxError

        try:
            yield
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"task.chat_template: {self._template_name}, line {error.lineno}: not a Jinja "
                f"template: {error}."
            ) from error
        # A template's filters and operators raise Python's errors.
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"{self._template_name} refuses a conversation of the roles {roles}: {error}. "
                "Use another one: task.chat_template=FILE."
            ) from error

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer = self.checkpoint.tokenizer
        return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])

    def _begun(self, messages: Sequence[Message]) -> str:
        """Render messages and the beginning of a reply.

        A space at its end belongs to the reply: tokenizers join a space and its word.
        """
        if not messages:  # which no template renders, so see what is before any first reply
            _, reply = _PROBE
            return self._apply([reply]).partition(reply.content)[0].rstrip(" ")
        return (self._apply(messages, to_answer=True) + self._frame.before).rstrip(" ")

    def prompts(self, rows: Rows) -> list[list[int]]:
        """Return the tokens before each conversation's last reply, or before the one to come."""
        return self._ids(_of_each(rows, lambda messages: self._begun(asked(messages))))

    def prompt_columns(self, prompts: Sequence[list[int]]) -> dict[str, list[list[int]]]:
        """Return the prompt to continue; of one that is too long, its end."""
        cut = [prompt[-self.prompt_room :] for prompt in prompts]
        return {f"{LEFT}input_ids": cut, f"{LEFT}attention_mask": [[1] * len(ids) for ids in cut]}

    def tokens(self, rows: Rows) -> list[tuple[list[int], list[int]]]:
        """Return each conversation's token ids, and which of them are targets."""
        render = self._marked if _MARKS.search(self._template or "") else self._parted
        texts, replies = zip(*_of_each(rows, render), strict=True)
        encoded = self.checkpoint.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [self._labelled(encoded[i], spans) for i, spans in enumerate(replies)]

    def _labelled(
        self, encoding: Encoding, spans: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        """Return token ids, and as targets those of replies up to the token that ends each.

        If a template writes no end after a reply, the model is taught one nevertheless: it becomes
        the target of what follows the reply.
        """
        ids, offsets = list(encoding.ids), encoding.offsets
        labels = [IGNORED] * len(ids)
        for begin, until in spans:
            inside = [j for j, (a, b) in enumerate(offsets) if b > a and b > begin and a < until]
            if not inside:
                continue
            start, stop = inside[0], inside[-1] + 1
            ends = [j for j in range(max(start, stop - self._after), stop) if ids[j] == self.end]
            if ends:  # the rest belongs to the next turn, which the model does not write
                stop = ends[-1] + 1
            labels[start:stop] = ids[start:stop]
            if not ends and stop == len(ids):
                ids, labels = [*ids, self.end], [*labels, self.end]
            elif not ends:
                labels[stop] = self.end
        return ids, labels

    @cached_property
    def _after(self) -> int:
        """The most tokens between a reply's last word and the next turn."""
        (after,) = self._ids([self._frame.after])
        return max(_AFTER, len(after))

    def _parted(self, messages: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation's text, and where in it the replies are that are trained.

        The text rendered up to a reply is a prefix of that up to its end: the difference is the
        reply and its end.
        """
        text = self._apply(messages)
        replies = []
        for i, message in enumerate(messages):
            if message.role != "assistant" or not message.trained:
                continue
            before = self._begun(messages[:i])
            until = text if i + 1 == len(messages) else self._apply(messages[: i + 1])
            if not (text.startswith(until) and until.startswith(before)):
                raise ModelError(
                    f"{self._template_name} writes messages[{i}] differently once more messages "
                    "follow, so replies cannot be located; expected task.chat_template=FILE "
                    "with one that does not or that has {% generation %} around replies, or "
                    "weight 0 on every reply but the last."
                )
            replies.append((len(before), len(until)))
        return text, replies

    def _marked(self, messages: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation's text, and where the template marks trained replies."""
        # `apply_chat_template` returns only tokens, for one conversation at a time.
        from transformers.utils.chat_template_utils import render_jinja_template

        tokenizer = self.checkpoint.tokenizer
        with self._refusals(messages):
            (text,), (marks,) = render_jinja_template(
                [plain(messages)],
                chat_template=self._template,
                return_assistant_tokens_mask=True,
                **tokenizer.special_tokens_map,
            )
        runs = _joined(marks)
        trained = [message.trained for message in messages if message.role == "assistant"]
        if all(trained):
            return text, runs
        if len(runs) != len(trained):
            raise ModelError(
                f"{self._template_name} marks {len(runs)} replies of {len(trained)}, so those of "
                "weight 0 are unknown; expected {% generation %} around each."
            )
        return text, [run for run, is_in in zip(runs, trained, strict=True) if is_in]


class _Frame(NamedTuple):
    """What a template writes around the content of a reply."""

    before: str
    after: str


def _of_each(rows: Rows, render: Callable[[Conversation], T]) -> list[T]:
    """Render each conversation; a refusal has the first one's place, and names the others."""
    found: list[T] = []
    refused: dict[str, DataError | ModelError] = {}
    for place, messages in zip(rows.ids, rows["messages"], strict=True):
        try:
            found.append(render(messages))
        except (DataError, ModelError) as error:
            refused[place] = error
    for place, first in refused.items():
        every = f" {len(refused)} rows of the split are refused: {listing(refused)}."
        raise type(first)(f"row {place}: {first}{every if len(refused) > 1 else ''}") from first
    return found


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans, adjacent ones merged, empty ones removed."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        elif stop > start:
            joined.append((start, stop))
    return joined


def _read_template(path: str) -> str:
    """Return a file's text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"task.chat_template={path}: cannot be read: {error}; expected a file with a Jinja "
            "template."
        ) from error
