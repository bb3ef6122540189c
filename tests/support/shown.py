"""What commands show, figure by figure, and the primary records that it is recomputed from."""

import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from pipeline.cli import main
from tests.support.stores import Made, artifact, forget
from tests.support.studies import open_study

ROWS, TEST, VALIDATION = 120, 12, 11  # a tenth, then a tenth of the rest
TRAIN = ROWS - TEST - VALIDATION
STUDIES = ("two", "several", "promoted")
WATTS = 10.0  # of a core, in conf/
N = r"(-?[\d.,]+(?:e[-+]?\d+)?)"  # a figure
# Scores of one objective or two, each with its spread over several seeds.
MEMBERS = rf"{N}(?: ± {N})?(?:, {N}(?: ± {N})?)?"
SCORE_KINDS = ("f1", "precision", "recall")
Entry = tuple[str, Callable[[re.Match[str]], None]]  # a line's pattern, and the check of its groups


@dataclass(frozen=True)
class Shown(Made):
    """A folder in which commands were given, each as in a fresh process, and what they said."""

    def give(self, name: str, *argv: str) -> None:
        """Give a command and keep what it says under a name."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            patch.chdir(self.folder)
            forget()
            assert main(argv) == 0, said.getvalue()
        (self.folder / f"{name}.out").write_text(said.getvalue(), encoding="utf-8")

    def said(self, name: str) -> str:
        """Return what a command said."""
        return (self.folder / f"{name}.out").read_text(encoding="utf-8")

    def journal(self, study: str) -> list:
        """Return the trials of a study in Optuna's record."""
        return open_study(self.folder / "mlruns" / "studies" / study).trials

    def study(self, name: str) -> Any:
        """Return a study's run."""
        return next(r for r in self.runs("study") if r.data.tags["tunewright.study"] == name)

    def trials(self, study: str) -> list:
        """Return the runs of a study's trials, by number and repeat."""
        own = [r for r in self.runs("trial") if r.data.tags["tunewright.study"] == study]
        return sorted(own, key=_place)

    def points(self, run: Any, metric: str) -> dict[int, float]:
        """Return a metric's values by step, without what closes the history of an evaluation's.

        A trial that pauses closes it then, and again at its end.
        """
        history = self.client.get_metric_history(run.info.run_id, metric)
        own: dict[int, float] = {}
        for point in sorted(history, key=lambda p: p.timestamp):
            own.setdefault(point.step, point.value)
        assert metric.startswith("val/") or len(own) == len(history), f"{metric} twice at a step"
        return own


def _place(run: Any) -> tuple[int, int]:
    tags = run.data.tags
    return int(tags["tunewright.trial"]), int(tags.get("tunewright.repeat", 0))


def clock(run: Any) -> float:
    """Return the seconds from a run's start to its end, by MLflow."""
    return (run.info.end_time - run.info.start_time) / 1000


def predictions(run: Any) -> dict[str, list]:
    """Return the logged rows with their predictions, by column."""
    table = json.loads(artifact(run, "predictions.json").read_text(encoding="utf-8"))
    return dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))


