"""Evaluation of a tuned model at a service: it writes the last reply of each conversation."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import TunewrightError
from pipeline.common.timing import booked
from pipeline.data.conversations import asked, plain
from pipeline.providers.patience import LOOK_SECONDS, Patience
from pipeline.providers.service import Reply

if TYPE_CHECKING:
    from pipeline.data import Rows
    from pipeline.providers.attachment import Attachment
    from pipeline.providers.plan import Plan


@dataclass(frozen=True)
class Answered:
    """A split, and what the tuned model replied to its rows."""

    rows: Rows
    replies: Sequence[Reply]  # one a row
    seconds: float | None  # that they took; None: an earlier try was given some

    @property
    def texts(self) -> list[str]:
        """The replies' texts; one that the service withheld is empty."""
        return [reply.text.strip() for reply in self.replies]

    @property
    def digest(self) -> str:
        """A digest of the texts."""
        return hashlib.blake2b(repr(self.texts).encode(), digest_size=8).hexdigest()

    @property
    def table(self) -> Mapping[str, list[Any]]:
        """The rows with their ids and replies, column by column."""
        messages = [plain(one) for one in self.rows["messages"]]
        return {"id": list(self.rows.ids), "messages": messages, "prediction": self.texts}


class Asking:
    """Has a tuned model answer splits, several rows at once.

    Args:
        planned: the service, how replies are written, and how many requests are made at once.
        seed: of drawn replies.
        attached: keeps each reply as it comes, since it is paid.
        patience: of the run; asked whether it is to end.
    """

    def __init__(self, planned: Plan, seed: int, attached: Attachment, patience: Patience) -> None:
        self._planned, self._seed = planned, seed
        self._attached, self._patience = attached, patience

    @booked("evaluation")
    def answered(self, model: str, split: str, rows: Rows) -> Answered:
        """Ask for the last reply of each conversation.

        Raises:
            ServiceError: where the model is gone, or the service is away for too long.
        """
        known = {i: Reply(**one) for i, one in self._attached.answers(split).items()}
        prompts = ((i, asked(m)) for i, m in zip(rows.ids, rows["messages"], strict=True))
        began = time.monotonic()
        found = dict(self._ask(model, split, (one for one in prompts if one[0] not in known)))
        seconds = None if known else time.monotonic() - began
        return Answered(rows, [(known | found)[i] for i in rows.ids], seconds)

    def _ask(
        self, model: str, split: str, prompts: Iterator[tuple[str, Any]]
    ) -> Iterator[tuple[str, Reply]]:
        """Yield each reply as it comes; no more are asked for than are wanted at once."""
        given_up, at_once = threading.Event(), self._planned.config.at_once
        # Of threads: a search is asked by the main one alone.
        patience = Patience(self._planned.config, lambda: _check(given_up))

        def ask(row_id: str, prompt: Any) -> tuple[str, Reply]:
            service, how = self._planned.service, self._planned.task.generation
            reply = patience(lambda: service.ask(model, prompt, how, self._seed))
            self._attached.keep_answer(split, row_id, asdict(reply))
            return row_id, reply

        with ThreadPoolExecutor(at_once) as pool:
            pending: set[Future[tuple[str, Reply]]] = set()
            try:
                while True:
                    more = islice(prompts, at_once - len(pending))
                    pending |= {pool.submit(ask, *one) for one in more}
                    if not pending:
                        return
                    done, pending = wait(pending, LOOK_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
                    self._patience.wait(0)
            finally:
                given_up.set()


class _GivenUpError(TunewrightError):
    """The run ends, so that no thread of it asks again."""


def _check(given_up: threading.Event) -> None:
    if given_up.is_set():
        raise _GivenUpError("the run ends")
