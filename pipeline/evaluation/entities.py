"""Scores of entities, as CoNLL's script and seqeval count them: right is right in whole.

Tjong Kim Sang and De Meulder, 2003: Introduction to the CoNLL-2003 shared task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.evaluation.names import metric_name

Span = tuple[int, int, str]  # beginning, end and type


def entity_scores(
    predicted: Sequence[Collection[Span]], true: Sequence[Collection[Span]], labels: Sequence[str]
) -> dict[str, float]:
    """Score the entities of rows; one counts where beginning, end and type are those of a true one.

    Args:
        predicted: of each row.
        true: of each row, as many.
        labels: all types.

    Returns:
        Precision, recall and F1 between 0 and 1: ``f1_micro`` of all entities, ``f1_macro``, the
        mean over the types that occur in either, and ``f1/<type>``.
    """
    right, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    for ours, theirs in zip(predicted, true, strict=True):
        found.update(label for *_, label in ours)
        wanted.update(label for *_, label in theirs)
        right.update(label for *_, label in set(ours) & set(theirs))
    each = {label: _scores(right[label], found[label], wanted[label]) for label in labels}
    present = [each[label] for label in labels if found[label] or wanted[label]]
    scores: dict[str, float] = {}
    for kind, whole in _scores(right.total(), found.total(), wanted.total()).items():
        scores |= {
            f"{kind}_micro": whole,
            f"{kind}_macro": sum(of[kind] for of in present) / max(1, len(present)),
            **{f"{kind}/{metric_name(label)}": each[label][kind] for label in labels},
        }
    return scores


def _scores(right: int, found: int, wanted: int) -> dict[str, float]:
    return {
        "precision": right / max(1, found),
        "recall": right / max(1, wanted),
        "f1": 2 * right / max(1, found + wanted),
    }
