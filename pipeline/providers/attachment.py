"""What ties a run to its job at a service: kept on disk, so that no try of it pays twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.common.atomic import replacing
from pipeline.common.errors import TrackingError
from pipeline.common.private import make_file, make_folder
from pipeline.training.run_folders import HOSTED, lock_of, remove, take


@dataclass(frozen=True)
class State:
    """What is known of a run's job."""

    files: Mapping[str, str] = field(default_factory=dict)  # ids of the uploaded splits
    asked: bool = False  # whether a job was asked for; it may be there though no answer came
    job: str | None = None  # its id
    tries: int = 0  # jobs before this one, which failed or are gone


class Attachment:
    """A run's state on disk, in the folder where other runs keep checkpoints.

    Used as a context it holds the run's lock, which dies with the process. The folder is deleted at
    the end where no job is left to go on with: `forget` says so. That of a trial stays until its
    study has the result, see `pipeline.jobs.study_record`.

    Args:
        folder: of this run alone.
        of_trial: whether the run is a trial.
    """

    def __init__(self, folder: Path, *, of_trial: bool = False) -> None:
        self.folder, self._of_trial = folder, of_trial
        self._lock = lock_of(folder)
        self._file = folder / HOSTED
        self._writing = threading.Lock()
        self.state = State()

    def __enter__(self) -> Attachment:
        """Take the run's lock, and read what an earlier try left.

        Raises:
            TrackingError: if another process holds the lock, or the state cannot be read.
        """
        self._lock = take(self.folder)
        try:
            if self._file.is_file():
                self.state = State(**json.loads(self._file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            self._lock.release()
            raise TrackingError(
                f"{self._file}: not the state of a hosted run ({error}). Its job is in the run's "
                f"tags; delete {self.folder} to begin a new one."
            ) from error
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failed = error is not None and (self.state.asked or self.state.tries > 0)
        if failed or (self.state.asked and self._of_trial):
            self._lock.release()
        else:
            remove(self.folder, self._lock)
            self._lock.release()

    def keep(self, **changes: Any) -> None:
        """Write down what has become known, before anything else happens."""
        self.state = replace(self.state, **changes)
        make_folder(self.folder)
        with replacing(self._file, durable=True) as made:
            made.write_text(json.dumps(asdict(self.state)), encoding="utf-8")

    def forget(self) -> None:
        """Have the next try begin a new job: this one failed, was cancelled or is gone."""
        for answers in self.folder.glob("answers-*.jsonl"):  # of its model
            answers.unlink()
        self.keep(asked=False, job=None, tries=self.state.tries + 1)

    @property
    def remedy(self) -> str:
        """How the next try goes on with the job; empty where there is none."""
        how = "retry` with the study's name" if self._of_trial else f"resume {self.folder.name}`"
        if not self.state.asked:
            return ""
        return f"`tunewright {how} goes on with its job; to begin a new one delete {self.folder}."

    def answers(self, split: str) -> dict[str, dict[str, Any]]:
        """Return the replies that an earlier try was given, by row id."""
        path = self._answers(split)
        found = {}
        for line in path.read_bytes().split(b"\n") if path.is_file() else ():
            with suppress(ValueError):  # the last line of a killed process
                row_id, reply = json.loads(line)
                found[row_id] = reply
        return found

    def keep_answer(self, split: str, row_id: str, reply: dict[str, Any]) -> None:
        """Write down a reply, which is paid; threads may call this at the same time."""
        with self._writing, make_file(self._answers(split)).open("a", encoding="ascii") as file:
            file.write(f"\n{json.dumps([row_id, reply])}")  # after a line that a kill cut off

    def _answers(self, split: str) -> Path:
        return self.folder / f"answers-{split}.jsonl"
