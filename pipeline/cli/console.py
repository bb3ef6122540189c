"""What a single run shows on the terminal."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.common.tables import Cell, Table, render
from pipeline.common.text import printable_lines
from pipeline.config.experiment import Experiment
from pipeline.evaluation.names import SLICE_METRICS, SWAP_METRICS
from pipeline.tasks import get_task
from pipeline.training.outcome import RUN_LOGGER, Result


class _Printable(logging.Formatter):
    """Labels and the like are somebody else's texts."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


@contextmanager
def run_on_console() -> Iterator[Callable[[Result, Experiment], None]]:
    """Print a run's own log lines while it lasts; yield what prints its result."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Printable())
    logger = logging.getLogger(RUN_LOGGER)
    logger.addHandler(handler)
    try:
        yield _say_result
    finally:
        logger.removeHandler(handler)


def _say_result(result: Result, experiment: Experiment) -> None:
    split = "test" if experiment.evaluation.test else "val/best"
    judged = "test" if experiment.evaluation.test else "val"
    trivial = get_task(experiment.task).baseline_name
    scores: list[list[Cell]] = []
    for name, value in result.metrics.items():
        metric = name.removeprefix(f"{split}/")
        baseline = result.metrics.get(f"{judged}/{trivial}/{metric}")
        if name != metric and baseline is not None and "/" not in metric:
            scores.append([f"{split}/{metric}", f"{value:.4f}", f"{baseline:.4f}"])
    print("\n" + render(Table(["", "model", trivial], scores, left=[""]), "table"), end="")
    for metric in (*SLICE_METRICS, *SWAP_METRICS):  # no baseline has them
        if f"{split}/{metric}" in result.metrics:
            print(f"{metric}: {result.metrics[f'{split}/{metric}']:.4f} (bias.html has more)")
    print(f"\nscore {experiment.evaluation.objective} {result.score:.4f}, run {result.run_id}")
