"""How metrics are named and which way they get better; imports nothing heavy."""

import re
from typing import Literal

Direction = Literal["maximize", "minimize"]


def metric_name(label: str) -> str:
    """Return a label as part of a metric's name: MLflow allows letters, digits, ``_``, ``-``."""
    return re.sub(r"[^\w\- ]", "_", label)
