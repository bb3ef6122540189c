"""The labels of each split: their counts, spelling variants, rare and missing ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import chain

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.report import Finding
from pipeline.common.errors import amount, listing
from pipeline.common.tables import Cell, Table
from pipeline.config.compose import literal
from pipeline.config.refusals import in_shell
from pipeline.data.values import folded

RARE = 10  # training rows below which a label is hardly learned
MAJORITY = 0.9  # share of the training rows from which one label drowns the others


def label_table(corpus: Corpus, *, are_split: bool = True) -> Table:
    """Return the rows with each label in each split, and their share of the first one's rows.

    The most frequent label comes first. Rows may have several labels, and then the shares sum to
    more than 1. Of rows that could not be split the columns say so.
    """
    counts = _counts(corpus)
    rows: list[list[Cell]] = []
    first = next(iter(corpus.splits.values()))
    for label, _ in _every(corpus).most_common():
        own = [counts[split][label] for split in corpus.splits]
        rows.append([label, *own, round(own[0] / max(1, len(first.ids)), 4)])
    columns = [f"{split} {'split' if are_split else 'read'}" for split in corpus.splits]
    return Table(("label", *columns, f"share of {columns[0]}"), rows)


def label_findings(corpus: Corpus) -> list[Finding]:
    """Find labels that are variants of one, mean none, are rare, are missing, or drown others.

    Rows of a task without labels have none.
    """
    counts = _counts(corpus)
    every = _every(corpus)
    if not every:
        return []
    return [
        *_twins(corpus, every),
        *_missing(corpus, every),
        *_rare(corpus, counts),
        *(_balance(counts) if corpus.shape.has_one_label else ()),
    ]


def _counts(corpus: Corpus) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {split: Counter() for split in corpus.splits}
    for split, names in zip(corpus.split, corpus.labels, strict=True):
        counts[split].update(names)
    return counts


def _every(corpus: Corpus) -> Counter[str]:
    return Counter(chain.from_iterable(corpus.labels))


def _with(corpus: Corpus, labels: set[str]) -> list[list[str]]:
    """Return the ids of rows that have one of these labels."""
    pairs = zip(corpus.ids, corpus.labels, strict=True)
    return [[row_id] for row_id, names in pairs if labels.intersection(names)]


def spellings(corpus: Corpus) -> dict[str, str]:
    """Return the most frequent spelling of each label that differs from it in case alone.

    Numbers are left as they are: 1.1 and 1.10 may be versions or sections.
    """
    groups = _spelt(_every(corpus), str.casefold)
    return {label: usual for usual, *others in groups for label in others}


def _spelt(every: Counter[str], name_of: Callable[[str], str]) -> Iterable[list[str]]:
    """Return the labels in groups of one name, the most frequent spelling of each first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, _ in every.most_common():
        groups[name_of(label)].append(label)
    return groups.values()


def _twins(corpus: Corpus, every: Counter[str]) -> list[Finding]:
    found = []
    for usual, *others in _spelt(every, folded):
        if others:
            twins = listing(f"{label!r} ({amount(every[label], 'row')})" for label in others)
            message = f"the label {usual!r} ({amount(every[usual], 'row')}) is also written {twins}"
            found.append(Finding.about("warning", "label", message, _with(corpus, set(others))))
    return found


def _missing(corpus: Corpus, every: Counter[str]) -> list[Finding]:
    """Find words for missing values, unless data.missing_labels says which ones are."""
    words = corpus.shape.doubtful_labels(label for label, _ in every.most_common())
    if not words:
        return []
    named = listing(f"{label!r} ({amount(every[label], 'row')})" for label in words)
    key = f"data.missing_labels={literal(words)}"
    message = (
        f"labels that read like missing values: {named}; {in_shell(key)} "
        "refuses their rows, and data.missing_labels=[] says that they are labels"
    )
    return [Finding.about("warning", "label", message, _with(corpus, set(words)))]


def _rare(corpus: Corpus, counts: dict[str, Counter[str]]) -> list[Finding]:
    first, *others = counts
    found = []
    rare = {label: n for label, n in counts[first].items() if n < RARE}
    if rare:
        named = listing((f"{label!r} ({n})" for label, n in rare.items()), most=5)
        message = f"{first}: labels with fewer than {RARE} rows: {named}"
        found.append(Finding.about("warning", "label", message, _with(corpus, set(rare))))
    for split in others:
        missing = sorted(counts[first].keys() - counts[split].keys())
        if missing:
            message = f"{split}: no row of {listing(map(repr, missing), most=5)}"
            found.append(Finding("warning", "label", f"{message}: it cannot be judged there"))
    return found


def _balance(counts: dict[str, Counter[str]]) -> list[Finding]:
    split, own = next(iter(counts.items()))
    label, most = own.most_common(1)[0]
    share = most / own.total()
    if share < MAJORITY:
        return []
    message = (
        f"{split}: {share:.1%} of the labels are {label!r}; accuracy means little here, f1_macro "
        "more (task.class_weights=balanced gives the other labels more weight)"
    )
    return [Finding("warning", "label", message)]
