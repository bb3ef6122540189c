"""The card of a kept model, made from its run's record: what it is, its scores, how it was made.

Nothing is in it that only this machine has: no path, no user, no text of the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.common.tables import Cell, Table, render
from pipeline.evaluation.names import SPLIT_NAMES
from pipeline.tracking import tags
from pipeline.tracking.metrics import metrics_of
from pipeline.tracking.overview import objectives_of
from pipeline.tracking.record import INPUTS_FILE
from pipeline.tracking.runs import read_json

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.tracking.store import Store

# By the end of an architecture's name: the hub's task, where it is not ours, and the class to load.
_KINDS = {
    "ForSequenceClassification": ("text-classification", "AutoModelForSequenceClassification"),
    "ForQuestionAnswering": ("question-answering", "AutoModelForQuestionAnswering"),
    "ForConditionalGeneration": ("", "AutoModelForSeq2SeqLM"),
    "MTModel": ("", "AutoModelForSeq2SeqLM"),
}
_OTHER = ("text-generation", "AutoModelForCausalLM")
# What a reader asks first of how it was trained.
_SETTINGS = (
    "training.epochs",
    "training.max_steps",
    "training.batch_size",
    "training.max_length",
    "training.precision",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "schedule.name",
    "schedule.warmup",
    "adapter.name",
    "seed",
)
_TEXT = """
# {name}

{base}, fine-tuned for {task} on {data}. Rows: {rows}. {labels}

## Scores

{scores}

These rows are of the same source as those of training. On texts of other people and places the
model may do worse: try it on yours first.

## Use

```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("{repository}")
tokenizer = AutoTokenizer.from_pretrained("{repository}")
```

On a downloaded copy, `tunewright predict FOLDER --input new.jsonl --output predictions.jsonl` reads
and decodes as in training.

## Training

{settings}

Trained with tunewright {version}, in the MLflow run `{run}`: `tunewright rerun` makes it again
from that record.
"""


def model_card(store: Store, run: Run, folder: Path, repository: str) -> str:
    """Return the card of the model in a folder, which a run keeps, for a repository of the hub."""
    from huggingface_hub import ModelCardData

    inputs = read_json(store, run, INPUTS_FILE) or {}
    model, data = inputs.get("model", {}), inputs.get("data", {})
    params, scores = run.data.params, _scores(run)
    kind, auto = _kind(folder)
    task = kind or params["task.name"]
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        language=params.get("task.language"),
        base_model=model["name"] if model.get("commit") else None,  # else a folder or a package's
        datasets=data["name"] if data.get("source") == "hub" else None,
        metrics=[objective.partition("/")[2] for objective in objectives_of(run)],
        model_name=repository.rpartition("/")[2],
        eval_results=list(_results(task, _name(data), scores)),
        tags=["tunewright"],
    )
    labels = run.data.tags.get(f"{tags.PREFIX}labels")
    text = _TEXT.format(
        name=repository.rpartition("/")[2],
        base=_name(model) or "A new model",
        task=task.replace("-", " "),
        data=_name(data) or "data that its record does not name",
        rows=", ".join(f"{of['rows']:,} {split}" for split, of in data.get("splits", {}).items()),
        labels=f"Labels: {labels}." if labels else "",
        scores=_table("metric", scores),
        auto=auto,
        repository=repository,
        settings=_table(
            "key", {"value": {k: params[k] for k in _SETTINGS if params.get(k, "None") != "None"}}
        ),
        version=__version__,
        run=run.info.run_id,
    )
    return f"---\n{front.to_yaml()}\n---\n{text}"


def _kind(folder: Path) -> tuple[str, str]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = next(iter(config.get("architectures") or [""]))
    return next((kind for end, kind in _KINDS.items() if name.endswith(end)), _OTHER)


def _name(what: Mapping[str, Any]) -> str:
    """Return what a model or data set is called: on the hub, or without its folder."""
    name = str(what.get("name", ""))
    on_hub = what.get("commit") or what.get("source") == "hub"
    return name if on_hub else Path(name).name


def _scores(run: Run) -> dict[str, dict[str, float]]:
    """Return the run's scores by split and metric."""
    found: dict[str, dict[str, float]] = {}
    for metric, value in metrics_of(run).items():
        split, _, name = metric.partition("/")
        if split in SPLIT_NAMES:
            found.setdefault(SPLIT_NAMES[split], {})[name] = value
    return found


def _results(task: str, data: str, scores: Mapping[str, Mapping[str, float]]) -> Iterable[Any]:
    from huggingface_hub import EvalResult

    for split, of in scores.items():
        for name, value in of.items():
            if "/" not in name:  # else a baseline's, or of a label
                yield EvalResult(task, data, data, name, value, dataset_split=split)


def _table(first: str, columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return values by column and row as a table in Markdown."""
    names = dict.fromkeys(name for of in columns.values() for name in of)
    rows: list[list[Cell]] = [[name, *(of.get(name) for of in columns.values())] for name in names]
    return render(Table([first, *columns], rows), "md").strip()
