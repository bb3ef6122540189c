"""Splits: what was given is checked, what is missing is cut, the same way every time."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from pipeline.config import DataConfig, FilesConfig
from pipeline.data.rows import Rows
from pipeline.data.sources import file_digests, read_files, read_hub
from pipeline.errors import DataError, listing
from pipeline.evaluation.names import metric_name

LABEL_CHARACTERS = 200  # MLflow's names of metrics end at 250


@dataclass(frozen=True)
class Splits:
    """Rows to train on, to choose by, and to report; and their label names, sorted."""

    train: Rows
    validation: Rows
    test: Rows | None  # None: not asked for, so not read
    labels: tuple[str, ...]
    files: Mapping[str, str]  # split -> sha256 of the file it is from

    @property
    def by_name(self) -> dict[str, Rows]:
        """The splits that there are."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in every.items() if rows is not None}

    @cached_property
    def digest(self) -> str:
        """A digest of texts and labels in their order, split by split."""
        parts = ",".join(f"{name}={rows.digest}" for name, rows in self.by_name.items())
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=2)  # the trials of a sweep share their rows
def load_splits(config: DataConfig, *, with_test: bool) -> Splits:
    """Read, check, cut and shorten the splits.

    A split that is missing is cut from the training rows, first the test split, then validation;
    the cut for the test split is made even when the test rows are not asked for, so that no run
    trains on them.

    Raises:
        DataError: for rows that cannot be read, one class only, labels that training lacks,
            labels that look like identifiers, or more labels than rows may be kept.
    """
    train = _read(config, "train")
    assert train is not None  # the schema demands it
    _check_classes(train)
    test: Rows | None
    if config.test is None:
        train, test = cut(train, config.test_size, config.split_seed, "test")
    else:
        test = _read(config, "test") if with_test else None
    validation = _read(config, "validation")
    if validation is None:
        train, validation = cut(train, config.validation_size, config.split_seed, "validation")

    test = test if with_test else None

    # Before they are shortened: what is wrong with the data is not the fault of a small sample.
    labels = _check_labels(train, {"validation": validation, "test": test})
    seed = config.split_seed
    train = shorten(train, config.max_train_samples, seed, "train")
    validation = shorten(validation, config.max_validation_samples, seed, "validation")
    test = shorten(test, config.max_test_samples, seed, "test") if test else None
    files = file_digests(config) if isinstance(config, FilesConfig) else {}
    return Splits(train, validation, test, labels, files)


def cut(rows: Rows, share: float, seed: int, split: str = "test") -> tuple[Rows, Rows]:
    """Cut a share off: (what stays, what was cut), both in the order of ``rows``.

    Each label loses the same share, to the nearest whole text; identical texts stay together. A
    text that has several labels counts for its most frequent one. Which texts go is decided by a
    hash of seed and text, so the cut does not depend on the order of the file, and of every label
    at least one text stays.

    Raises:
        DataError: where no label has two different texts, so that nothing can be cut.
    """
    counts, texts = rows.label_counts(), _by_hash(rows, seed)
    quotas = _quotas(counts, max(len(counts), round(share * len(rows))))
    last = {rows.labels[i]: text for text, where in texts.items() for i in where}
    staying = set(last.values())
    cut_off: set[int] = set()
    taken: Counter[str] = Counter()
    for text, where in texts.items():
        label = _usual_label(rows, where)
        if text not in staying and taken[label] < quotas[label]:
            cut_off.update(where)
            taken[label] += len(where)
    if not cut_off:
        raise DataError(
            f"{_place(rows)}: {len(rows)} rows are too few to cut {share:.0%} off for the {split} "
            f"split, which is not given; expected a label with at least two different texts. Give "
            f"data.{split}, or more rows."
        )
    stays = [i for i in range(len(rows)) if i not in cut_off]
    return rows.take(stays), rows.take(sorted(cut_off))


def shorten(rows: Rows, most: int | None, seed: int, split: str = "train") -> Rows:
    """Return at most this many rows, labels in the same proportion, in the order of ``rows``.

    Every label keeps at least one row. Identical texts may be parted here: what is left out is in
    no split.

    Raises:
        DataError: where there are more labels than rows may be kept.
    """
    if most is None or len(rows) <= most:
        return rows
    counts = rows.label_counts()
    if most < len(counts):
        raise DataError(
            f"data.max_{split}_samples={most}: the {split} split has {len(counts)} labels "
            f"({listing(counts, most=5)}); expected at least {len(counts)}, one row a label."
        )
    quotas = _quotas(counts, most)
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    for where in _by_hash(rows, seed).values():
        for i in where:
            label = rows.labels[i]
            if taken[label] < quotas[label]:
                chosen.append(i)
                taken[label] += 1
    return rows.take(sorted(chosen))


def _by_hash(rows: Rows, seed: int) -> dict[str, list[int]]:
    """Return the positions of each text, texts in an order that the file has no part in."""
    positions: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(rows.texts):
        positions[text].append(i)
    return {text: positions[text] for text in sorted(positions, key=lambda t: _hash(seed, t))}


def _usual_label(rows: Rows, where: Sequence[int]) -> str:
    """Return the most frequent label of a text's rows; of several the first by name."""
    counts = Counter(rows.labels[i] for i in where)
    return min(counts, key=lambda label: (-counts[label], label))


def _quotas(counts: dict[str, int], total: int) -> dict[str, int]:
    """Share ``total`` out in proportion to the counts (largest remainders), at least 1 a label.

    ``total`` is from one a label to the sum of the counts, and is met exactly.
    """
    whole = sum(counts.values())
    exact = {label: total * count / whole for label, count in counts.items()}
    quotas = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(counts, key=lambda label: quotas[label] - exact[label])
    for label in by_remainder[: total - sum(quotas.values())]:
        quotas[label] += 1
    quotas = {label: max(1, quota) for label, quota in quotas.items()}
    for _ in range(sum(quotas.values()) - total):  # what rare labels got beyond their proportion
        richest = max(
            (label for label in quotas if quotas[label] > 1),
            key=lambda label: quotas[label] - exact[label],
        )
        quotas[richest] -= 1
    return quotas


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(
        f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def _read(config: DataConfig, split: str) -> Rows | None:
    return read_files(config, split) if isinstance(config, FilesConfig) else read_hub(config, split)


def _check_classes(train: Rows) -> None:
    """Refuse labels that are no classes, before rows are cut off."""
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
            f"{listing((label[:40] for label in counts), most=5)}."
        )
    longest = max(counts, key=len)
    if len(longest) > LABEL_CHARACTERS:
        raise DataError(
            f"{_place(train)}: a label has {len(longest)} characters ({longest[:40]}…); expected "
            f"at most {LABEL_CHARACTERS}. Is data.label the text?"
        )
    by_name: dict[str, str] = {}
    for label in counts:
        other = by_name.setdefault(metric_name(label), label)
        if other != label:
            raise DataError(
                f"{_place(train)}: the labels {other!r} and {label!r} would share their metrics' "
                f"names ({metric_name(label)}: letters, digits, _, - and blanks only); expected "
                "labels that differ in those."
            )


def _check_labels(train: Rows, others: dict[str, Rows | None]) -> tuple[str, ...]:
    counts = train.label_counts()
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
