"""Writes the very rows that our runs train on and are judged by, for the rivals to read.

python rows.py --out DIR [OVERRIDE …]     # data.max_train_samples=64 …
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.data import Rows
from pipeline.models import find_checkpoint
from pipeline.training.prepare import splits_of, task_of

ROWS = ("data.max_train_samples=1000", "data.max_validation_samples=500")


def main() -> None:
    """Write train.jsonl, validation.jsonl, about.json, and a copy of the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", default=list(ROWS))
    export(**vars(parser.parse_args()))


def export(out: Path, overrides: list[str]) -> None:
    """Compose a run as the command line does, and write what it would read."""
    with hydra_app("rows") as hydra:
        experiment = validate(without_hydra(compose(hydra, overrides)))
    splits, labels = splits_of(experiment), list(task_of(experiment).labels)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "train.jsonl", splits.train, labels)
    write(out / "validation.jsonl", splits.validation, labels)
    # (b) has an environment of its own: it reads the model from here, as the others do.
    shutil.copytree(find_checkpoint(experiment.model).location, out / "model", dirs_exist_ok=True)
    about = {"labels": labels, "train": len(splits.train), "validation": len(splits.validation)}
    (out / "about.json").write_text(json.dumps(about), encoding="utf-8")


def write(path: Path, rows: Rows, labels: list[str]) -> None:
    """Write a split: a text and the position of its label a line."""
    with path.open("w", encoding="utf-8") as stream:
        for text, label in zip(rows["text"], rows["label"], strict=True):
            stream.write(json.dumps({"text": text, "label": labels.index(label)}) + "\n")


if __name__ == "__main__":
    main()
