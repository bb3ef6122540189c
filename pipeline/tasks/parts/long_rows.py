"""Users' texts as token ids, and the handling of rows longer than the model may read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import DataError
from pipeline.models.batches import MODEL_INPUTS, reads_types

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from pipeline.data import Rows
    from pipeline.tasks.base import Task

# A text by itself, without special tokens around it.
_ALONE: Mapping[str, Any] = {
    "add_special_tokens": False,
    "split_special_tokens": True,
    "verbose": False,
}


@dataclass(frozen=True)
class Read:
    """Rows as a tokenizer reads them: one example each, or one per window, in the rows' order."""

    # What the model reads, and ``row``, the position of each example's row; with offsets also
    # ``text_of``: which of a pair's texts each token is from, 0, 1 or None.
    columns: dict[str, list[Any]]
    cut: list[int]  # positions of the rows that are longer than an example


@dataclass(frozen=True)
class Pair:
    """How a pair of texts is read: one of them complete, with each window of the other."""

    columns: tuple[str, str]
    complete: int  # which of the two: 0 or 1
    name: str  # of it and of the other, for messages
    other: str
    least: int  # tokens that must be left for the other
    advice: str = ""


def read_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[str]],
    max_length: int,
    strides: Sequence[int] | None = None,
    **options: Any,
) -> Read:
    """Return rows of texts, or of pairs, as token ids.

    Args:
        tokenizer: of the model; for windows a fast one.
        texts: one column, or both of pairs.
        max_length: tokens of an example.
        strides: of each row, tokens that neighbouring windows share: a tokenizer takes one number
            for all, but a row's windows must not depend on its neighbours. None: no windows, it is
            cut.
        options: of the tokenizer.
    """
    options = {
        **options,
        "max_length": max_length,
        "return_overflowing_tokens": strides is not None,
    }
    if strides is None:
        return _read(tokenizer, texts, range(len(texts[0])), options)
    parts = []
    for stride in sorted(set(strides)):
        members = [i for i, one in enumerate(strides) if one == stride]
        own = [[column[i] for i in members] for column in texts]
        parts.append(_read(tokenizer, own, members, {**options, "stride": stride}))
    row = [i for part in parts for i in part.columns["row"]]
    order = sorted(range(len(row)), key=row.__getitem__)
    columns = {name: [v for part in parts for v in part.columns[name]] for name in parts[0].columns}
    return Read(
        {name: [values[j] for j in order] for name, values in columns.items()},
        sorted(i for part in parts for i in part.cut),
    )


