"""Question answering: answers find their tokens and back, whatever the windows and the script."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.common.errors import DataError
from pipeline.data import Rows, Targets
from pipeline.data.readers import read_records
from pipeline.data.splits import cut
from pipeline.data.values import is_blank
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.base import Task
from pipeline.tasks.parts.squad import QuestionAnswers
from tests.support.answers import LETTERS, NAMES
from tests.support.configs import columns_for, model_of, task_settings


def tiny_reader(model: Path, max_length: int, *, may_be_none: bool = False, **more) -> Task:
    config = task_settings("question_answering", **more)
    counts = {"answer": 3} | ({"no answer": 1} if may_be_none else {})
    return get_task(config)(config, find_checkpoint(model_of(model)), max_length, Targets(counts))


def asked(*of: tuple[str, Sequence[tuple[str, int | None]]], question: str = "who") -> Rows:
    """Return rows of contexts and their answers, read as from a file."""
    shape = QuestionAnswers(columns_for("question_answering"))
    found = [
        shape.read(
            {
                "context": context,
                "question": question,
                "answers": {
                    "text": [a for a, _ in answers],
                    "answer_start": [s for _, s in answers],
                },
            },
            "f",
        )
        for context, answers in of
    ]
    columns = {name: [row[name] for row in found] for name in ("context", "question", "answers")}
    return Rows(shape, [f"f:{i}" for i in range(len(of))], columns)


def pointing(starts: Sequence[int], ends: Sequence[int], width: int) -> dict[str, np.ndarray]:
    """Return outputs that point at these tokens."""
    return {
        "start_logits": 9.0 * (np.arange(width) == np.array(starts)[:, None]),
        "end_logits": 9.0 * (np.arange(width) == np.array(ends)[:, None]),
    }


def test_windows_overlap_and_only_those_that_hold_the_answer_point_at_it(reader):
    task = tiny_reader(reader, 12, stride=4)
    found = task.encode(asked((" ".join(LETTERS), [("f g h", None)]), ("a b", [("b", None)])))
    decode = task.checkpoint.tokenizer.decode
    assert [decode(ids) for ids in found.dataset["input_ids"]] == [
        "[CLS] who [SEP] a b c d e f g h [SEP]",
        "[CLS] who [SEP] e f g h i j k l [SEP]",
        "[CLS] who [SEP] i j k l m n o p [SEP]",
        "[CLS] who [SEP] m n o p q r s t [SEP]",
        "[CLS] who [SEP] a b [SEP]",
    ]
    assert found.dataset["token_type_ids"][4] == [0, 0, 0, 1, 1, 1]
    places = zip(found.dataset["start_positions"], found.dataset["end_positions"], strict=True)
    assert list(places) == [(8, 10), (4, 6), (0, 0), (0, 0), (4, 4)]
    assert (found.row, found.truncated, found.dropped) == ([0, 0, 0, 0, 1], 1, 0)


@pytest.mark.parametrize(
    ("policy", "training", "examples"),
    [("truncate", False, 2), ("drop", True, 1), ("drop", False, 2)],
)
def test_a_long_context_can_be_cut_or_left_out_of_training(reader, policy, training, examples):
    task = tiny_reader(reader, 12, long_rows=policy)
    rows_of = asked((" ".join(LETTERS), [("t", None)]), ("a b", [("b", None)]))
    found = task.encode(rows_of, training=training)
    assert (len(found.dataset), found.truncated) == (examples, 1)
    assert len(found.places) == examples
    assert found.dataset["start_positions"][:] == [0, 4][-examples:]


def test_the_windows_of_a_row_do_not_depend_on_other_rows(reader):
    task = tiny_reader(reader, 20, stride=8)
    contexts = [" ".join(LETTERS), " ".join(LETTERS[::-1]), "a b", " ".join(LETTERS)]
    questions = ["who is the a b c", "who", "where", "who is the a b c d e"]
    each = [asked((c, []), question=q) for c, q in zip(contexts, questions, strict=True)]
    columns = {
        name: [rows_of[name][0] for rows_of in each] for name in ("context", "question", "answers")
    }
    together = task.encode(Rows(each[0].shape, list("0123"), columns))
    assert together.row == sorted(together.row)
    for i, rows_of in enumerate(each):
        alone = task.encode(rows_of)
        where = [j for j, row in enumerate(together.row) if row == i]
        assert together.dataset.select(where)["input_ids"][:] == alone.dataset["input_ids"][:]
        for j, offsets in zip(where, alone.places, strict=True):
            assert together.places[j].tolist() == offsets.tolist()
        some = together.of_rows([i])
        assert some.rows.ids == together.rows.ids[i : i + 1]
        assert [o.tolist() for o in some.places] == [o.tolist() for o in alone.places]
    widest, narrow = (len(task.encode(each[i]).dataset) for i in (1, 3))
    assert (widest, narrow) == (2, 4)  # 16 tokens with 8 shared; 8 tokens with 4


def test_a_question_without_room_is_cut_but_not_in_training(reader):
    task = tiny_reader(reader, 16)
    rows_of = asked((" ".join(LETTERS[:12]), [("a", None)]), question="who is the a b c d e f")
    with pytest.raises(DataError, match="row f:0: its question has 9 tokens and leaves 4"):
        task.encode(rows_of, training=True)
    found = task.encode(rows_of)
    assert [task.checkpoint.tokenizer.decode(ids) for ids in found.dataset["input_ids"]] == [
        "[CLS] who is the a b [SEP] a b c d e f g h [SEP]",
        "[CLS] who is the a b [SEP] e f g h i j k l [SEP]",
    ]
    assert found.truncated == 1
    short = task.encode(asked(("a b", [("a", None)]), question="who " * 9))
    assert short.truncated == 1
    assert task.checkpoint.tokenizer.decode(short.dataset["input_ids"][0]) == (
        "[CLS] who who who who who [SEP] a b [SEP]"
    )


@pytest.mark.parametrize("policy", ["truncate", "window"])
def test_an_answer_that_no_window_holds_is_not_trained_as_none(reader, policy):
    task = tiny_reader(reader, 12, long_rows=policy, stride=2, may_be_none=True)
    letters, answer = " ".join(LETTERS), " ".join(LETTERS[4:16])  # 12 tokens, and 8 are read
    rows_of = asked((letters, [(answer, None)]), ("a b", [("b", None)]), ("c d", []))
    found = task.encode(rows_of, training=True)
    assert (found.row, found.dropped) == ([1, 2], 1)
    assert len(found.places) == 2
    (note,) = found.notes
    assert note.startswith("1 of 3 rows have an answer that is cut off")
    assert note.endswith("they are left out of training")
    judged = task.encode(rows_of)
    assert (judged.dropped, judged.notes, set(judged.row)) == (0, (), {0, 1, 2})
    with pytest.raises(DataError, match=r"2 of 3 rows have an answer .* at least one row"):
        task.encode(asked(*[(letters, [(answer, None)])] * 2, ("c d", [])), training=True)


def test_texts_spell_out_no_special_tokens(reader):
    task = tiny_reader(reader, 24)
    found = task.encode(asked(("a [SEP] b", [("b", None)]), question="who [SEP] is [CLS]"))
    (ids,) = found.dataset["input_ids"]
    assert (ids.count(3), ids.count(2)) == (2, 1)
    places = [found.dataset["start_positions"][:], found.dataset["end_positions"][:]]
    assert task.decode(found, pointing(*places, 24))["prediction"] == ["b"]


ALPHABET = "abz ,.é\u0301中文字\n\u200d\u0e33𝒳"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_an_answer_is_the_same_through_its_tokens_and_back(reader, data):
    context = data.draw(st.text(ALPHABET, min_size=1, max_size=60))
    task = tiny_reader(
        reader,
        data.draw(st.integers(12, 30)),
        stride=data.draw(st.integers(1, 12)),
        may_be_none=data.draw(st.booleans()),
    )
    tokens = task.checkpoint.tokenizer(
        context, add_special_tokens=False, return_offsets_mapping=True
    )["offset_mapping"]
    assume(tokens)
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first, min(len(tokens) - 1, first + 9)))
    start, end = tokens[first][0], tokens[last][1]
    while end < len(context) and unicodedata.category(context[end])[0] == "M":
        end += 1
    answer = context[start:end]
    assume(not is_blank(answer))
    found = task.encode(asked((context, [(answer, start)])))
    starts, ends = found.dataset["start_positions"][:], found.dataset["end_positions"][:]
    assume(any(starts))  # else it is longer than what two windows share
    width = max(len(ids) for ids in found.dataset["input_ids"])
    outputs = pointing(starts, ends, width)
    assert task.decode(found, outputs)["prediction"] == [answer.strip()]
    assert task.score(found, outputs)["exact_match"] == 1.0


def test_answer_across_windows_is_whole_in_one_of_them(reader):
    task = tiny_reader(reader, 14, stride=4)  # windows of 10
    for start in range(16):
        answer = " ".join(LETTERS[start : start + 5])  # one more than they share
        found = task.encode(asked((" ".join(LETTERS), [(answer, None)])))
        assert any(found.dataset["start_positions"]), answer


def test_blanks_and_letters_that_a_tokenizer_leaves_out_hide_no_answer(reader):
    task = tiny_reader(reader, 16)
    found = task.encode(asked(("a b cafe\u0301\u200d d", [(" b cafe\u0301\u200d", None)])))
    places = [found.dataset["start_positions"][:], found.dataset["end_positions"][:]]
    assert places == [[4], [5]]
    assert task.decode(found, pointing(*places, 8))["prediction"] == ["b cafe\u0301"]


def decoded(reader, starts, ends, context="a b c d e", **more):
    """Return the answer by logits of the context's tokens and, first, of "no answer"."""
    task = tiny_reader(reader, 16, **more)
    found = task.encode(asked((context, [])))
    outputs = {  # [CLS] who [SEP] a b c d e [SEP]: what is outside counts only for no answer
        name: np.array([[logits[0], 99.0, 99.0, *logits[1:], 99.0]])
        for name, logits in (("start_logits", starts), ("end_logits", ends))
    }
    found = task.decode(found, outputs)
    return found["prediction"][0], found["score"][0]


