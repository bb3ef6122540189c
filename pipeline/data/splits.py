"""Splits: given ones are checked, missing ones are cut, the same way every time."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.common.errors import DataError, did_you_mean, listing
from pipeline.common.session import shared
from pipeline.config.data import DataConfig, FilesConfig
from pipeline.data.rows import Rows
from pipeline.data.shapes import Shape, place_of
from pipeline.data.sources import file_digests, files_of_other_splits, read_split
from pipeline.data.targets import Targets
from pipeline.data.values import folded


@dataclass(frozen=True)
class Splits:
    """Rows to train on, to select by, and to report on."""

    train: Rows
    validation: Rows
    test: Rows | None  # None: not requested, so not read
    targets: Targets  # of all training rows
    files: Mapping[str, str | Mapping[str, str]]  # split -> sha256 of its file, or files by name
    warnings: tuple[str, ...]  # what is odd about the training rows

    @property
    def by_name(self) -> dict[str, Rows]:
        """The splits that exist."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in every.items() if rows is not None}

    @cached_property
    def digest(self) -> str:
        """A digest of the rows in their order, split by split."""
        parts = ",".join(f"{name}={rows.digest}" for name, rows in self.by_name.items())
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


@shared(maxsize=2, travel=True)  # the trials of a sweep share their rows
def load_splits(config: DataConfig, shape: Shape, *, with_test: bool) -> Splits:
    """Read, check, cut and subsample the splits of a data set.

    A split that is missing is cut from the training rows, first the test split, then validation;
    the test split is cut even if its rows are not requested, so that no run trains on them.

    Raises:
        DataError: for rows that cannot be read or learned from, labels that training lacks, or more
            labels than the rows to keep.
    """
    train = read_split(config, shape, "train")
    assert train is not None  # the schema demands it
    warnings = [*shape.check(train), *_repeated_files(train), *files_of_other_splits(config)]
    seed = config.split_seed
    test: Rows | None = None
    if config.test is None:
        train, cut_off = cut(train, config.test_size, seed, "test")
        test = cut_off if with_test else None
    elif with_test:
        test = read_split(config, shape, "test")
    validation = None if config.folds else read_split(config, shape, "validation")
    if config.folds:
        train, validation = _fold(train, config.folds, config.fold, seed)
    elif validation is None:
        train, validation = cut(train, config.validation_size, seed, "validation")

    # Before subsampling: the findings are about the data, not a small sample.
    counts = _label_counts(train, {"validation": validation, "test": test})
    targets = Targets(counts, shape.moments(train))
    for column, of in targets.moments.items():
        if of.low == of.high:
            raise DataError(
                f"{place_of(train)}: all {len(train)} training rows have the number {of.mean!r} in "
                f"column {column!r}, once other splits are cut off; expected different ones."
            )
    train = _shorten(train, config.max_train_samples, seed, "train")
    if config.train_share < 1:
        most = max(1, round(config.train_share * len(train)))
        key = f"data.train_share={config.train_share:g}, rows"
        train = train.take(sample(train, most, seed, "train", key))
    validation = _shorten(validation, config.max_validation_samples, seed, "validation")
    test = _shorten(test, config.max_test_samples, seed, "test") if test else None
    files = file_digests(config) if isinstance(config, FilesConfig) else {}
    return Splits(train, validation, test, targets, files, tuple(warnings))


def _repeated_files(train: Rows) -> list[str]:
    """Return which files hold the same rows, as copies and links do."""
    files: dict[str, list[int]] = defaultdict(list)
    for i, row_id in enumerate(train.ids):
        files[row_id.rpartition(":")[0]].append(i)
    names: dict[str, list[str]] = defaultdict(list)
    for name, where in files.items() if len(files) > 1 else ():
        names[train.take(where).digest].append(name)
    return [
        f"train: {listing(same)} hold the same rows, which are read {len(same)} times"
        for same in names.values()
        if len(same) > 1
    ]


def cut(rows: Rows, share: float, seed: int, split: str = "test") -> tuple[Rows, Rows]:
    """Cut a share off: (what stays, what was cut), both in the order of ``rows``.

    Each label loses the same share, rounded to texts; identical texts stay together. A text with
    several labels counts for its most frequent one. A hash of seed and text decides which texts go,
    so the cut does not depend on the order of the file. At least one text of every label stays.

    Raises:
        DataError: if no label has two different texts, so that nothing can be cut.
    """
    counts, texts = _counts(rows.strata), _by_hash(rows, seed)
    quotas = _quotas(counts, max(len(counts), round(share * len(rows))))
    last = {rows.strata[i]: text for text, where in texts.items() for i in where}
    staying = set(last.values())
    cut_off: set[int] = set()
    taken: Counter[str] = Counter()
    for text, where in texts.items():
        label = _usual_label(rows, where)
        if text not in staying and taken[label] < quotas[label]:
            cut_off.update(where)
            taken[label] += len(where)
    if not cut_off:
        of_a_label = " of one label" if len(counts) > 1 else ""
        raise DataError(
            f"{place_of(rows)}: {len(rows)} rows are too few to cut {share:.0%} off for the "
            f"{split} split, which is not given; expected at least two different "
            f"texts{of_a_label}. Give data.{split}, or more rows."
        )
    stays = [i for i in range(len(rows)) if i not in cut_off]
    return rows.take(stays), rows.take(sorted(cut_off))


