"""Near duplicates: texts that share most of their runs of five characters.

MinHash (Broder, 1997: On the resemblance and containment of documents) makes signatures whose
bands are equal for similar texts; those that share a band are compared themselves, so what is
reported is exact, and what is missed is little: of pairs at the threshold under one in a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

SHINGLE = 5  # characters
LEAST = 25  # characters of a text that is compared; of shorter ones every change is a large one
THRESHOLD = 0.8  # Jaccard similarity of the sets of shingles
_BANDS, _ROWS = 16, 6  # a pair at the threshold shares a band with 1 - (1 - 0.8**6)**16 = 99.2 %
_MOST = 10_000  # characters of a text that are compared
_CHUNK = 2_000_000  # characters whose shingles are in memory at once, and at least one text's
_SEED = 42

Keys = np.ndarray[Any, np.dtype[np.uint64]]


def near_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Find texts that are nearly the same.

    Args:
        texts: all different.

    Returns:
        Positions of the texts of each group, in ascending order. Each text has a similarity of
        `THRESHOLD` or more with another one of its group.
    """
    from scipy.cluster.hierarchy import DisjointSet

    long = [i for i, text in enumerate(texts) if len(text) >= LEAST]
    some = [texts[i] for i in long]
    keys = _band_keys(some)
    groups = DisjointSet(range(len(some)))
    for a, b in _candidates(keys):
        if not groups.connected(a, b) and similarity(some[a], some[b]) >= THRESHOLD:
            groups.merge(a, b)
    several = sorted(sorted(group) for group in groups.subsets() if len(group) > 1)
    return [[long[i] for i in group] for group in several]


def similarity(a: str, b: str) -> float:
    """Return the Jaccard similarity of two texts' shingles, 0 to 1."""
    first, second = _shingles(a), _shingles(b)
    return len(first & second) / len(first | second)


def _shingles(text: str) -> set[str]:
    last = min(len(text), _MOST) - SHINGLE
    return {text[i : i + SHINGLE] for i in range(max(1, last + 1))}


def _band_keys(texts: Sequence[str]) -> Keys:
    """Return a key for each band of each text's signature, of shape [texts, bands]."""
    from rensa import RMinHash

    keys = np.empty((len(texts), _BANDS), np.uint64)
    for start, end in _chunks(texts):
        chunk = [_shingles(text) for text in texts[start:end]]
        made = RMinHash.digest_matrix_from_token_sets(chunk, _BANDS * _ROWS, _SEED)
        digests = np.array(made.to_rows(), np.uint64).reshape(len(chunk), _BANDS, _ROWS)
        mixed = np.zeros((len(chunk), _BANDS), np.uint64)
        for row in range(_ROWS):
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + digests[:, :, row]
        keys[start:end] = mixed
    return keys


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where parts of the texts begin and end that have so many characters together."""
    start = size = 0
    for end, text in enumerate(texts):
        if size and size + min(len(text), _MOST) > _CHUNK:
            yield start, end
            start, size = end, 0
        size += min(len(text), _MOST)
    if start < len(texts):
        yield start, len(texts)


def _candidates(keys: Keys) -> Iterator[tuple[int, int]]:
    """Yield pairs that share a band: each text with the one before it, and the first, of its run.

    Not every pair: a template of thousands of texts would make millions.
    """
    for band in range(keys.shape[1]):
        column = keys[:, band]
        order = np.argsort(column, kind="stable")
        run = column[order]
        same = np.flatnonzero(run[1:] == run[:-1]) + 1
        starts = np.maximum.accumulate(
            np.where(np.r_[True, run[1:] != run[:-1]], np.arange(len(run)), 0)
        )
        yield from zip(order[same - 1].tolist(), order[same].tolist(), strict=True)
        yield from zip(order[starts[same]].tolist(), order[same].tolist(), strict=True)