def test_the_best_span_is_in_order_and_in_the_context(reader):
    # By themselves the best are e and a.
    starts, ends = [0, 1, 5, 0, 0, 9], [0, 9, 0, 0, 3, 0]
    assert decoded(reader, starts, ends) == ("a", 10.0)
    ends[1] = 6
    assert decoded(reader, starts, ends) == ("e", 9.0)
    starts[5] = 2
    assert decoded(reader, starts, ends) == ("b c d", 8.0)
    assert decoded(reader, starts, ends, max_answer_tokens=2) == ("a", 7.0)
    # With one place each there is no span in order: one token is the answer.
    assert decoded(reader, starts, ends, n_best=1) == ("b", 5.0)
    assert decoded(reader, starts, ends, n_best=2) == ("b c d", 8.0)


def test_the_best_spans_are_listed_with_a_text_each(reader):
    task = tiny_reader(reader, 12, stride=4, n_best=3, may_be_none=True)
    found = task.encode(asked((" ".join(LETTERS[:12]), []), ("a b", [])))
    assert found.row == [0, 0, 1]  # of the windows "a b c d e f g h" and "e f g h i j k l"
    outputs = {name: np.full((3, 12), -1.0) for name in ("start_logits", "end_logits")}
    for logits in outputs.values():
        logits[0, [3, 10]] = 2.0, 4.0  # a, h
        logits[1, [6, 10]] = 5.0, 1.0  # h once more; l
        logits[2, 0] = 9.0
    decoded = task.decode(found, outputs)
    assert decoded["prediction"] == ["h", ""]
    assert decoded["score"] == [10.0, 18.0]
    assert decoded["n_best"] == [
        [
            {"text": "h", "score": 10.0},
            {"text": "a b c d e f g h", "score": 6.0},
            {"text": "h i j k l", "score": 6.0},
        ],
        [{"text": text, "score": -2.0} for text in ("a", "a b", "b")],
    ]
    assert len(tiny_reader(reader, 12, stride=4).decode(found, outputs)["n_best"][0]) == 5


