"""Token classification: rows are read, tags stand at first tokens, entities are scored."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, f1_score

from pipeline.common.errors import DataError
from pipeline.data import Rows, Targets
from pipeline.models import find_checkpoint
from pipeline.models.batches import IGNORED
from pipeline.tasks import get_task
from pipeline.tasks.parts.tagged import Tagged
from pipeline.tasks.parts.tags import Entity
from tests.support import word_models
from tests.support.answers import LETTERS
from tests.support.configs import columns_for, model_of, task_settings
from tests.support.tiny_models import tiny_llama, tiny_tokenizer

NAME = "token_classification"
SHAPE = Tagged(columns_for(NAME))
SPANS = Tagged(columns_for(NAME, entities="entities"))


def rows_of(*records, shape=SHAPE):
    read = [shape.read(one, f"f.jsonl:{i}") for i, one in enumerate(records, start=1)]
    ids = [f"f.jsonl:{i}" for i in range(1, len(read) + 1)]
    return Rows(shape, ids, {name: [row[name] for row in read] for name in read[0]})


def tagged(words, tags):
    return {"tokens": words.split(), "tags": tags.split()}


def task_on(model, max_length=16, labels=("X", "Y"), **settings):
    config = task_settings(NAME, **settings)
    checkpoint = find_checkpoint(model_of(model))
    return get_task(config)(config, checkpoint, max_length, Targets(dict.fromkeys(labels, 1)))


def answers_of(task, examples, tags):
    """Return outputs that give each word its tag, by row and word."""
    shape = (len(examples.dataset), max(examples.lengths))
    outputs = {"tag": np.zeros(shape, int), "probability": np.ones(shape)}
    for i, (row, places) in enumerate(zip(examples.row, examples.places, strict=True)):
        for word, token in places.T.tolist():
            outputs["tag"][i, token] = task.tags.index(tags[row][word])
    return outputs


def test_words_with_tags_are_a_text_with_entities():
    row = SHAPE.read(tagged("EU rejects New York 's call", "B-O O B-L I-L O O"), "a")
    assert row["text"] == "EU rejects New York 's call"
    assert row["words"] == ((0, 2), (3, 10), (11, 14), (15, 19), (20, 22), (23, 27))
    assert row["entities"] == (Entity(0, 2, "O"), Entity(11, 19, "L"))
    cells = {"tokens": "EU rejects New", "tags": '["B-O", "O", "O"]'}  # of a csv file
    assert SHAPE.read(cells, "a")["entities"] == (Entity(0, 2, "O"),)


def test_a_text_is_split_into_words_and_its_spans_are_trimmed():
    text = "Dr. Smith's 10mg at U.S.-based 東京, don't"
    spans = [[4, 10, "PER"], {"start": 12, "end": 14, "label": "DOSE"}]
    spans.append({"start": 30, "end": 33, "label": "LOC", "text": "東京"})
    row = SPANS.read({"text": text, "entities": spans}, "a")
    words = [text[a:b] for a, b in row["words"]]
    assert words == [
        "Dr",
        ".",
        "Smith",
        "'",
        "s",
        "10",
        "mg",
        "at",
        "U",
        ".",
        "S",
        ".",
        "-",
        "based",
        "東",
        "京",
        ",",
        "don",
        "'",
        "t",
    ]
    assert row["entities"][-1] == Entity(31, 33, "LOC")
    told = SHAPE.read({"text": text}, "a", with_targets=False)
    assert [text[a:b] for a, b in told["words"]] == (
        ["Dr", ".", "Smith", "'s", "10mg", "at", "U.S.", "-", "based", "東", "京", ",", "don't"]
    )


@pytest.mark.parametrize(
    ("shape", "record", "said"),
    [
        (SHAPE, {"tokens": ["a"], "tags": ["O", "O"]}, "a: 1 word and 2 tags in the columns"),
        (SHAPE, {"tokens": {}, "tags": []}, "found {} in column 'tokens'"),
        (
            SHAPE,
            {"tokens": ["a", None], "tags": ["O", "O"]},
            "item 2 of column 'tokens' .*None",
        ),
        (SHAPE, {"tokens": ["a", " "], "tags": ["O", "B-X"]}, "word 2 is blank, and tagged 'B-X'"),
        (SHAPE, {"tokens": [], "tags": []}, "no word in column 'tokens'"),
        (SHAPE, {"tokens": ["a"], "tags": [3]}, "a: word 1: found the tag '3'"),
        (SHAPE, {"words": ["a"]}, "there is no column 'tokens'"),
        (
            SHAPE,
            {"text": "a", "entities": []},
            "no column 'tokens'.* data.entities names",
        ),
        (SPANS, {"text": "a b", "entities": "B-X"}, "found 'B-X'; expected a list, as"),
        (SPANS, {"text": "a b", "entities": [{"start": 0}]}, "expected start, end and label"),
        (
            SPANS,
            {"text": "a b", "entities": [[0, 9, "X"]]},
            "not within the text, which has 3",
        ),
        (SPANS, {"text": "a b", "entities": [[0, "1", "X"]]}, "is no whole number"),
        (SPANS, {"text": "a b", "entities": [[0, 1, " "]]}, "the label of .* is empty"),
        (SPANS, {"text": "a b", "entities": [[1, 2, "X"]]}, "is whitespace only"),
        (
            SPANS,
            {"text": "a b", "entities": [{"start": 0, "end": 1, "label": "X", "text": "b"}]},
            "says 'b'; at these characters the text has 'a'",
        ),
        (
            SPANS,
            {"text": "a b", "entities": [[0, 3, "X"], [2, 3, "Y"]]},
            r"'a b' \(X, 0 to 3\) and 'b' \(Y, 2 to 3\) overlap",
        ),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(shape, record, said):
    with pytest.raises(DataError, match=said):
        shape.read(record, "a")


def test_rows_without_any_entity_are_refused():
    with pytest.raises(DataError, match="no row has an entity; expected at least one"):
        SHAPE.check(rows_of(tagged("a b", "O O")))


def test_a_line_of_a_conll_file_is_named():
    values = {**tagged("a b", "O I-X"), "lines": [7, 8]}
    with pytest.raises(DataError, match=r"f.conll:7: word 2 \(line 8\): found 'I-X' after 'O'"):
        SHAPE.read(values, "f.conll, row f.conll:7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी है", ["हिन्दी", "है"]),
        ("\u30ab\u3099\u30e9", ["\u30ab\u3099", "\u30e9"]),
        ("\u2764\ufe0fParis", ["\u2764", "\ufe0f", "Paris"]),
        ("cafe\u0301!", ["cafe\u0301", "!"]),
        (
            "U.S. I.B.M's @me #a_b ... it's",
            ["U.S.", "I.B.M", "'s", "@me", "#a_b", "...", "it", "'s"],
        ),
    ],
)
def test_accents_belong_to_their_letters(text, words):
    read = SHAPE.read({"text": text}, "a", with_targets=False)
    assert [text[a:b] for a, b in read["words"]] == words


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": "a b", "tokens": 57}, "a b"),
        ({"text": "a b", "tokens": None}, "a b"),
        ({"text": "a b", "tokens": ["c", 2.0]}, "c 2.0"),
        ({"text": "a b", "tokens": "['c', 'd']"}, "c d"),
    ],
)
def test_prediction_reads_words_where_there_are_any(record, text):
    assert SHAPE.read(record, "a", with_targets=False)["text"] == text
    nested = replace(SHAPE, columns=replace(SHAPE.columns, tokens="a.tokens"))
    assert nested.read({"text": "a b", "a": record}, "a", with_targets=False)["text"] == text


def test_tags_stand_at_the_first_token_of_each_word(writers):
    task = task_on(writers["gpt2"], 64)  # whose tokens are parts of words
    rows = rows_of(tagged("strange colours !?", "B-X I-X B-Y"))
    found = task.encode(rows, training=True)
    (ids,), (labels,) = found.dataset["input_ids"], found.dataset["labels"]
    tokenizer = task.checkpoint.tokenizer
    offsets = tokenizer("strange colours !?", return_offsets_mapping=True)["offset_mapping"]
    assert len(ids) > 3
    begins = {"s": "B-X", "c": "I-X", "!": "B-Y"}
    expected = [begins.pop("strange colours !?"[a:b].strip()[:1], None) for a, b in offsets]
    assert [task.tags[i] if i != IGNORED else None for i in labels] == expected


def test_words_of_one_token_are_learned_and_answered_as_one(tmp_path):
    """A tokenizer that makes one token of a number and a letter, as some do of Chinese words."""
    task = task_on(word_models.encoder(tmp_path, ["a", "1b", "c"]), labels=("X",), scheme="bioes")
    one = {"text": "a 1b c", "entities": [[2, 4, "X"]]}
    half = {"text": "a 1b c", "entities": [[2, 3, "X"], [5, 6, "X"]]}
    rows = rows_of(one, half, shape=SPANS)
    assert [rows["text"][0][a:b] for a, b in rows["words"][0]] == ["a", "1", "b", "c"]
    examples = task.encode(rows, training=True)
    assert [[task.tags[i] for i in of if i >= 0] for of in examples.dataset["labels"]] == [
        ["O", "S-X", "O"],
        ["O", "S-X", "S-X"],
    ]
    (note,) = examples.notes
    assert note.startswith("1 of 3 entities begin or end within a word or a token, as '1' in row")
    labels = [of + [0] * (max(examples.lengths) - len(of)) for of in examples.dataset["labels"]]
    outputs = {"tag": np.array(labels), "probability": np.ones(np.shape(labels))}
    assert task.score(examples, outputs)["accuracy"] == 1.0
    assert task.decode(examples, outputs)["correct"] == [True, False]


def test_windows_without_a_word_are_not_trained(tmp_path):
    (folder := tmp_path / "m").mkdir()
    tokenizer = tiny_tokenizer(["ab"], encoder=True, begin=True)
    task = task_on(tiny_llama(folder, ["ab"], tokenizer), 8, stride=1)
    rows = rows_of(tagged("x" * 40 + " b", "O B-X"))
    trained, judged = (task.encode(rows, training=training) for training in (True, False))
    assert len(trained.dataset) < len(judged.dataset)
    assert all(any(i != IGNORED for i in of) for of in trained.dataset["labels"])


def test_a_trained_head_is_kept_in_the_order_of_its_tags(reader, tmp_path):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    names = ["O", "B-Y", "I-Y", "B-X", "I-X"]
    made = AutoModelForTokenClassification.from_pretrained(
        reader, num_labels=5, id2label=dict(enumerate(names))
    )
    made.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(reader).save_pretrained(tmp_path)
    task = task_on(tmp_path)
    own, kept = made.classifier.weight, task.load_model().classifier.weight
    assert task.tags == ("O", "B-X", "I-X", "B-Y", "I-Y")
    for i, tag in enumerate(task.tags):
        assert kept[i].tolist() == own[names.index(tag)].tolist()
    (said,) = task_on(tmp_path, labels=("X",)).warnings(rows_of(tagged("a", "O")))
    assert said.startswith("the model's own head of 5 labels (O, B-Y, I-Y, B-X, I-X) is replaced")


@pytest.mark.parametrize("policy", ["window", "truncate"])
def test_each_word_is_learned_and_answered_once(reader, policy):
    task = task_on(reader, 8, stride=3, long_rows=policy)  # of 6 tokens that are read, 3 shared
    tags = ["B-X", "I-X", "I-X", "O"] * 5
    rows = rows_of(tagged(" ".join(LETTERS), " ".join(tags)), tagged("a b", "O B-Y"))
    found = task.encode(rows)
    assert (len(found.dataset), found.truncated) == (7 if policy == "window" else 2, 1)
    seen = [
        (row, word)
        for row, places in zip(found.row, found.places, strict=True)
        for word in places[0].tolist()
    ]
    kept = 20 if policy == "window" else 6
    assert sorted(seen) == [*((0, i) for i in range(kept)), (1, 0), (1, 1)]
    # Where most is read around them: not the first two and the last after [CLS].
    assert all(places[1].tolist() == [3, 4, 5] for places in found.places[1:-2])
    decoded = task.decode(found, answers_of(task, found, [tags, ["O", "B-Y"]]))
    whole = ["a b c", "e f g", "i j k", "m n o", "q r s"]
    told = whole if policy == "window" else ["a b c", "e f"]
    assert [one["text"] for one in decoded["prediction"][0]] == told
    assert decoded["correct"] == [policy == "window", True]
    some = found.of_rows([1])
    assert [p.tolist() for p in some.places] == [found.places[-1].tolist()]


@given(data=st.data())
def test_scores_of_answers_are_those_of_seqeval(reader, data):
    task = task_on(reader, 32)
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    kinds = [[data.draw(st.sampled_from(["", "X", "Y"])) for _ in range(n)] for n in lengths]
    true = [
        [
            f"{'I' if kind == before else 'B'}-{kind}" if kind else "O"
            for before, kind in pairwise(["", *of])
        ]
        for of in kinds
    ]
    found = [[data.draw(st.sampled_from(task.tags)) for _ in range(n)] for n in lengths]
    rows = rows_of(*({"tokens": LETTERS[: len(of)], "tags": of} for of in true))
    examples = task.encode(rows)
    scores = task.score(examples, answers_of(task, examples, found))
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, found))
    assert scores["f1_micro"] == pytest.approx(f1_score(true, found, zero_division=0))
    counts = task.counts(examples, answers_of(task, examples, found))
    assert counts["X"]["entities"] == sum(of.count("B-X") for of in true)


def test_losses_are_cross_entropy_over_words(reader):
    import torch

    task = task_on(reader)
    rows = rows_of(tagged("a b c", "B-X I-X O"), tagged("d", "B-Y"))
    examples = task.encode(rows)
    batch = task.collate(list(examples.dataset))
    model = task.load_model().eval()
    with torch.no_grad():
        found = task.forward(model, batch)
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
    assert found["weight"].tolist() == [3, 1]
    wanted = [[task.tags.index(tag) for tag in of] for of in (["B-X", "I-X", "O"], ["B-Y"])]
    for i, targets in enumerate(wanted):
        own = logits[i, 1 : 1 + len(targets)]  # after [CLS]
        loss = torch.nn.functional.cross_entropy(own, torch.tensor(targets), reduction="sum")
        assert found["loss"][i].item() == pytest.approx(loss.item(), rel=1e-5)
    assert found["probability"][0, 1].item() == pytest.approx(
        logits[0, 1].softmax(-1).max().item(), rel=1e-5
    )


def test_baseline_is_each_words_most_frequent_tag(reader):
    task = task_on(reader)
    train = rows_of(tagged("a b a", "B-X O B-X"), tagged("a c", "O B-Y"), tagged("d e f", "O O O"))
    judged = rows_of(tagged("a c d", "B-X O O"), tagged("t", "B-Y"))  # t is new: O
    scores = task.baseline(train, judged)
    assert scores["accuracy"] == pytest.approx(2 / 4)
    assert (scores["precision_micro"], scores["recall_micro"]) == (1 / 2, 1 / 2)
    assert scores["f1/X"] == 1.0


def test_metrics_are_those_that_are_scored(reader):
    for scheme in ("bio", "plain"):
        task = task_on(reader, scheme=scheme)
        rows = rows_of(tagged("a b", "O O"), shape=replace(SHAPE, scheme=scheme))
        scores = task.baseline(rows, rows)
        named = {name.partition("/")[0] + "/" * ("/" in name) for name in scores}
        assert named == task.metrics(task.config).keys() - {"loss"}
