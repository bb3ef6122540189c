"""What a single run shows on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.api.shown import run_lines
from pipeline.common.tables import Cell, Table, render
from pipeline.config.experiment import Experiment
from pipeline.evaluation.names import SLICE_METRICS, SWAP_METRICS, is_detail
from pipeline.tasks import get_task
from pipeline.training.outcome import Result


@contextmanager
def run_on_console() -> Iterator[Callable[[Result, Experiment], None]]:
    """Print a run's own log lines while it lasts; yield what prints its result."""
    with run_lines():
        yield say_result


def say_result(result: Result, experiment: Experiment) -> None:
    """Print a run's scores next to the trivial baseline's, and where it is."""
    split = "test" if experiment.evaluation.test else "val"
    trivial = get_task(experiment.task).baseline_name
    scores: list[list[Cell]] = []
    for name, value in result.metrics.items():
        metric = name.removeprefix(f"{split}/")
        baseline = result.metrics.get(f"{split}/{trivial}/{metric}")
        if name != metric and baseline is not None and not is_detail(metric):
            scores.append([f"{split}/{metric}", f"{value:.4f}", f"{baseline:.4f}"])
    print("\n" + render(Table(["", "model", trivial], scores, left=[""]), "table"), end="")
    for metric in (*SLICE_METRICS, *SWAP_METRICS):  # no baseline has them
        if f"{split}/{metric}" in result.metrics:
            print(f"{metric}: {result.metrics[f'{split}/{metric}']:.4f} (bias.html has more)")
    print(f"\nscore {experiment.evaluation.objective} {result.score:.4f}, run {result.run_id}")
