"""Rows of a few words whose label shows, as records, as files and as what is read of a file."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data import Rows, Targets
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.base import Task
from pipeline.tasks.parts.labelled import Labelled
from tests.support.configs import files, model_of, task_settings

GOOD, BAD = ["good", "great", "fine", "nice", "lovely"], ["bad", "awful", "poor", "sad", "horrid"]


FILLERS = ["the", "a", "film", "book", "day", "was", "is", "very", "so", "and"]


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return reviews whose label shows in one word, all different."""
    chance = random.Random(seed)
    made: dict[str, str] = {}
    while len(made) < count:
        label = chance.choice(["neg", "pos"])
        words = [*chance.choices(FILLERS, k=5), chance.choice(GOOD if label == "pos" else BAD)]
        chance.shuffle(words)
        made.setdefault(" ".join(words), label)
    return [{"review": text, "stars": label} for text, label in made.items()]


FILES = files(train="rows.jsonl")


def labelled(pairs: Sequence[tuple[str, str]]) -> Rows:
    """Return pairs of text and label as what is read of a file; their ids are 0, 1 and so on."""
    texts, labels = zip(*pairs, strict=True)
    columns = {"text": list(texts), "label": list(labels)}
    return Rows(Labelled(FILES.columns), [str(i) for i in range(len(pairs))], columns)


def tiny_task(model: Path, counts: Mapping[str, int], max_length: int = 32, **settings) -> Task:
    """Return a classification by a model like `tiny_model`, of labels with so many rows."""
    config = task_settings("classification", **settings)
    checkpoint = find_checkpoint(model_of(model))
    return get_task(config)(config, checkpoint, max_length, Targets(counts))


def write_rows(path: Path, records: list[dict[str, str]]) -> Path:
    """Write records as jsonl."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path