def _fold(rows: Rows, folds: int, fold: int, seed: int) -> tuple[Rows, Rows]:
    """Split rows as `cut` does: (the other folds, the given fold), labels distributed evenly."""
    texts = _by_hash(rows, seed)
    if len(texts) < folds:
        raise DataError(
            f"data.folds={folds}: {place_of(rows)} has {len(texts)} different texts; expected at "
            "most as many folds."
        )
    # Each label starts with another fold, so that small ones are not all in the first.
    dealt = Counter({label: i for i, label in enumerate(_counts(rows.strata))})
    cut_off: set[int] = set()
    for where in texts.values():
        label = _usual_label(rows, where)
        if dealt[label] % folds == fold:
            cut_off.update(where)
        dealt[label] += 1
    stays = [i for i in range(len(rows)) if i not in cut_off]
    if not cut_off or not stays:
        raise DataError(f"data.folds={folds}: part {fold} of {place_of(rows)} has no rows.")
    return rows.take(stays), rows.take(sorted(cut_off))


def _shorten(rows: Rows, most: int | None, seed: int, split: str) -> Rows:
    """Return at most this many rows; identical texts may be separated: the rest is in no split."""
    if most is None or len(rows) <= most:
        return rows
    return rows.take(sample(rows, most, seed, split, f"data.max_{split}_samples"))


def sample(rows: Rows, most: int, seed: int, split: str, key: str) -> list[int]:
    """Return positions, ascending, of at most this many rows, at least one per label.

    They are stratified by label; a hash of seed and text decides which ones. For messages, ``key``
    is the setting that says how many.

    Raises:
        DataError: if there are more labels than rows to keep.
    """
    if len(rows) <= most:
        return list(range(len(rows)))
    counts = _counts(rows.strata)
    if most < len(counts):
        raise DataError(
            f"{key}={most}: the {split} split has {len(counts)} labels "
            f"({listing(counts, most=5)}); expected at least {len(counts)}, one row per label."
        )
    quotas = _quotas(counts, most)
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    for where in _by_hash(rows, seed).values():
        for i in where:
            label = rows.strata[i]
            if taken[label] < quotas[label]:
                chosen.append(i)
                taken[label] += 1
    return sorted(chosen)


def _by_hash(rows: Rows, seed: int) -> dict[str, list[int]]:
    """Return the positions of each text, in an order of texts that is independent of the file."""
    positions: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(rows.groups):
        positions[text].append(i)
    return {text: positions[text] for text in sorted(positions, key=lambda t: _hash(seed, t))}


def _usual_label(rows: Rows, where: Sequence[int]) -> str:
    """Return the most frequent label of a text's rows; of several the first by name."""
    if len(where) == 1:  # as most are
        return rows.strata[where[0]]
    counts = Counter(rows.strata[i] for i in where)
    return min(counts, key=lambda label: (-counts[label], label))


def _quotas(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Distribute ``total`` in proportion to the counts (largest remainders), at least 1 per label.

    ``total`` is between one per label and the sum of the counts, and is met exactly.
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
    data = f"{seed}:{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()


def _label_counts(train: Rows, others: Mapping[str, Rows | None]) -> dict[str, int]:
    """Return training rows per label, labels sorted; refuse a label that training lacks."""
    shape = train.shape
    counts = count_labels([train])
    for split, rows in others.items() if shape.has_classes else ():
        for row_id, names in zip(rows.ids, shape.labels(rows), strict=True) if rows else ():
            for name in names:
                if name not in counts:
                    twin = next((one for one in counts if folded(one) == folded(name)), None)
                    near = did_you_mean(name, counts) if twin is None else ""
                    is_case = twin is not None and twin.casefold() == name.casefold()
                    can_fix = is_case and shape.label_column
                    how = "check --fix OUT writes both alike" if can_fix else "write both alike"
                    there = f" (it is {twin!r} there; {how})"
                    raise DataError(
                        f"{split} split, row {row_id}: the label {name!r} does not occur in "
                        f"training{'' if twin is None else there}; expected one of "
                        f"{listing(map(repr, counts))}.{near}"
                    )
    return counts


def count_labels(splits: Sequence[Rows]) -> dict[str, int]:
    """Return rows per label over all of these, labels sorted; empty without labels."""
    return _counts(name for r in splits for names in r.shape.labels(r) for name in names)


def _counts(labels: Iterable[str]) -> dict[str, int]:
    """Return how often each label occurs, labels sorted."""
    return dict(sorted(Counter(labels).items()))
