"""Splits: what was given is checked, what is missing is cut, the same way every time."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from pipeline.config import DataConfig, FilesConfig
from pipeline.data.rows import Rows
from pipeline.data.sources import read_files, read_hub
from pipeline.errors import DataError, listing


@dataclass(frozen=True)
class Splits:
    """Rows to train on, to choose by, and to report; and their label names, sorted."""

    train: Rows
    validation: Rows
    test: Rows | None  # None: not asked for, so not read
    labels: tuple[str, ...]


@lru_cache(maxsize=2)  # the trials of a sweep share their rows
def load_splits(config: DataConfig, *, with_test: bool) -> Splits:
    """Read, check, cut and shorten the splits.

    A split that is missing is cut from the training rows, first the test split, then validation;
    the cut for the test split is made even when the test rows are not asked for, so that no run
    trains on them.

    Raises:
        DataError: for rows that cannot be read, one class only, labels that training lacks, or
            labels that look like identifiers.
    """
    train = _read(config, "train")
    assert train is not None  # the schema demands it
    test: Rows | None
    if config.test is None:
        train, test = cut(train, config.test_size, config.split_seed)
    else:
        test = _read(config, "test") if with_test else None
    validation = _read(config, "validation")
    if validation is None:
        train, validation = cut(train, config.validation_size, config.split_seed)

    train = shorten(train, config.max_train_samples, config.split_seed)
    validation = shorten(validation, config.max_validation_samples, config.split_seed)
    test = shorten(test, config.max_test_samples, config.split_seed) if test and with_test else None

    labels = _check_labels(train, {"validation": validation, "test": test})
    return Splits(train, validation, test, labels)


def cut(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Cut a share off: (what stays, what was cut), both in the order of ``rows``.

    Each label loses the same share, to the nearest whole text; identical texts stay together.
    Which texts go is decided by a hash of seed and text, so the cut does not depend on the order
    of the file, and a label's last text always stays.

    Raises:
        DataError: where no label has two different texts, so that nothing can be cut.
    """
    cut_off = set(_choose(rows, round(share * len(rows)), seed, keep_last=True))
    if not cut_off:
        raise DataError(
            f"{_place(rows)}: {len(rows)} rows are too few to cut {share:.0%} off for a split that "
            "is not given; expected a label with at least two different texts. Give "
            "data.validation and data.test, or more rows."
        )
    stays = [i for i in range(len(rows)) if i not in cut_off]
    return rows.take(stays), rows.take(sorted(cut_off))


def shorten(rows: Rows, most: int | None, seed: int) -> Rows:
    """Return at most this many rows, labels in the same proportion, in the order of ``rows``."""
    if most is None or len(rows) <= most:
        return rows
    chosen = _choose(rows, most, seed, keep_last=False)
    return rows.take(sorted(chosen[:most]))


def _choose(rows: Rows, count: int, seed: int, *, keep_last: bool) -> list[int]:
    """Choose about ``count`` rows, whole texts at a time, in hash order within each label."""
    positions: dict[str, list[int]] = defaultdict(list)  # text -> its rows
    for i, text in enumerate(rows.texts):
        positions[text].append(i)
    texts: dict[str, list[str]] = defaultdict(list)  # label of a text's first row -> texts
    for text, where in positions.items():
        texts[rows.labels[where[0]]].append(text)

    chosen: list[int] = []
    for label, quota in _quotas(rows.label_counts(), count).items():
        target = len(chosen) + quota
        in_hash_order = sorted(texts[label], key=lambda text: _hash(seed, text))
        for text in in_hash_order[: -1 if keep_last else None]:
            if len(chosen) >= target:
                break
            chosen.extend(positions[text])
    return chosen


def _quotas(counts: dict[str, int], total: int) -> dict[str, int]:
    """Share ``total`` out in proportion to the counts (largest remainders), at least 1 a label."""
    whole = sum(counts.values())
    exact = {label: total * count / whole for label, count in counts.items()}
    quotas = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(counts, key=lambda label: quotas[label] - exact[label])
    for label in by_remainder[: total - sum(quotas.values())]:
        quotas[label] += 1
    return {label: max(1, quota) for label, quota in quotas.items()}


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(
        f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def _read(config: DataConfig, split: str) -> Rows | None:
    return read_files(config, split) if isinstance(config, FilesConfig) else read_hub(config, split)


def _check_labels(train: Rows, others: dict[str, Rows | None]) -> tuple[str, ...]:
    counts = train.label_counts()
    if len(counts) < 2:
        raise DataError(
            f"{_place(train)}: every row has the label {train.labels[0]!r}; expected at least two "
            "classes (data.label names the column)."
        )
    if len(counts) > len(train) / 2:
        raise DataError(
            f"{_place(train)}: {len(counts)} different labels on {len(train)} rows; expected at "
            f"least two rows a class on average. Is data.label an identifier? Found "
            f"{listing(counts, most=5)}."
        )
    for split, rows in others.items():
        for row_id, label in zip(rows.ids, rows.labels, strict=True) if rows else ():
            if label not in counts:
                raise DataError(
                    f"{split} split, row {row_id}: the label {label!r} does not occur in training; "
                    f"expected one of {listing(counts)}."
                )
    return tuple(counts)


def _place(rows: Rows) -> str:
    return rows.ids[0].rsplit(":", 1)[0]
