"""Duplicate texts: within a split, across splits (leaks), or with conflicting labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from pipeline.analysis.data_check.corpus import Corpus, repeated
from pipeline.analysis.data_check.near import THRESHOLD, near_duplicates
from pipeline.analysis.data_check.report import Finding
from pipeline.common.errors import amount

Groups = Sequence[Sequence[int]]  # positions of rows that have a text in common


def duplicate_findings(corpus: Corpus) -> list[Finding]:
    """Find texts that are the same, the same but for case and punctuation, or nearly the same."""
    exact, normal = repeated(corpus.texts), repeated(corpus.normal)
    spelt = [g for g in normal if len({corpus.texts[i] for i in g}) > 1]
    near = nearly_repeated(corpus)
    return [
        *_leaks(corpus, exact, "the same text"),
        *_leaks(corpus, spelt, "the same text but for case, blanks and punctuation"),
        *_leaks(corpus, near, f"nearly the same text (similarity {THRESHOLD:g} or more)"),
        *_conflicts(corpus, normal),
        *_within(corpus, exact, "have the same text as another row of their split"),
        *_within(
            corpus, spelt, "differ from another row of it in case, blanks or punctuation alone"
        ),
        *_within(corpus, near, "have nearly the same text as another row of it"),
    ]


def conflicting(labels: Sequence[tuple[str, ...]], groups: Groups) -> list[list[int]]:
    """Return the groups of rows that have more than one label, or set of labels."""
    return [list(group) for group in groups if len({labels[i] for i in group}) > 1]


def nearly_repeated(corpus: Corpus) -> list[list[int]]:
    """Return groups of rows with nearly the same text; of rows with the same words the first."""
    first = {text: i for i, text in reversed(list(enumerate(corpus.normal)))}
    texts = sorted(first, key=first.__getitem__)
    return [[first[texts[i]] for i in group] for group in near_duplicates(texts)]


def _leaks(corpus: Corpus, groups: Groups, what: str) -> list[Finding]:
    """Return a warning for each two splits that share a text."""
    found = []
    for one, other in combinations(corpus.splits, 2):
        both = [
            in_two
            for group in groups
            if {one, other} <= {corpus.split[i] for i in group}
            and (in_two := [i for i in group if corpus.split[i] in (one, other)])
        ]
        if both:
            judged = sum(corpus.split[i] == other for group in both for i in group)
            share = judged / len(corpus.splits[other])
            message = (
                f"{amount(judged, 'row')} of {other} ({share:.1%}) with {what} as a row of {one}: "
                f"scores on {other} are too good"
            )
            found.append(Finding.about("warning", "leak", message, corpus.groups_of(both)))
    return found


def _conflicts(corpus: Corpus, groups: Groups) -> list[Finding]:
    found = conflicting(corpus.labels, groups)
    if not found:
        return []
    count = sum(map(len, found))
    texts = amount(len(found), "text")
    message = f"{texts} labelled in more than one way, on {count} rows: no model can fit both"
    return [Finding.about("warning", "conflict", message, corpus.groups_of(found))]


def _within(corpus: Corpus, groups: Groups, what: str) -> list[Finding]:
    """Return a note on the splits that contain a text several times."""
    several: list[list[int]] = []
    counted = []
    for split, rows in corpus.splits.items():
        own = [[i for i in group if corpus.split[i] == split] for group in groups]
        found = [group for group in own if len(group) > 1]
        if found:
            count = sum(map(len, found))
            counted.append(f"{count} rows of {split} ({count / len(rows):.1%})")
            several += found
    if not several:
        return []
    most = max(map(len, several))
    message = f"{', '.join(counted)} {what}: {amount(len(several), 'group')} of up to {most}"
    return [Finding.about("note", "duplicate", message, corpus.groups_of(several))]