def scores(truth: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Return the metrics of a classification by scikit-learn."""
    labels = sorted(set(truth) | set(predicted))
    found = {"accuracy": sk.accuracy_score(truth, predicted)}
    functions = (sk.f1_score, sk.precision_score, sk.recall_score)
    for kind, score in zip(SCORE_KINDS, functions, strict=True):
        for average in ("macro", "weighted"):
            found[f"{kind}_{average}"] = score(
                truth, predicted, average=average, zero_division=0.0, labels=labels
            )
        each = score(truth, predicted, average=None, zero_division=0.0, labels=labels)
        found |= {f"{kind}/{name}": value for name, value in zip(labels, each, strict=True)}
    return {name: float(value) for name, value in found.items()}


def best_scores(run: Any) -> dict[str, float]:
    """Return the metrics of a run's best weights, from its logged predictions."""
    table = predictions(run)
    shares = [p[label] for p, label in zip(table["probabilities"], table["label"], strict=True)]
    return {
        **scores(table["label"], table["prediction"]),
        "loss": float(-np.log(shares).mean()),
    }


def bytes_of(folder: Path) -> int:
    """Return the size of all files below a folder, by ``du``."""
    said = subprocess.run(
        ["du", "--apparent-size", "--bytes", "--summarize", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    return int(said.stdout.split()[0]) - sum(path.stat().st_size for path in folders)


def same(shown: str, value: float, digits: int | None = None) -> None:
    """Check that a figure is a value, rounded to what is shown or to so many digits."""
    number = float(shown.replace(",", ""))
    if digits is not None:
        assert f"{number:.{digits}g}" == f"{value:.{digits}g}", f"shown {shown}, is {value}"
        return
    mantissa, _, power = shown.lower().partition("e")
    places = len(mantissa.partition(".")[2])
    step = 10.0**-places * 10.0 ** int(power or 0)
    assert math.isclose(number, value, abs_tol=0.501 * step), f"shown {shown}, is {value}"


def check_lines(text: str, entries: Sequence[Entry]) -> int:
    """Check each line that shows a figure by the first entry whose pattern it fits.

    Returns:
        How many figures were checked: the groups of the patterns.
    """
    checked = 0
    used: set[str] = set()
    for line in text.splitlines():
        if not re.search(r"\d", line.replace(sys.executable, "")):
            continue
        for pattern, check in entries:
            found = re.fullmatch(pattern, line.strip())
            if found:
                check(found)
                used.add(pattern)
                checked += len(found.groups())
                break
        else:
            raise AssertionError(f"a line with figures that nothing checks: {line!r}")
    unused = [pattern for pattern, _ in entries if pattern not in used]
    assert not unused, f"no line fits: {unused}"
    return checked


def check_metrics(run: Any, expected: Mapping[str, Any]) -> int:
    """Check each metric of a run by the first entry whose pattern its name fits.

    Args:
        run: the run.
        expected: a number, or a check of the value, by patterns of names.

    Returns:
        How many metrics were checked.
    """
    for name, value in run.data.metrics.items():
        fitting = [entry for pattern, entry in expected.items() if re.fullmatch(pattern, name)]
        assert fitting, f"a metric that nothing checks: {name}"
        right = fitting[0]
        if callable(right):
            assert right(name, value), f"{name} = {value}"
        else:
            assert math.isclose(value, right, rel_tol=1e-4, abs_tol=1e-6), (
                f"{name} = {value}, is {right}"
            )
    missing = [p for p in expected if not any(re.fullmatch(p, n) for n in run.data.metrics)]
    assert not missing, f"not logged: {missing}"
    return len(run.data.metrics)


def ran(shown: Shown, run: Any) -> float:
    """Return the seconds that a run ran: by MLflow's clock; of a paused one as it was logged.

    That is compared with Optuna's clock, which also has what a trial does around its run.
    """
    tags = run.data.tags
    if "tunewright.trial" not in tags:
        return clock(run)
    trial = shown.journal(tags["tunewright.study"])[int(tags["tunewright.trial"])]
    known = trial.user_attrs
    if "paused_since" not in known:
        return clock(run)
    logged: float = run.data.metrics["time/run_seconds"]
    end = known["paused_since"] or trial.datetime_complete.timestamp()
    around = end - trial.datetime_start.timestamp() - known.get("waited", 0.0) - logged
    assert 0 <= around < 0.2 * logged + 2, f"{around} s around the run"
    return logged


def in_order(runs: Sequence[Any]) -> list[Any]:
    """Return runs in the order in which they ended."""
    return sorted(runs, key=lambda run: run.info.end_time)


def total(count: int, surface: str) -> None:
    """Say how many figures of a surface were checked."""
    print(f"{count} figures of {surface} checked")


def ignore(_: re.Match[str]) -> None:
    """Accept what is an estimate, and nothing that can be computed again."""


def parameters(run) -> int:
    """Count the parameters of a model of the run's config, with a new head."""
    from transformers import AutoConfig, BertForSequenceClassification

    config = AutoConfig.from_pretrained(run.data.params["model.checkpoint"], num_labels=2)
    return sum(p.numel() for p in BertForSequenceClassification(config).parameters())


def check_scores(shown: Shown, study: str, number: int, texts) -> None:
    """Check scores as they are shown: the mean over a trial's seeds, with its spread."""
    of_seeds = f1_of(shown, study, number)
    second = [parameters(shown.trials(study)[0])] * len(of_seeds)
    for (mean, spread), values in zip([texts[:2], texts[2:]], [of_seeds, second], strict=True):
        if mean:
            same(mean, fmean(values))
        if spread:
            same(spread, stdev(values))


def f1_of(shown: Shown, study: str, number: int) -> list[float]:
    """Return the F1 of each of a trial's runs: of a pruned one what it reported last."""
    trial = shown.journal(study)[number]
    if states(shown, study)[number] == "pruned":
        return [trial.intermediate_values[max(trial.intermediate_values)]]
    return [best_scores(run)["f1_macro"] for run in runs_of(shown, study, number)]


def runs_of(shown: Shown, study: str, number: int) -> list[Any]:
    """Return a trial's runs, one a seed."""
    return [r for r in shown.trials(study) if r.data.tags["tunewright.trial"] == str(number)]


def seconds_of(shown: Shown, study: str, number: int) -> float:
    """Return the seconds of a trial's runs."""
    return sum(ran(shown, run) for run in runs_of(shown, study, number))


def states(shown: Shown, study: str) -> list[str]:
    """Return the state of each trial, by Optuna's record."""
    failed = [("reason" in t.user_attrs and "failed") for t in shown.journal(study)]
    own = [t.state.name.lower() for t in shown.journal(study)]
    return [bad or state for bad, state in zip(failed, own, strict=True)]


def disk_of(shown: Shown, study: str) -> int:
    """Return the bytes of the artifacts and models of a study's trials, by ``du``."""
    folders = [artifact(run, name) for run in shown.trials(study) for name in ("", "model")]
    return sum(bytes_of(folder) for folder in folders if folder.is_dir())
