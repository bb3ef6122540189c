"""Replies of tuned models, whole or as they are written."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pipeline.common.errors import DataError, TrackingError
from pipeline.hosting.errors import ApiError, invalid, missing
from pipeline.hosting.limits import Limits
from pipeline.hosting.wire import Chat
from pipeline.hosting.writing import End, Writing
from pipeline.serving.predictor import Predictor
from pipeline.tracking.registry import model_folder

if TYPE_CHECKING:
    from pipeline.tracking import Store


class Models:
    """Tuned models in memory, those asked last; one reply is written at a time."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(limits.answers)

    def reply(self, run_id: str, asked: Chat) -> Iterator[str | End]:
        """Yield a reply's text in pieces, and how it ended.

        Raises:
            ApiError: where too many wait, or the conversation cannot be answered.
        """
        if not self._room.acquire(blocking=False):
            raise ApiError(
                429,
                f"{self._limits.answers} requests wait for replies, the most that this server "
                "takes; ask again when some are answered.",
                code="rate_limit_exceeded",
            )
        pieces: SimpleQueue[str | End | Exception] = SimpleQueue()
        is_unwanted = threading.Event()

        def write() -> None:
            try:
                with self._lock:
                    writing = Writing(self._predictor(run_id), asked, pieces.put, is_unwanted)
                    pieces.put(writing.write())
            except Exception as error:
                pieces.put(error)
            finally:
                self._room.release()

        threading.Thread(target=write, daemon=True).start()
        try:
            while not isinstance(piece := pieces.get(), End):
                if isinstance(piece, DataError):
                    raise invalid(str(piece), "messages") from piece
                if isinstance(piece, TrackingError):
                    raise missing("model", asked.model, "model") from piece
                if isinstance(piece, Exception):
                    raise piece
                yield piece
            yield piece
        finally:
            is_unwanted.set()  # the client may be gone

    def forget(self, run_id: str) -> None:
        """Take a model out of memory."""
        with self._lock:
            self._loaded.pop(run_id, None)

    def _predictor(self, run_id: str) -> Predictor:
        if run_id not in self._loaded:
            while len(self._loaded) >= self._limits.models:
                self._loaded.popitem(last=False)
            with model_folder(self._store, run_id) as folder:
                self._loaded[run_id] = Predictor.load(folder)
        self._loaded.move_to_end(run_id)
        return self._loaded[run_id]
