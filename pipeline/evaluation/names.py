"""How metrics are named and which way they get better; imports nothing heavy."""

import re
from collections.abc import Mapping

from pipeline.common.contract import Direction
from pipeline.common.languages import suffix

# Of groups of rows, and of answers that a swapped term changes.
WORST_GROUP, GROUP_GAP = "worst_group_f1", "worst_group_gap"
FLIP_RATE, SHIFT = "counterfactual_flip_rate", "counterfactual_shift"
SLICE_METRICS: Mapping[str, Direction] = {WORST_GROUP: "maximize", GROUP_GAP: "minimize"}
SWAP_METRICS: Mapping[str, Direction] = {FLIP_RATE: "minimize", SHIFT: "minimize"}


def metric_name(label: str) -> str:
    """Return a label as part of a metric's name: MLflow allows letters, digits, ``_``, ``-``."""
    return re.sub(r"[^\w\- ]", "_", label)


def logged_name(metric: str) -> str:
    """Return a metric's full name as it is logged: ``val/f1/so so!`` is ``val/f1/so so_``."""
    *groups, label = metric.split("/", 2)
    return "/".join([*groups, metric_name(label)])


def is_cost(metric: str) -> bool:
    """Whether a metric is what a run costs, in seconds: no two runs have the same."""
    return metric.startswith(("cost/", "time/"))


def summary_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.summary_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return {f"rouge{kind}{mark}": "maximize" for kind in ("1", "2", "L", "Lsum")}


def translation_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.translation_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return {f"bleu{mark}": "maximize", "chrf": "maximize", f"ter{mark}": "minimize"}


def answer_metrics(language: str) -> dict[str, Direction]:
    """Return what `answers.answer_scores` scores, and which way each gets better."""
    names = ("exact_match", f"f1{suffix(language)}", "no_answer_accuracy")
    return dict.fromkeys(names, "maximize")


def reply_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.reply_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return dict.fromkeys(("exact_match", f"rouge1{mark}", f"rougeL{mark}"), "maximize")
