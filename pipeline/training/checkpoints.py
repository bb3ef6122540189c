"""Checkpoints: states on disk from which an interrupted run resumes as if never stopped."""

from __future__ import annotations

import logging
import signal
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from pipeline.common.atomic import remove_leftovers, replacing
from pipeline.common.errors import DivergedError, TrackingError
from pipeline.common.private import make_folder
from pipeline.training.best import Evaluations
from pipeline.training.run_folders import STATES, lock_of, remove, take
from pipeline.training.snapshot import RandomState, Snapshot, trained_state

log = logging.getLogger(__name__)

_BEST = "best-*.safetensors"
_ARRAY = "numpy array of dtype"  # key of what stands for an array


class Checkpoints:
    """The latest states of one run: each a file, next to a file of the best weights at that time.

    A state is copied at once and written by a background thread; a failure to write is raised at
    the next write, or by `wait`. A file is complete or absent, and damaged ones are skipped, so a
    run may be killed at any time.

    Used as a context it holds the run's lock, which dies with the process. At the end the folder is
    deleted, unless the run was interrupted, or is not a trial and failed without diverging.

    Args:
        folder: of this run alone; the first write creates it.
        keep: how many of the latest states to keep.
        of_trial: whether the run is a trial, whose failure is a result of its search.
    """

    def __init__(self, folder: Path, keep: int, *, of_trial: bool = False) -> None:
        self._folder = folder
        self._keep = keep
        self.of_trial = of_trial
        self._lock = lock_of(folder)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._best: dict[str, int] | None = None  # step and checksum of the last file of weights
        self._damage = ""  # why the latest state cannot be read
        self._bests: dict[int, int] = {}  # step of a state -> that of its best weights, 0: none

    def __enter__(self) -> Checkpoints:
        """Take the run's lock.

        Raises:
            TrackingError: if another process holds it, or it cannot be created.
        """
        self._lock = take(self._folder)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failure = self._pending.exception() if self._pending else None
        self._pending = None
        self._writer.shutdown()
        if self._stays(error or failure) and any(self._folder.glob(STATES)):
            self._lock.release()
        else:
            self.discard()
        if failure is not None and error is None:
            raise failure
        if failure is not None:
            log.warning("a checkpoint was not written", exc_info=failure)

    def _stays(self, error: BaseException | None) -> bool:
        if error is None or isinstance(error, DivergedError):
            return False
        return isinstance(error, KeyboardInterrupt) or not self.of_trial

    def write(self, snapshot: Snapshot, after: Callable[[], None] | None = None) -> None:
        """Begin to write a state.

        Args:
            snapshot: the state; only its evaluations may change once this returns.
            after: what the thread waits for before the state counts.

        Raises:
            TrackingError: if the state before could not be written.
        """
        self.wait()
        evaluations = snapshot.evaluations
        state = _plain(
            {**vars(snapshot), "random": vars(snapshot.random), "evaluations": evaluations.export()}
        )
        best, weights = evaluations.best, None
        if best is not None and (self._best is None or self._best["step"] != best.step):
            # A copy, since they are overwritten in place; safetensors takes no strides.
            weights = {
                name: weight.clone(memory_format=torch.contiguous_format)
                for name, weight in evaluations.weights.items()
            }
        best_step = best.step if best else 0
        self._pending = self._writer.submit(
            self._write, snapshot.step, state, best_step, weights, after
        )

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            TrackingError: if a file could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def latest(self) -> Snapshot | None:
        """Read the latest complete state; None if there is none.

        Raises:
            TrackingError: if states exist but none can be read; a trial starts over.
        """
        steps = sorted(_steps(self._folder, STATES), reverse=True)
        for step in steps:
            snapshot = self._read(step)
            if snapshot is not None:
                return snapshot
        if steps and not self.of_trial:
            raise TrackingError(
                f"{self._state_file(steps[0])}: the checkpoint cannot be read: {self._damage}. "
                f"Delete {self._folder} to start the run again."
            )
        return None

    def discard(self) -> None:
        """Delete the folder and give up the lock."""
        with suppress(Exception):  # it no longer matters
            self.wait()
        remove(self._folder, self._lock)
        self._lock.release()

    def _write(
        self,
        step: int,
        state: dict[str, Any],
        best_step: int,
        weights: dict[str, torch.Tensor] | None,
        after: Callable[[], None] | None,
    ) -> None:
        try:
            if after is not None:
                after()
            make_folder(self._folder)
            if weights is not None:
                file = self._best_file(best_step)
                with replacing(file, durable=True) as made:
                    save_file(weights, made)
                self._best = {"step": best_step, "crc32": _crc32(file)}
            with replacing(self._state_file(step), durable=True) as made:
                torch.save({**state, "best": self._best}, made)
            self._bests[step] = best_step
            self._tidy(step)
        except Exception as error:  # of the disk, of torch, or of the store behind `after`
            raise TrackingError(
                f"{self._folder}: cannot write a checkpoint ({error}); "
                "training.checkpoint_every=null turns checkpoints off."
            ) from error

    def _tidy(self, step: int) -> None:
        """Delete all but the states to keep and their best weights."""
        states = _steps(self._folder, STATES)
        # States after this step were damaged: the run resumed from an earlier one.
        kept = sorted((s for s in states if s <= step), reverse=True)[: self._keep]
        best = _steps(self._folder, _BEST)
        # For a state that this process did not write, the last one before it.
        needed = {self._bests.get(s, max((b for b in best if b <= s), default=0)) for s in kept}
        remove_leftovers(self._folder)
        for old in states - set(kept):
            self._state_file(old).unlink()
        for old in best - needed:
            self._best_file(old).unlink()

    def _read(self, step: int) -> Snapshot | None:
        path = self._state_file(step)
        try:
            with zipfile.ZipFile(path) as archive:  # torch writes checksums, but reads none
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            state = torch.load(path, map_location="cpu", weights_only=True)
            best, weights = state.pop("best"), {}
            if best is not None:
                file = self._best_file(best["step"])
                if _crc32(file) != best["crc32"]:
                    raise ValueError(f"{file.name} is damaged")
                # Copies: what is read is mapped from a file that will be deleted.
                weights = {name: weight.clone() for name, weight in load_file(file).items()}
            snapshot = _snapshot(_unplain(state), weights)
            if snapshot.step != step:
                raise ValueError(f"it is of step {snapshot.step}")
        except MemoryError:
            raise
        except Exception as error:  # a torn file can raise anything
            log.warning("cannot read %s; using the previous state: %s", path, error)
            self._damage = self._damage or str(error)
            return None
        self._best = best
        self._bests[step] = best["step"] if best else 0
        return snapshot

    def _state_file(self, step: int) -> Path:
        return self._folder / f"state-{step:08d}.pt"

    def _best_file(self, step: int) -> Path:
        return self._folder / f"best-{step:08d}.safetensors"


