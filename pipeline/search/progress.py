"""What a sweep shows while it runs and when it ends, read from the study alone."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.search.space import encode
from pipeline.search.study import REASON, StudySpec, best_first, counted, finished

POLL_SECONDS = 0.5
SHOWN_LIVE = 12  # the latest trials on a terminal


class Progress:
    """Follows a study: a live table on a terminal, a line a finished trial elsewhere.

    It reads the study's storage, so it sees the trials of workers in other processes too.
    """

    def __init__(self, spec: StudySpec, console: Console) -> None:
        self._spec = spec
        self._console = console
        self._study = spec.open()
        self._told = {t.number for t in finished(self._study)}
        self._before = len(self._told)
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._stop.set()
            self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._print_new()
        self._print_new()

    def _print_new(self) -> None:
        for trial in finished(self._study):
            if trial.number not in self._told:
                self._told.add(trial.number)
                self._console.print(
                    f"trial {trial.number}: {describe(trial)}; {self._summary()}",
                    highlight=False,
                    soft_wrap=True,
                )

    def _summary(self) -> str:
        done = finished(self._study)
        ranked = best_first(self._study)
        parts = [f"{len(done)} of {self._spec.n_trials} done"]
        if ranked:
            parts.append(f"best {ranked[0].values[0]:.4f} (trial {ranked[0].number})")
        here = len(done) - self._before
        if here and len(done) < self._spec.n_trials:
            left = (time.monotonic() - self._started) / here * (self._spec.n_trials - len(done))
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _render(self) -> Group:
        table = trial_table(self._spec, counted(self._study)[-SHOWN_LIVE:])
        return Group(table, Text(f"{self._spec.name}: {self._summary()}"))


def describe(trial: FrozenTrial) -> str:
    """Return a finished trial in a line."""
    params = ", ".join(f"{key}={encode(value)}" for key, value in trial.params.items())
    if trial.state == TrialState.COMPLETE:
        return f"{_score(trial)} in {_seconds(trial)} with {params}"
    return f"failed in {_seconds(trial)} with {params}: {trial.user_attrs.get(REASON, '')}"


def trial_table(spec: StudySpec, trials: list[FrozenTrial]) -> Table:
    """Return trials as a table: number, what was searched, score, state and time."""
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", justify="right")
    for dimension in spec.space.dimensions:
        table.add_column(dimension.key, justify="right")
    table.add_column("score", justify="right")
    table.add_column("state")
    table.add_column("time", justify="right")
    for trial in trials:
        params = (encode(trial.params.get(d.key, "")) for d in spec.space.dimensions)
        state = "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
        table.add_row(str(trial.number), *params, _score(trial), state, _seconds(trial))
    return table


def summary_lines(study: optuna.Study, spec: StudySpec) -> list[str]:
    """Return what to say of a search at its end, failures with their reasons included."""
    ended, failed = finished(study), finished(study, TrialState.FAIL)
    lines = [f"{spec.name}: {len(ended)} of {spec.n_trials} trials done, {len(failed)} failed."]
    lines += [f"trial {t.number} failed: {t.user_attrs.get(REASON, '')}" for t in failed]
    return lines


def _score(trial: FrozenTrial) -> str:
    return ", ".join(f"{v:.4f}" for v in trial.values or ())


def _seconds(trial: FrozenTrial) -> str:
    if trial.datetime_start is None:
        return ""
    if trial.datetime_complete is None:
        return _duration(time.time() - trial.datetime_start.timestamp())
    return _duration((trial.datetime_complete - trial.datetime_start).total_seconds())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