def test_no_answer_is_given_where_training_had_it_and_it_is_ahead(reader):
    starts, ends = [5, 0, 4, 0, 0, 0], [5, 0, 4, 0, 0, 0]
    assert decoded(reader, starts, ends) == ("b", 8.0)
    assert decoded(reader, starts, ends, may_be_none=True) == ("", 10.0)
    asked_for = {"may_be_none": True, "no_answer_threshold": 2.5}
    assert decoded(reader, starts, ends, **asked_for) == ("b", 8.0)


def test_a_window_without_the_answer_does_not_outvote_the_one_with_it(reader):
    task = tiny_reader(reader, 12, stride=4, may_be_none=True)
    found = task.encode(asked((" ".join(LETTERS), [("a b", None)])))
    starts, ends = found.dataset["start_positions"][:], found.dataset["end_positions"][:]
    assert (starts, ends) == ([3, 0, 0, 0], [4, 0, 0, 0])
    outputs = pointing(starts, ends, 12)
    outputs["start_logits"][1:] *= 3
    assert task.decode(found, outputs)["prediction"] == ["a b"]


CONTEXT = "anna is the one, and bert is the other"


@pytest.mark.parametrize(
    ("answers", "read"),
    [
        ({"text": ["anna", "bert"], "answer_start": [0, 21]}, (("anna", 0), ("bert", 21))),
        ({"text": ["bert"]}, (("bert", 21),)),
        ({"text": "is", "answer_start": 26}, (("is", 26),)),
        ([{"text": "is", "answer_start": 26}], (("is", 26),)),
        ({"text": [], "answer_start": []}, ()),
        ("bert", (("bert", 21),)),
        (["bert"], (("bert", 21),)),
        ("", ()),
        ([], ()),
        ('{"text": ["is"], "answer_start": [26]}', (("is", 26),)),
    ],
)
def test_answers_are_read_in_every_form_they_have(answers, read):
    values = {"context": CONTEXT, "question": "who", "answers": answers}
    assert QuestionAnswers(columns_for("question_answering")).read(values, "f:1")["answers"] == read


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"text": ["carl"]}, "'carl' is not in its context: it is nowhere in it"),
        (
            {"text": ["is"], "answer_start": [25]},
            "at character 25: there it reads ' i'; it is at character 26",
        ),
        ({"text": ["is"], "answer_start": [-14]}, "at character -14: it is at character 5"),
        ({"text": ["is"], "answer_start": ["5"]}, "at character '5': it is at character 5"),
        ({"text": [" "], "answer_start": [4]}, 'expected {"text": ["…"]'),
        ({"text": [True]}, "in column 'answers'; expected"),
        ({"text": [3]}, "'3' is not in its context"),
        (None, "found the answers None in column 'answers'; expected"),
        ({"text": ["is"], "answer_start": [5, 26]}, "has 1 answers, but answer_start is [5, 26]"),
        ({"text": ["is"], "answer_start": "5"}, "answer_start is '5'"),
        ("{'text': ['is']}", "JSON strings need double quotes"),
        ('{"text": ' + "[" * 100_000, "is nowhere in it"),
        ('{"answer_start": [' + "1" * 5000 + "]}", "is nowhere in it"),
    ],
)
def test_answers_that_are_no_span_are_refused_with_their_place(answers, said):
    values = {"context": CONTEXT, "question": "who", "answers": answers}
    with pytest.raises(DataError) as refusal:
        QuestionAnswers(columns_for("question_answering")).read(values, "f:1")
    assert str(refusal.value).startswith("f:1: ")
    assert said in str(refusal.value)


