"""What the rivals share: rows, model, a plain Trainer as its documentation has it, and the report.

It imports nothing of ours, since hydra-optuna-sweeper runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

GRIDS: dict[str, dict[str, list[Any]]] = {
    "grid8": {"learning_rate": [1e-5, 2e-5, 5e-5, 1e-4], "batch_size": [16, 32]},
    "grid27": {
        "learning_rate": [1e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4, 2e-4, 3e-4, 5e-4],
        "batch_size": [8, 16, 32],
    },
    "grid60": {  # of curves/
        "learning_rate": [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2],
        "batch_size": [8, 16, 32],
        "warmup": [0.0, 0.1],
    },
    "grid2": {"learning_rate": [5e-5, 1e-4], "batch_size": [16]},  # to see that it runs
}
RUNGS = (0.12, 0.36)  # epochs at which a search that kills looks, as sweeps/asha.yaml has it
RUNG_WARMUP = 0.02  # as there: over before the first look
NAMES = {  # of TrainingArguments
    "learning_rate": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "warmup": "warmup_steps",
}
MAX_LENGTH = 128
STARTED = "RIVAL_STARTED"  # environment: when the first process of a line began

# What tunewright's own defaults are: conf/optimizer/adamw.yaml, schedule/linear, training/default.
SAME: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_eval_batch_size": 64,
    "weight_decay": 0.01,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.06,
    "max_grad_norm": 1.0,
    "seed": 42,
    "eval_strategy": "epoch",
    "save_strategy": "no",  # its default writes 270 MB a trial; ours keeps the best model alone
    "logging_steps": 10,
}


def parse(description: str, **more: dict[str, Any]) -> argparse.Namespace:
    """Read the command line that all rivals have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", type=Path, required=True, help="what rows.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder")
    parser.add_argument("--best-effort", action="store_true", help="all that makes it faster")
    parser.add_argument("--trials", choices=GRIDS, default="grid8")
    parser.add_argument("--limit-rows", type=int, help="of each split")
    for name, options in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    given = parser.parse_args()
    given.rows, given.out = given.rows.absolute(), given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ[STARTED] = str(process_start())
    return given


def process_start() -> float:
    """Return when this process was created; by psutil alone up to a second too early on Linux."""
    created = psutil.Process().create_time()
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return created
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - (created - psutil.boot_time())
    return time.time() - age


@dataclass(frozen=True)
class Data:
    """Encoded splits and what reads them."""

    model: Path
    labels: list[str]
    tokenizer: Any
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]


@cache
def load(rows: Path, limit: int | None = None) -> Data:
    """Read the rows and turn them into unpadded token ids, once in a process."""
    from transformers import AutoTokenizer

    labels = json.loads((rows / "about.json").read_text(encoding="utf-8"))["labels"]
    tokenizer = AutoTokenizer.from_pretrained(rows / "model")
    splits = [_encode(tokenizer, rows / f"{name}.jsonl", limit) for name in ("train", "validation")]
    return Data(rows / "model", labels, tokenizer, *splits)


def _encode(tokenizer: Any, path: Path, limit: int | None) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # splitlines splits in tweets as well
    read = [json.loads(line) for line in lines]
    # The labels come in the order of the file: every n-th row keeps all of them.
    rows = read[:: max(1, len(read) // limit)][:limit] if limit else read
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=MAX_LENGTH)
    return [
        {**{name: ids[i] for name, ids in encoded.items()}, "labels": row["label"]}
        for i, row in enumerate(rows)
    ]


def new_model(data: Data) -> Any:
    """Load the model with a new head."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        data.model, num_labels=len(data.labels)
    )


def new_trainer(
    data: Data, out: Path, model: Any = None, model_init: Any = None, **more: Any
) -> Any:
    """Make a plain Trainer with dynamic padding; ``more`` is for TrainingArguments."""
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    usual = {"report_to": "none", "disable_tqdm": True, "use_cpu": not torch.cuda.is_available()}
    arguments = TrainingArguments(output_dir=str(out), **{**usual, **SAME, **more})
    return Trainer(
        model=model,
        model_init=model_init,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=data.tokenizer,
        data_collator=DataCollatorWithPadding(data.tokenizer),
        compute_metrics=macro_f1,
    )


def macro_f1(prediction: Any) -> dict[str, float]:
    """Score an evaluation."""
    from sklearn.metrics import f1_score

    predicted = prediction.predictions.argmax(-1)
    return {"f1_macro": float(f1_score(prediction.label_ids, predicted, average="macro"))}


def train_once(data: Data, out: Path, best_effort: bool, params: dict[str, Any]) -> float:
    """Train with these parameters, and return the macro F1 at the end."""
    from transformers import set_seed

    set_seed(SAME["seed"])
    trainer = new_trainer(data, out, new_model(data), bf16=best_effort, **trainer_names(params))
    trainer.train()
    scores: list[float] = [
        e["eval_f1_macro"] for e in trainer.state.log_history if "eval_f1_macro" in e
    ]
    return scores[-1]


def trainer_names(params: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's parameters under the names of TrainingArguments."""
    return {own: params[name] for name, own in NAMES.items() if name in params}


def rung_steps(rows: int, batch_size: int, shares: Sequence[float] = RUNGS) -> dict[int, float]:
    """Return the steps at which to look, each with its share of the epoch."""
    steps = math.ceil(rows / batch_size)
    return {math.ceil(share * steps - 1e-9): share for share in shares}


def note(params: dict[str, Any], score: float | None, began: float, **more: Any) -> dict[str, Any]:
    """Return what is known of a trial that ends now."""
    ended = time.time()
    since = ended - float(os.environ[STARTED])
    return {"params": params, "score": score, "seconds": ended - began, "ended": since, **more}


def finish(trials: Sequence[dict[str, Any]], *packages: str, **more: Any) -> None:
    """Print the one line that the line's results are read from."""
    result = {
        "wall": time.time() - float(os.environ[STARTED]),
        "trials": list(trials),
        "versions": {"python": platform.python_version(), **_versions(packages)},
        **more,
    }
    print(json.dumps(result), flush=True)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "accelerate", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
