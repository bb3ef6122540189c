"""Schemes of tags: read, written, and told as entities, as seqeval tells them."""

from itertools import chain

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2, IOBES

from pipeline.common.errors import DataError
from pipeline.evaluation.entities import entity_scores
from pipeline.tasks.parts.tags import (
    SCHEMES,
    Entity,
    entities_in,
    read_tags,
    vocabulary,
    written,
)

LABELS = ("LOC", "PER")
SCHEME_OF = {"bio": IOB2, "bioes": IOBES}


def several(tags, length):
    return st.lists(st.sampled_from(tags), min_size=length, max_size=length)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", SCHEME_OF)
@given(data=st.data())
def test_scores_of_any_tags_are_those_of_seqeval(name, strict, data):
    tags = vocabulary(LABELS, name)
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    true, found = ([data.draw(several(tags, n)) for n in lengths] for _ in range(2))
    every = [[entities_in(of, name, strict=strict) for of in side] for side in (found, true)]
    assume(any(chain(*every[0], *every[1])))  # seqeval has no mean of nothing
    scores = entity_scores(*every, LABELS)
    how = {"mode": "strict", "scheme": SCHEME_OF[name]} if strict else {}
    report = classification_report(true, found, output_dict=True, zero_division=0, **how)
    for average in ("micro", "macro"):
        theirs = report[f"{average} avg"]
        assert scores[f"precision_{average}"] == pytest.approx(theirs["precision"])
        assert scores[f"recall_{average}"] == pytest.approx(theirs["recall"])
        assert scores[f"f1_{average}"] == pytest.approx(theirs["f1-score"])
    for label in set(LABELS) & report.keys():
        assert scores[f"f1/{label}"] == pytest.approx(report[label]["f1-score"])


@pytest.mark.parametrize("name", SCHEMES)
@given(lengths=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(LABELS), st.booleans())))
def test_entities_are_written_and_read_again(name, lengths):
    entities, at = [], 0
    for length, label, apart in lengths:
        at += apart or name == "plain"  # which cannot tell neighbours of one type
        entities.append(Entity(at, at + length, label))
        at += length
    tags = written(entities, at + 1, name)
    assert set(tags) <= set(vocabulary(LABELS, name))
    assert read_tags(tags, name, str) == entities_in(tags, name, strict=True) == entities


def test_each_scheme_reads_its_tags():
    both = [Entity(0, 1, "PER"), Entity(1, 3, "PER")]
    for name, tags in {
        "bio": "B-PER B-PER I-PER O",
        "iob1": "I-PER B-PER I-PER O",
        "bioes": "S-PER B-PER E-PER O",
    }.items():
        assert read_tags(tags.split(), name, str) == both
    assert read_tags(["U-PER", "B-PER", "L-PER", "O"], "bioes", str) == both  # BILOU
    assert read_tags(["B", "I", "O", "B"], "bio", str) == [Entity(0, 2, "_"), Entity(3, 4, "_")]
    assert read_tags(["NN", "NN", "VB", "O"], "plain", str) == [
        Entity(0, 2, "NN"),
        Entity(2, 3, "VB"),
    ]


@pytest.mark.parametrize(
    ("name", "tags", "said"),
    [
        (
            "bio",
            "O I-PER I-PER",
            "1: found 'I-PER', 'I-PER' after 'O'; expected B-TYPE for the first word of an entity "
            "and I-TYPE for the others, since task.scheme=bio. Files where that is right: "
            "task.scheme=iob1.",
        ),
        ("bio", "B-PER I-LOC", "1: found 'I-LOC' after 'B-PER'"),
        ("bio", "O S-PER", "1: found 'S-PER' after 'O'; .* task.scheme=bioes"),
        ("bio", "O PER", "1: found the tag 'PER'; expected O, or B-TYPE .* task.scheme=plain"),
        ("bio", "O 3", "1: found the tag '3'; .* Numbers stand for names that the file lacks."),
        (
            "bioes",
            "B-PER I-PER O",
            "0: found 'B-PER', 'I-PER' at the beginning; .* task.scheme=bio.",
        ),
        ("iob1", "S-PER", "0: found 'S-PER' at the beginning"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused_by_its_word(name, tags, said):
    with pytest.raises(DataError, match=said):
        read_tags(tags.split(), name, str)