def check_fits(snapshot: Snapshot, model: torch.nn.Module) -> None:
    """Refuse a state of a different model, or one that trains different weights.

    Raises:
        TrackingError: naming a weight that only one of them has.
    """
    others = snapshot.weights.keys() ^ trained_state(model).keys()
    if others:
        raise TrackingError(
            f"the checkpoint of step {snapshot.step} is of a different model: only one of them has "
            f"{min(others)}."
        )


class Termination:
    """Lets the first SIGTERM wait for the end of a step; the second interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Only note SIGTERM meanwhile; in threads, which get no signals, this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _note(self, _: int, __: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt("SIGTERM, twice")
        self.asked = True


def _steps(folder: Path, pattern: str) -> set[int]:
    numbers = (path.stem.partition("-")[2] for path in folder.glob(pattern))
    return {int(number) for number in numbers if number.isdecimal()}


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


# Names of phases in states that are older than the ledger.
_OLD_PHASES = {"train_seconds": "forward_backward", "evaluate_seconds": "evaluation"}


def _snapshot(state: dict[str, Any], weights: dict[str, torch.Tensor]) -> Snapshot:
    rebuilt = {
        "random": RandomState(**state["random"]),
        "evaluations": Evaluations.from_export(state["evaluations"], weights),
        "spent": {_OLD_PHASES.get(phase, phase): s for phase, s in state["spent"].items()},
    }
    return Snapshot(**{**state, **rebuilt})


def _plain(tree: Any) -> Any:
    """Return a tree of what `torch.load` reads without running code: no classes but tensors."""
    if isinstance(tree, np.ndarray):
        content = np.ascontiguousarray(tree).reshape(-1).view(np.uint8).copy()
        return {_ARRAY: tree.dtype.str, "shape": tree.shape, "bytes": torch.from_numpy(content)}
    if isinstance(tree, dict):
        return {_plain(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_plain(value) for value in tree)
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, torch.Tensor) or type(tree) in (bool, int, float, str, type(None)):
        return tree
    raise TypeError(f"{tree!r} of {type(tree)} cannot be stored in a checkpoint")


def _unplain(tree: Any) -> Any:
    """Undo `_plain`, dtypes included."""
    if isinstance(tree, dict) and _ARRAY in tree:
        content = tree["bytes"].numpy().view(np.dtype(tree[_ARRAY]))
        return content.reshape(tree["shape"])
    if isinstance(tree, dict):
        return {key: _unplain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_unplain(value) for value in tree)
    return tree
