"""The card of a kept model, made from its run's record: what it is, its scores, how it was made.

Nothing is in it that only this machine has: no path, no user, no row of the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import TrackingError
from pipeline.common.tables import Cell, Table, render
from pipeline.config.migrations import migrated
from pipeline.config.untrusted import read_config
from pipeline.evaluation.names import SPLIT_NAMES, is_cost
from pipeline.serving import description
from pipeline.tracking import tags
from pipeline.tracking.card_source import CardSource, card_source
from pipeline.tracking.metrics import metrics_of
from pipeline.tracking.overview import objectives_of
from pipeline.tracking.record import CONFIG_FILE, INPUTS_FILE
from pipeline.tracking.runs import read_json, read_text

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.tracking.store import Store

# The hub's names of tasks, where they are not ours with a dash.
_TASKS = {
    "classification": "text-classification",
    "regression": "text-classification",
    "chat": "text-generation",
    "preference": "text-generation",
}
_WRITING = (
    "summarization",
    "translation",
    "chat",
    "preference",
)  # whose texts are of task.language
# How the names of architectures end: those with a head, and encoder-decoders.
_WITH_HEAD = re.compile("For[A-Z][A-Za-z]+(Classification|Answering)$")
_ENCODER_DECODERS = ("ForConditionalGeneration", "MTModel")
# What a reader asks first of how it was trained.
_SETTINGS = (
    "soup.trials",  # of trials whose weights are averaged
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

Your texts may differ more from those of training than these rows do: try the model on yours first.

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

Trained with tunewright {version}, in the MLflow run `{run}`. Whoever has its MLflow store can make
it again: `tunewright rerun {run}`.
"""


def model_card(store: Store, run: Run, folder: Path, repository: str) -> str:
    """Return the card of the model in a folder, which a run keeps, for a repository of the hub."""
    from huggingface_hub import ModelCardData

    inputs = read_json(store, run, INPUTS_FILE) or {}
    model, data = inputs.get("model", {}), inputs.get("data", {})
    source = card_source(_config(store, run)["data"], data.get("source", ""))
    params, scores = run.data.params, _scores(run)
    name = params["task.name"]
    task = _TASKS.get(name, name.replace("_", "-"))
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        language=params.get("task.language") if name in _WRITING else None,
        base_model=model["name"] if model.get("commit") else None,  # else a folder or a package's
        datasets=[source.type] if source.is_on_hub else None,
        metrics=_metrics(run) or None,
        model_name=repository.rpartition("/")[2],
        eval_results=list(_results(task, source, scores)),
        tags=["tunewright"],
    )
    labels = run.data.tags.get(f"{tags.PREFIX}labels")
    text = _TEXT.format(
        name=repository.rpartition("/")[2],
        base=_name(model) or "A model",
        task=name.replace("_", " "),
        data=source.name,
        rows=", ".join(f"{of['rows']:,} {split}" for split, of in data.get("splits", {}).items()),
        labels=f"Labels: {labels}." if labels else "",
        scores=_table("metric", scores),
        auto=_auto_class(folder),
        repository=repository,
        settings=_table("key", {"value": _settings(params)}),
        version=description.read(folder).tunewright,
        run=run.info.run_id,
    )
    return f"---\n{front.to_yaml()}\n---\n{text}"


def _config(store: Store, run: Run) -> dict[str, Any]:
    text = read_text(store, run, CONFIG_FILE)
    if text is None:
        raise TrackingError(f"run {run.info.run_id}: has no artifact {CONFIG_FILE}.")
    return migrated(read_config(text.encode(), f"run {run.info.run_id}, {CONFIG_FILE}"))


def _auto_class(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = next(iter(config.get("architectures") or [""]))
    if head := _WITH_HEAD.search(name):
        return f"AutoModel{head[0]}"
    if name.endswith(_ENCODER_DECODERS):
        return "AutoModelForSeq2SeqLM"
    is_bare = name.endswith("Model") and not name.endswith("HeadModel")
    return "AutoModel" if is_bare else "AutoModelForCausalLM"


def _name(model: Mapping[str, Any]) -> str:
    """Return what the base model is called: on the hub, or without its folder."""
    name = str(model.get("name", ""))
    return name if model.get("commit") else Path(name).name


def _metrics(run: Run) -> list[str]:
    """Return the metrics that judged the run, without split, label and aggregation."""
    goals = (goal.partition("@")[0].split("/") for goal in objectives_of(run) if not is_cost(goal))
    return list(dict.fromkeys(parts[1] for parts in goals if len(parts) > 1))


def _settings(params: Mapping[str, str]) -> dict[str, str]:
    given = {key: params[key] for key in _SETTINGS if params.get(key, "None") != "None"}
    if "training.max_steps" in given:
        given.pop("training.epochs", None)  # the steps decide
    return given


def _scores(run: Run) -> dict[str, dict[str, float]]:
    """Return the run's scores by split and metric."""
    found: dict[str, dict[str, float]] = {}
    for metric, value in metrics_of(run).items():
        split, _, name = metric.partition("/")
        if split in SPLIT_NAMES:
            found.setdefault(SPLIT_NAMES[split], {})[name] = value
    return found


def _results(
    task: str, source: CardSource, scores: Mapping[str, Mapping[str, float]]
) -> Iterable[Any]:
    from huggingface_hub import EvalResult

    for split, of in scores.items():
        for name, value in of.items():
            if "/" not in name:  # else a baseline's, or of a label
                yield EvalResult(
                    task,
                    source.type,
                    source.name,
                    name,
                    value,
                    dataset_config=source.subset,
                    dataset_split=split,
                    dataset_revision=source.revision,
                )


def _table(first: str, columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return values by column and row as a table in Markdown."""
    names = dict.fromkeys(name for of in columns.values() for name in of)
    rows: list[list[Cell]] = [[name, *(of.get(name) for of in columns.values())] for name in names]
    return render(Table([first, *columns], rows), "md").strip()