def read_windows(task: Task[Any], texts: list[str], stride: int | None, **options: Any) -> Read:
    """Return texts as token ids, in windows that share so many tokens; None: each is cut.

    The tokenizer is a fast one; the options are its own.
    """
    tokenizer = task.checkpoint.tokenizer
    room: int = task.max_length - tokenizer.num_special_tokens_to_add(pair=False)
    return read_texts(
        tokenizer,
        [texts],
        task.max_length,
        None if stride is None else [min(stride, room // 2)] * len(texts),
        truncation="only_first",
        return_token_type_ids=False,
        **options,
    )


def _read(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[str]],
    rows: Sequence[int],
    options: Mapping[str, Any],
) -> Read:
    """Return rows at these positions as token ids, all with one stride."""
    encoded = tokenizer(*texts, split_special_tokens=True, **options)
    row = [rows[i] for i in encoded.get("overflow_to_sample_mapping", range(len(rows)))]
    columns = {name: encoded[name] for name in (*MODEL_INPUTS, "offset_mapping") if name in encoded}
    columns |= {"input_ids": unforged_ids(tokenizer, encoded), "row": row}
    if "offset_mapping" in columns:
        columns["text_of"] = [encoded.sequence_ids(j) for j in range(len(row))]
    if encoded.encodings is not None:  # the tokenizer returned what it cut off
        longer = {i for i, of in zip(row, encoded.encodings, strict=True) if of.overflowing}
        return Read(columns, sorted(longer))
    lengths = map(len, tokenizer(*texts, split_special_tokens=True, verbose=False)["input_ids"])
    most = options["max_length"]
    return Read(columns, [i for i, length in zip(rows, lengths, strict=True) if length > most])


def length_of(tokenizer: PreTrainedTokenizerBase, *texts: str) -> int:
    """Return the tokens of a complete text, or a pair, with the special tokens around it."""
    return len(tokenizer(*texts, split_special_tokens=True, verbose=False)["input_ids"])


def read_pairs(
    task: Task[Any], rows: Rows, pair: Pair, stride: int | None, *, training: bool, **options: Any
) -> Read:
    """Return pairs of texts as token ids; a complete text that leaves no room is cut at its end.

    Args:
        task: whose tokenizer is a fast one.
        rows: of a split.
        pair: their columns, and which of them is complete.
        stride: tokens that neighbouring windows share, if there is room; None: no windows, the
            other text is cut.
        training: whether this is the training split.
        options: of the tokenizer.

    Raises:
        DataError: for a complete text that leaves no room in training, or none at all.
    """
    tokenizer, texts = task.checkpoint.tokenizer, [list(rows[name]) for name in pair.columns]
    room: int = task.max_length - tokenizer.num_special_tokens_to_add(pair=True)
    most, whole = room - pair.least, texts[pair.complete]
    lengths = _lengths(tokenizer, whole)
    cut = [i for i, length in enumerate(lengths) if length > most]
    if cut and (training or most < 1):
        longest = max(cut, key=lengths.__getitem__)
        raise DataError(
            f"row {rows.ids[longest]}: {pair.name} has {lengths[longest]} tokens and leaves "
            f"{max(0, room - lengths[longest])} of training.max_length={task.max_length} for "
            f"{pair.other}; expected at least {pair.least}{pair.advice}."
        )
    for i in cut:
        whole[i] = _beginning(tokenizer, whole[i], most)
    if cut:
        lengths = _lengths(tokenizer, whole)
    read = read_texts(
        tokenizer,
        texts,
        task.max_length,
        None if stride is None else [min(stride, (room - length) // 2) for length in lengths],
        truncation=("only_second", "only_first")[pair.complete],
        return_token_type_ids=reads_types(task.checkpoint),
        **options,
    )
    return Read(read.columns, sorted({*cut, *read.cut}))


def _beginning(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> str:
    kept = most
    while True:
        offsets = tokenizer(text, return_offsets_mapping=True, **_ALONE)["offset_mapping"]
        if len(offsets) <= most or not text:
            return text
        # The beginning of a word can have more tokens alone than within the word.
        text = text[: offsets[kept - 1][1]] if kept else ""
        kept -= 1


def _lengths(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(list(texts), **_ALONE)["input_ids"]]


def unforged_ids(tokenizer: PreTrainedTokenizerBase, encoded: BatchEncoding) -> list[list[int]]:
    """Return token ids, with special tokens spelled out in texts replaced by the unknown token.

    A Unigram vocabulary contains the special tokens as pieces, and finds them in texts even with
    ``split_special_tokens``.
    """
    ids: list[list[int]] = encoded["input_ids"]
    unknown, spelled = tokenizer.unk_token_id, _spelled(tokenizer)
    if not spelled or unknown is None or encoded.encodings is None:
        return ids
    masks = [encoding.special_tokens_mask for encoding in encoded.encodings]
    return [
        [unknown if token in spelled and not added else token for token, added in pairs]
        for pairs in (zip(*both, strict=True) for both in zip(ids, masks, strict=True))
    ]


def _spelled(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the special tokens that a text can still spell out."""
    names = tokenizer.all_special_tokens
    found = tokenizer(names, **_ALONE)["input_ids"] if names else []
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return special.intersection(token for ids in found for token in ids)


def chosen(columns: Mapping[str, Sequence[Any]], kept: Collection[int]) -> dict[str, list[Any]]:
    """Return the examples, column by column, of the rows at these positions."""
    rows = set(kept)
    which = [j for j, i in enumerate(columns["row"]) if i in rows]
    return {name: [values[j] for j in which] for name, values in columns.items()}
