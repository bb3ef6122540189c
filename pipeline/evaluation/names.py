"""How metrics are named and which way they get better; imports nothing heavy."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from pipeline.common.contract import Direction
from pipeline.common.languages import suffix

# Of groups of rows, and of answers that a swapped term changes.
WORST_GROUP, GROUP_GAP = "worst_group_f1", "worst_group_gap"
FLIP_RATE, SHIFT = "counterfactual_flip_rate", "counterfactual_shift"
SLICE_METRICS: Mapping[str, Direction] = {WORST_GROUP: "maximize", GROUP_GAP: "minimize"}
SWAP_METRICS: Mapping[str, Direction] = {FLIP_RATE: "minimize", SHIFT: "minimize"}


# Of the evaluation whose weights are kept, and how the metrics of evaluations begin.
BEST_STEP, BEST_EPOCH = "best/step", "best/epoch"
EVALUATED = ("val/", "early/")
SPLIT_NAMES = {"val": "validation", "test": "test"}  # by how metrics of a split begin

MOST = 200  # characters of a label in a metric's name; MLflow's names end at 250
_FORBIDDEN = re.compile(r"(?!(?<=\d)\.(?=\d))[^\w\- ]")  # a decimal point may stay
_SHORTENED = re.compile(rf".{{{MOST}}}\.[0-9a-f]{{16}}")
_WRITTEN = re.compile(r"\.([a-z][a-z0-9 -]*)\.")


def metric_name(label: str) -> str:
    """Return a label as part of a metric's name: another one for each label.

    MLflow allows letters, digits, ``_``, ``-``, ``.`` and spaces; every other character becomes its
    Unicode name between points: ``C++`` is ``C.plus sign..plus sign.``. A name that would be too
    long ends with a digest.
    """
    label = unicodedata.normalize("NFC", label)
    name = _FORBIDDEN.sub(lambda found: f".{_spelt(found[0])}.", label)
    if len(name) <= MOST:
        return name
    digest = hashlib.blake2b(label.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{name[:MOST]}.{digest}"


def _spelt(character: str) -> str:
    return unicodedata.name(character, f"u{ord(character):04x}").lower()


def logged_name(metric: str) -> str:
    """Return a metric's full name as it is logged: ``val/f1/C+`` is ``val/f1/C.plus sign.``.

    A name that is logged so is returned as it is.
    """
    *groups, label = metric.split("/", 2)
    spelt = metric_name(label_in(label)) == label
    is_logged = spelt or _SHORTENED.fullmatch(label)
    return "/".join([*groups, label if is_logged else metric_name(label)])


def label_in(name: str) -> str:
    """Return the label that a metric's name is made of, if it is not shortened."""
    return _WRITTEN.sub(_character, name)


def _character(written: re.Match[str]) -> str:
    """Return the character that is written as its name."""
    name = written[1]
    if re.fullmatch("u[0-9a-f]{4,6}", name):  # it has none
        return chr(int(name[1:], 16))
    try:
        return unicodedata.lookup(name)
    except KeyError:
        return written[0]


def is_detail(name: str) -> bool:
    """Whether a metric, without its split, is of one label, or an average that adds little."""
    return "/" in name or name in ("precision_weighted", "recall_weighted")


def is_cost(metric: str) -> bool:
    """Whether a metric is what a run costs, in seconds: no two runs have the same."""
    return metric.startswith(("cost/", "time/"))


def summary_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.summary_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return {f"rouge{kind}{mark}": "maximize" for kind in ("1", "2", "L", "Lsum")}


def translation_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.translation_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return {f"bleu{mark}": "maximize", "chrf": "maximize", f"ter{mark}": "minimize"}


def answer_metrics(language: str) -> dict[str, Direction]:
    """Return what `answers.answer_scores` scores, and which way each gets better."""
    names = ("exact_match", f"f1{suffix(language)}", "no_answer_accuracy")
    return dict.fromkeys(names, "maximize")


def reply_metrics(language: str) -> dict[str, Direction]:
    """Return what `text.reply_scores` scores, and which way each gets better."""
    mark = suffix(language)
    return dict.fromkeys(("exact_match", f"rouge1{mark}", f"rougeL{mark}"), "maximize")
