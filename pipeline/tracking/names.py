"""Names and colours of runs, which tell one from another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pipeline.common.secrets import masked_value
from pipeline.common.text import printable
from pipeline.config.data import DataConfig, HubConfig
from pipeline.config.types import EmbeddedFile
from pipeline.tracking import tags

if TYPE_CHECKING:
    from pipeline.config.model import ModelConfig

# What practitioners write.
ABBREVIATIONS: Mapping[str, str] = {"learning_rate": "lr", "batch_size": "bs", "weight_decay": "wd"}
MOST_VALUE, MOST_NAME = 24, 120  # characters of a value, and of a name
_SEPARATOR = " · "
# MLflow gives a run one by its id, often that of another. By Okabe and Ito, then darker ones.
COLOURS: Sequence[str] = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7b4ea3", "#8c564b", "#4d4d4d", "#9a8b00"),
)


def trial_name(
    number: int, searched: Mapping[str, Any], keys: Iterable[str] = (), repeat: int | None = None
) -> str:
    """Return a trial's name: ``2 · lr=3e-4 bs=16``.

    Args:
        number: of the trial, which two trials with nearly the same values differ in.
        searched: its values by the keys of the config.
        keys: all that its study searches; by these a short key means one of them alone.
        repeat: which of the trial's seeds the run has.
    """
    short = short_keys([*keys, *searched])
    values = " ".join(f"{short[key]}={short_value(key, v)}" for key, v in searched.items())
    seed = "" if repeat is None else f"repeat {repeat}"
    return _SEPARATOR.join(filter(None, [str(number), _cut(values, MOST_NAME), seed]))


def trial_colour(number: int) -> str:
    """Return a trial's colour, which none of the nine before it has."""
    return COLOURS[number % len(COLOURS)]


def run_name(
    model: ModelConfig | str, data: DataConfig, choices: Mapping[str, str], when: datetime
) -> str:
    """Return the name of a run on its own: its model, data and time.

    A group's choice names what lies in a package, whose own name says less. The model of a service
    is its name.
    """
    chosen = choices.get("model", "")
    found = model if isinstance(model, str) else model.checkpoint or chosen or "new"
    model_name = _named(found, chosen)
    if isinstance(data, HubConfig):
        data_name = _named(data.name, "")
    else:
        data_name = _named(data.train, choices.get("data", ""), parts=2)  # often called train.csv
    return _SEPARATOR.join([model_name, data_name, f"{when:%Y-%m-%d %H:%M:%S}"])


def searched_note(searched: Mapping[str, Any]) -> str:
    """Return a trial's searched values as a tag's text; where they are long, in short."""
    shown = {key: masked_value(key, value) for key, value in searched.items()}
    text = json.dumps(shown, ensure_ascii=False, default=str)
    if len(text) <= tags.MOST_CHARACTERS:
        return text
    return json.dumps({key: short_value(key, v) for key, v in shown.items()}, ensure_ascii=False)


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return a short form of each key, that is none of another's."""
    forms = {key: list(_forms(key)) for key in keys}
    short = {}
    for key, own in forms.items():
        others = {form for other, every in forms.items() if other != key for form in every}
        short[key] = next((form for form in own if form not in others), key)
    return short


def _forms(key: str) -> Iterator[str]:
    """Yield a key's last part, its last two parts and so on, the abbreviated ones first."""
    parts = key.split(".")
    for ends in ([*parts[:-1], ABBREVIATIONS.get(parts[-1], parts[-1])], parts):
        for start in reversed(range(len(ends))):
            yield ".".join(ends[start:])


def short_value(key: str, value: Any) -> str:
    """Return a value in a few characters: ``3e-4``, ``0.1``, the last part of a path."""
    shown = masked_value(key, value)
    if isinstance(shown, float):
        return _number(shown)
    if isinstance(shown, str):
        return _cut(PurePath(shown).name or shown, MOST_VALUE)
    return _cut(json.dumps(shown, ensure_ascii=False, default=str), MOST_VALUE)


def _number(value: float) -> str:
    """Return three digits of a number, the exponent without its zeros."""
    plain = f"{value:.3g}"
    if value and not 1e-3 <= abs(value) < 1e6:
        plain = f"{value:.2e}"
    digits, mark, exponent = plain.partition("e")
    if not mark:
        return plain
    short = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{short}e{int(exponent)}"


def _named(source: Any, choice: str, parts: int = 1) -> str:
    """Return what a model or rows are called: by the last parts of where they come from."""
    if isinstance(source, EmbeddedFile):
        return _cut(choice or source.distribution, MOST_VALUE)
    if not isinstance(source, str):
        return f"{len(source)} files"
    last = PurePath(str(masked_value("", source))).parts[-parts:]
    return _cut("/".join(last), 2 * MOST_VALUE)


def _cut(text: str, most: int) -> str:
    return printable(text if len(text) <= most else f"{text[: most - 1]}…")