def test_a_cut_keeps_the_questions_of_one_context_together():
    contexts = [f"{name} is the {letter}" for name in NAMES for letter in LETTERS[:5]]
    rows_of = asked(*((c, [(c[:4], None)] if i % 3 else []) for i, c in enumerate(contexts * 3)))
    stays, gone = cut(rows_of, 0.2, 0)
    assert not set(stays["context"]) & set(gone["context"])
    assert len(gone) >= 12  # a tenth; of whole contexts the share is met roughly


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "one",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "who",
                            "answers": [{"text": "bert", "answer_start": 21}],
                            "is_impossible": False,
                        },
                        {
                            "id": "q2",
                            "question": "where",
                            "answers": [],
                            "plausible_answers": [{"text": "anna", "answer_start": 0}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        },
        {"paragraphs": [{"context": "a b", "qas": [{"id": "q3", "question": "who"}]}]},
    ],
}


def test_squads_own_file_is_read_as_rows():
    Path("squad.json").write_text(json.dumps(SQUAD))
    records = list(read_records(Path("squad.json")))
    assert [number for number, _ in records] == [1, 2, 3]
    assert records[0][1] == {
        "title": "one",
        "context": CONTEXT,
        "question": "who",
        "id": "q1",
        "answers": [{"text": "bert", "answer_start": 21}],
    }
    shape = QuestionAnswers(columns_for("question_answering"))
    read = [shape.read(values, "f", with_targets=n < 3) for n, values in records]
    assert [row.get("answers") for row in read] == [(("bert", 21),), (), None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": [3]}, "data, item 1: found a JSON number, expected an object"),
        (
            {"data": [{"paragraphs": []}, {"paragraph": []}]},
            "data, item 2: found paragraph; expected 'paragraphs'",
        ),
        (
            {"data": [{"paragraphs": [{"qas": {}}]}]},
            "item 1, paragraph 1: 'qas' is {}; expected 'qas'",
        ),
        (
            {"data": [{"paragraphs": [{"context": "a", "qas": [None]}]}]},
            "paragraph 1, question 1: found a JSON null",
        ),
        ({"rows": []}, "found a JSON object, expected an array of objects, as it is or in"),
    ],
)
def test_malformed_squad_file_is_refused(content, said):
    Path("squad.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as refusal:
        list(read_records(Path("squad.json")))
    assert said in str(refusal.value)


@pytest.mark.parametrize("name", ["big.json", "big.jsonl"])
def test_a_number_that_is_too_long_for_python_is_refused(name):
    Path(name).write_text('{"a": ' + "1" * 5000 + "}")
    with pytest.raises(DataError, match=f"{name}.* more than 4300 digits"):
        list(read_records(Path(name)))


def test_a_random_span_of_chinese_is_as_long_as_answers_are(reader):
    task = tiny_reader(reader, 16, language="zh")
    rows_of = asked(("中文字中文字中文", [("文字", None)]), ("文" * 8, [("文文", None)]))
    assert task.baseline(rows_of, rows_of)["exact_match"] >= 0.5  # of the second, any is right
