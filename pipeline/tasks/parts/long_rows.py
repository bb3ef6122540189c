"""What becomes of rows that are longer than the model may read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import DataError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from pipeline.data import Rows


def positions_cut(
    encoded: BatchEncoding,
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[int]:
    """Return the positions of the texts that lost tokens when they were encoded, one each.

    A fast tokenizer kept what it cut off; others tokenize again.
    """
    if encoded.encodings is not None:
        return [i for i, encoding in enumerate(encoded.encodings) if encoding.overflowing]
    lengths = map(len, tokenizer(*texts, verbose=False)["input_ids"])
    return [i for i, length in enumerate(lengths) if length > max_length]


def kept_rows(
    rows: Rows,
    longer: Sequence[int],
    length_of: Callable[[int], int],
    policy: str,
    max_length: int,
    *,
    training: bool,
) -> list[int]:
    """Return the positions of the rows that stay; only training drops any.

    Args:
        rows: the split.
        longer: positions of the rows with more than ``max_length`` tokens.
        length_of: tells how many.
        policy: of ``task.long_rows``.
        max_length: tokens that are allowed.
        training: whether this is the training split; others keep all rows, which are cut, so that
            every run is judged on the same ones.

    Raises:
        DataError: for the first long row where the policy is ``error``, or where none is left.
    """
    if policy == "error" and longer:
        raise DataError(
            f"row {rows.ids[longer[0]]}: {length_of(longer[0])} tokens, and {len(longer)} of "
            f"{len(rows)} rows of its split are longer than training.max_length={max_length}; "
            "expected none, since task.long_rows=error."
        )
    if policy != "drop" or not training:
        return list(range(len(rows)))
    if len(longer) == len(rows):
        raise DataError(
            f"row {rows.ids[0]}: {length_of(0)} tokens, and all {len(rows)} training rows are "
            f"longer than training.max_length={max_length}; with task.long_rows=drop none is left."
        )
    dropped = set(longer)
    return [i for i in range(len(rows)) if i not in dropped]
