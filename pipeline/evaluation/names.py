"""How metrics are named and which way they get better; imports nothing heavy."""

import re
from typing import Literal

Direction = Literal["maximize", "minimize"]


def metric_name(label: str) -> str:
    """Return a label as part of a metric's name: MLflow allows letters, digits, ``_``, ``-``."""
    return re.sub(r"[^\w\- ]", "_", label)


def logged_name(metric: str) -> str:
    """Return a metric's full name as it is logged: ``val/f1/so so!`` is ``val/f1/so so_``."""
    *groups, label = metric.split("/", 2)
    return "/".join([*groups, metric_name(label)])


def is_cost(metric: str) -> bool:
    """Whether a metric is what a run costs, in seconds: no two runs have the same."""
    return metric.startswith("cost/")
