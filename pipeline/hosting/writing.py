"""One reply, as it is written: which tokens are text, where it ends, how many there were."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from pipeline.data import Rows
from pipeline.hosting.documents import Document
from pipeline.hosting.errors import invalid
from pipeline.hosting.wire import Chat
from pipeline.serving.predictor import Predictor
from pipeline.tasks.parts.conversing import ConversationTask

if TYPE_CHECKING:
    import torch

    from pipeline.tasks.base import Batch
    from pipeline.tasks.parts.conversing import ConversationConfig

_LEAST_PROMPT = 4  # tokens
_BROKEN = "�"  # what the bytes of half a character are decoded to


@dataclass(frozen=True)
class End:
    """How a reply ended."""

    reason: str  # stop or length
    prompt: int  # tokens
    completion: int

    @property
    def usage(self) -> Document:
        """The tokens, as OpenAI's replies have them."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


class Writing:
    """A reply that is written; it is its own streamer."""

    def __init__(
        self, predictor: Predictor, asked: Chat, tell: Callable[[str], None], is_unwanted: Event
    ) -> None:
        task = predictor.task
        if not isinstance(task, ConversationTask):
            raise invalid("The model does not hold conversations.", "model")
        config = _config(task.config, asked)
        self._task = type(task)(config, task.checkpoint, task.max_length, task.targets)
        self._predictor, self._asked, self._tell = predictor, asked, tell
        self._is_unwanted = is_unwanted
        self._text = Text([*asked.stops, *filter(None, [self._task.after_reply])])
        self._ids: list[int] | None = None  # that were written; None before the prompt was read

    def write(self) -> End:
        """Write it, telling its text in pieces.

        Raises:
            ApiError: for a conversation that is too long.
            DataError: for one that the model's template refuses.
        """
        import torch
        from transformers import StoppingCriteriaList

        from pipeline.models.batches import autocast

        task, model = self._task, self._predictor.model
        self._check_room()
        batch, prompt = self._prompt()
        seed = secrets.randbelow(2**31) if self._asked.seed is None else self._asked.seed % 2**63
        stops = StoppingCriteriaList([self._is_over])
        model.eval()
        with torch.no_grad(), autocast(model.device, self._predictor.precision):
            task.write(model, batch, seed, streamer=self, stopping_criteria=stops)
        written = self._ids or []
        if rest := self._text.rest():
            self._tell(rest)
        most = task.config.generation.max_new_tokens
        is_cut = len(written) >= most and written[-1] != task.end and not self._text.is_over
        return End("length" if is_cut else "stop", prompt, len(written))

    def _check_room(self) -> None:
        most, positions = self._task.config.generation.max_new_tokens, self._task.positions
        if positions is not None and most + _LEAST_PROMPT > positions:
            raise invalid(
                f"max_tokens={most}: the model has {positions} positions, for the conversation "
                f"and its reply; expected at most {positions - _LEAST_PROMPT}.",
                "max_tokens",
            )

    def _prompt(self) -> tuple[Batch, int]:
        """Return the conversation as tokens, and how many."""
        if self._asked.messages[-1].role == "assistant":
            raise invalid(
                "The last message is the assistant's; there is nothing to answer.", "messages"
            )
        record = {"messages": [message.plain() for message in self._asked.messages]}
        row = self._predictor.shape.read(record, "the request", with_targets=False)
        rows = Rows(self._predictor.shape, ["request"], {name: [v] for name, v in row.items()})
        examples = self._task.encode(rows)
        if examples.truncated:
            raise invalid(
                f"The conversation has more than {self._task.prompt_room} tokens, the most that "
                "this model reads before a reply of so many; send fewer messages.",
                "messages",
                "context_length_exceeded",
            )
        batch = self._task.collate(list(examples.dataset))
        device = self._predictor.model.device
        return {name: value.to(device) for name, value in batch.items()}, examples.lengths[0]

    def put(self, ids: torch.Tensor) -> None:
        """Take tokens from transformers: the prompt first, then each that is written."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += ids.flatten().tolist()
        whole = self._task.checkpoint.tokenizer.decode(self._ids, skip_special_tokens=True)
        if piece := self._text.more(str(whole)):
            self._tell(piece)

    def end(self) -> None:
        """Take the end from transformers; what is left is told then."""

    def _is_over(self, ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        import torch

        is_over = self._text.is_over or self._is_unwanted.is_set()
        return torch.full((len(ids),), is_over, device=ids.device)


class Text:
    """A text that grows, told in pieces: up to the first stop, without blanks around it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._whole, self._told = "", 0
        self.is_over = False

    def more(self, whole: str) -> str:
        """Take the text so far; return what of it can be told already."""
        if self.is_over:
            return ""
        self._whole = whole.lstrip()
        found = [at for stop in self._stops if (at := self._whole.find(stop)) >= 0]
        if found:
            self.is_over = True
            self._whole = self._whole[: min(found)]
            return self.rest()
        return self._until(len(self._whole) - self._begun())

    def rest(self) -> str:
        """Return what is not told yet."""
        return self._until(len(self._whole))

    def _until(self, end: int) -> str:
        sure = self._whole[:end].rstrip().rstrip(_BROKEN) if end < len(self._whole) else self._whole
        piece = sure.rstrip()[self._told :]
        self._told += len(piece)
        return piece

    def _begun(self) -> int:
        """Return how many of the last characters may begin a stop, or be half a character."""
        longest = max(map(len, self._stops), default=1)
        for size in range(min(longest - 1, len(self._whole)), 0, -1):
            if any(stop.startswith(self._whole[-size:]) for stop in self._stops):
                return size
        return int(self._whole.endswith(_BROKEN))


def _config(config: ConversationConfig, asked: Chat) -> ConversationConfig:
    """Return the settings of training with what a request says of writing."""
    generation = replace(config.generation, num_beams=1)  # beams cannot be told as they are written
    if asked.most_tokens is not None:
        generation = replace(generation, max_new_tokens=asked.most_tokens)
    if asked.temperature is not None or asked.top_p is not None:
        warm = 1.0 if asked.temperature is None else asked.temperature
        generation = replace(
            generation,
            do_sample=warm > 0,
            temperature=warm or 1.0,
            top_p=asked.top_p or 1.0,
        )
    return replace(config, generation=generation)
