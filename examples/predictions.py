"""Print rows of the predictions that the latest run below ./mlruns logged, a column a line.

python examples/predictions.py 3
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WIDTH = 200  # characters of a value


def main() -> None:
    """Print as many rows as the command line says."""
    path = max(Path("mlruns").rglob("predictions.json"), key=lambda path: path.stat().st_mtime)
    table = json.loads(path.read_text(encoding="utf-8"))
    for row in table["data"][: int(sys.argv[1])]:
        for column, value in zip(table["columns"], row, strict=True):
            text = " ".join(str(value).split())
            print(f"{column}: {text[:WIDTH]}{'…' if len(text) > WIDTH else ''}")
        print()


if __name__ == "__main__":
    main()
