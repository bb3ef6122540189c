"""Encoded data on disk: made once, the same as without, and never those of something else."""

import json
import logging
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.disk_cache import Entries
from pipeline.common.session import session
from pipeline.data import Rows, Targets
from pipeline.data.conversations import Message
from pipeline.models import find_checkpoint
from pipeline.tasks import encoded_cache as encoded
from pipeline.tasks import get_task
from pipeline.tasks.encoded_cache import EncodedStore, encoding_key
from pipeline.tasks.parts.conversing import Chats
from pipeline.tasks.parts.squad import QuestionAnswers
from pipeline.tasks.parts.tagged import Tagged
from pipeline.tasks.parts.tags import Entity
from pipeline.tasks.parts.text_to_text import SourceTarget
from tests.support import word_models as models
from tests.support.configs import columns_for, model_of, task_settings
from tests.support.rows import labelled, tiny_task
from tests.support.tiny_models import CHATML, tiny_gpt2, tiny_llama, tiny_t5, tiny_tokenizer

PAIRS = [("the good film", "pos"), ("a bad day and a sad book", "neg"), ("so nice", "pos")]
TEXTS = ["red house rot haus", "small dog klein hund", "Hi What is red? A colour."]
LETTERS = list("abcdefghijklmnopqrst")
TURNS = (
    Message("user", "Hi"),
    Message("assistant", "A colour.", trained=False),
    Message("user", "What is red?"),
    Message("assistant", "A colour."),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture
def store(working_folder):
    return EncodedStore(working_folder / "cache")


def task_of(config, model, max_length, counts=None):
    checkpoint = find_checkpoint(model_of(model))
    return get_task(config)(config, checkpoint, max_length, Targets(counts or {}))


def once(path, make, *args):
    return path if path.is_dir() else make(path, *args)


def classification(_folder, tiny_model):
    return tiny_task(tiny_model, {"neg": 1, "pos": 2}, 6), labelled(PAIRS)


def several_labels(_folder, tiny_model):
    task = tiny_task(tiny_model, {"neg": 1, "pos": 2}, 6, multi_label=True, long_rows="drop")
    return task, labelled([(text, (label,)) for text, label in PAIRS])


def windows(_folder, tiny_model):
    task = tiny_task(tiny_model, {"neg": 1, "pos": 2}, 6, long_rows="window", stride=2)
    return task, labelled(PAIRS)


def generative(folder, _):
    model = once(folder / "llama", tiny_llama, TEXTS)
    return tiny_task(model, {"neg": 1, "pos": 2}, 32, approach="generative"), labelled(PAIRS)


def answers(folder, _):
    model = once(folder / "reader", models.encoder, [*LETTERS, "who"])
    task = task_of(task_settings("question_answering", stride=4), model, 12)
    contexts = [" ".join(LETTERS), "a b", "c d"]
    found = [(("f g h", 10),), (("b", 2),), ()]
    columns = {"context": contexts, "question": ["who"] * 3, "answers": found}
    return task, Rows(
        QuestionAnswers(columns_for("question_answering")), ["f:1", "f:2", "f:3"], columns
    )


def tags(folder, _):
    model = once(folder / "reader", models.encoder, [*LETTERS, "who"])
    task = task_of(task_settings("token_classification", stride=4), model, 12, {"X": 1})
    texts = [" ".join(LETTERS), "a b", "\u200b"]  # of the last the tokenizer makes no token
    words = [tuple((i, i + 1) for i in range(0, len(text), 2)) for text in texts]
    found = [(Entity(2, 5, "X"),), (), ()]
    columns = {"text": texts, "words": words, "entities": found}
    shape = Tagged(columns_for("token_classification"))
    return task, Rows(shape, ["f:1", "f:2", "f:3"], columns)


def translation(folder, _):
    return writing(task_settings("translation", max_target_length=4), folder, tiny_t5)


def summarization(folder, _):
    config = task_settings("summarization", max_target_length=4)
    return writing(config, folder, tiny_gpt2)


def writing(config, folder, make):
    model = once(folder / make.__name__, make, TEXTS)
    columns = {"source": ["red house " * 9, "small dog"], "target": ["rot haus " * 9, "hund"]}
    return task_of(config, model, 24), Rows(
        SourceTarget(columns_for("translation")), ["t:1", "t:2"], columns
    )


def chat(folder, _):
    tokenizer = tiny_tokenizer(TEXTS, begin=True, template=CHATML)
    model = once(folder / "chatter", tiny_llama, TEXTS, tokenizer)
    rows = Rows(Chats(columns_for("chat")), ["c:1", "c:2"], {"messages": [TURNS, TURNS[2:]]})
    return task_of(task_settings("chat"), model, 64), rows


KINDS = [
    classification,
    several_labels,
    windows,
    generative,
    answers,
    tags,
    translation,
    summarization,
    chat,
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_encoding_equals_fresh_one(kind, training, folder, tiny_model, store):
    task, given = kind(folder, tiny_model)
    key = encoding_key(task, given, training=training)
    plain = task.encode(given, training=training)
    made = store.get(key, given, lambda: task.encode(given, training=training))
    read = store.get(key, given, pytest.fail)
    for found in (made, read):
        assert type(found) is type(plain)
        assert found.dataset.cache_files  # it is where it lies, not in memory
        assert found.dataset.features == plain.dataset.features
        assert found.dataset.to_dict() == plain.dataset.to_dict()
        assert found.rows is given
        assert (found.truncated, found.dropped) == (plain.truncated, plain.dropped)
        assert (found.notes, found.row) == (plain.notes, plain.row)
        places = getattr(plain, "places", ())
        assert len(getattr(found, "places", ())) == len(places)
        for one, other in zip(getattr(found, "places", ()), places, strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
    assert encoding_key(task, given, training=training) == key  # after use as before


def test_arrays_are_read_across_chunks():
    import pyarrow as pa

    whole = [np.arange(2 * n).reshape(n, 2) for n in (1, 3, 2, 5)]
    lists = [a.tolist() for a in whole]
    found = encoded.Arrays(pa.chunked_array([lists[:3], lists[3:]]).slice(1))
    assert len(found) == 3
    assert all(np.array_equal(*both) for both in zip(found, whole[1:], strict=True))
    assert np.array_equal(found[-1], whole[-1])
    assert [len(a) for a in found[::2]] == [3, 5]
    with pytest.raises(IndexError):
        found[3]


# What the key tells apart


def test_encoding_key_changes_with_all_that_tokens_depend_on(tiny_model, folder):
    base, given = classification(folder, tiny_model)
    other = tiny_task(once(folder / "other", models.encoder, ["good"]), base.targets.counts, 6)
    keys = [
        encoding_key(task, of, training=training)
        for task, of, training in (
            (base, given, False),
            (base, given, True),
            (base, labelled(PAIRS[:2]), False),
            (base, labelled([("The good film", "pos"), *PAIRS[1:]]), False),
            (base, Rows(given.shape, given.ids, {"text": given["text"]}), False),
            (tiny_task(tiny_model, {"neg": 1, "pos": 2}, 7), given, False),
            (tiny_task(tiny_model, {"maybe": 1, "neg": 1, "pos": 2}, 6), given, False),
            (tiny_task(tiny_model, {"neg": 1, "pos": 2}, 6, long_rows="window"), given, False),
            (other, given, False),
            (changed(base, lambda t: t.backend_tokenizer.add_tokens(["film book"])), given, False),
            (changed(base, lambda t: t.init_kwargs.update(tgt_lang="de")), given, False),
            (changed(base, lambda t: setattr(t, "chat_template", CHATML)), given, False),
        )
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    same = labelled(PAIRS)
    assert (
        encoding_key(base, Rows(same.shape, ["x", "y", "z"], same.columns), training=False)
        == (keys[0])
    )


def changed(task, change):
    """Return a task with a tokenizer of its own."""
    session().clear()
    checkpoint = find_checkpoint(model_of(task.checkpoint.location))
    change(checkpoint.tokenizer)
    return type(task)(task.config, checkpoint, task.max_length, task.targets)


def test_a_template_that_writes_the_day_is_encoded_once_a_day(folder, tiny_model, monkeypatch):
    class Tomorrow(encoded.date):
        @classmethod
        def today(cls):
            return cls(2999, 1, 1)

    task, given = chat(folder, tiny_model)

    def key(template):
        dated = changed(task, lambda t: setattr(t, "chat_template", template + CHATML))
        return encoding_key(dated, given, training=True)

    day = "{{ strftime_now('%d %b %Y') }}"
    today = key(day)
    assert key("{{ strftime_now('%H:%M') }}") is None
    assert key("{{ [1, 2]|random }}") is None
    monkeypatch.setattr(encoded, "date", Tomorrow)
    assert None is not today != key(day)


def test_a_tokenizer_with_code_of_its_own_is_asked_each_time(folder, tiny_model):
    task, given = classification(folder, tiny_model)
    kind = type("Own", (type(task.checkpoint.tokenizer),), {"__module__": "transformers_modules"})
    own = changed(task, lambda tokenizer: setattr(tokenizer, "__class__", kind))
    assert encoding_key(own, given, training=True) is None


def test_slow_tokenizers_differ_by_their_vocabulary(folder, tiny_model):
    from transformers import ByT5Tokenizer

    task, given = classification(folder, tiny_model)
    keys = {
        encoding_key(
            type(task)(task.config, replace(task.checkpoint, tokenizer=made), 6, Targets()),
            given,
            training=True,
        )
        for made in (ByT5Tokenizer(), ByT5Tokenizer(extra_ids=7))
    }
    assert None not in keys
    assert len(keys) == 2


# Entries


@pytest.fixture
def made(store, folder, tiny_model):
    """Return what gets an entry, and the list that grows with each encoding."""
    task, given = classification(folder, tiny_model)
    calls = []

    def get(key="key", **options):
        def make():
            calls.append(key)
            return task.encode(given)

        return store.get(key, given, make, **options)

    get.calls = calls
    return get


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shortened(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("file", ["examples.json", "dataset/*.arrow", "dataset/state.json"])
@pytest.mark.parametrize("harm", [shortened, flipped, Path.unlink])
def test_a_broken_entry_is_made_again(made, store, caplog, file, harm):
    whole = made().dataset.to_dict()
    (path,) = (store.folder / "key").glob(file)
    if harm is flipped and file == "examples.json":
        path.write_text(path.read_text().replace("truncated", "trumcated"))
    else:
        harm(path)
    with caplog.at_level(logging.WARNING):
        assert made().dataset.to_dict() == whole
    assert "encoding again" in caplog.text
    caplog.clear()
    assert made().dataset.to_dict() == whole
    assert len(made.calls) == 2
    assert not caplog.text


def test_without_keep_entries_are_read_and_none_written(made, store):
    made(keep=False)
    assert not store.folder.exists()
    made()
    made(keep=False)
    assert len(made.calls) == 2


def test_unwritable_cache_folder_is_logged(made, store, caplog):
    store.folder.write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert len(made().dataset) == len(PAIRS)
    assert "cannot cache" in caplog.text


def test_several_threads_make_it_once(made):
    found = []
    threads = [threading.Thread(target=lambda: found.append(made())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made.calls) == 1
    assert len({json.dumps(examples.dataset.to_dict()) for examples in found}) == 1


def test_second_process_reads_what_the_first_stored(
    made, store, folder, tiny_model, working_folder, caplog
):
    task, given = classification(folder, tiny_model)

    def late():
        faster = EncodedStore(working_folder / "theirs")  # as where locks are not kept
        faster.get("key", given, lambda: task.encode(given))
        shutil.copytree(faster.folder / "key", store.folder / "key")
        return task.encode(given)

    found = store.get("key", given, late)
    assert found.dataset.to_dict() == made().dataset.to_dict()
    assert not made.calls
    assert not caplog.text
    assert not list(store.folder.glob(".*/"))


def test_the_longest_unused_entries_go_first(made, store, monkeypatch):
    monkeypatch.setattr(encoded, "MOST_ENTRIES", 2)
    for i, key in enumerate(("a", "b")):
        made(key)
        os.utime(store.folder / key, (i + 1, i + 1))
    kept = made("a")
    made("c")
    assert {path.name for path in store.folder.glob("[!.]*")} == {"a", "c"}
    made("b")
    assert len(kept.dataset.to_dict()["row"]) == len(PAIRS)  # read although it is gone
    monkeypatch.setattr(encoded, "MOST_BYTES", 1)
    made("d")
    assert [path.name for path in store.folder.glob("[!.]*")] == ["d"]


def test_unfinished_entry_is_removed_after_a_day(made, store):
    for name, age in ((".old", 2 * 24 * 3600), (".new", 60)):
        (store.folder / name).mkdir(parents=True)
        os.utime(store.folder / name, (time.time() - age,) * 2)
    made()
    assert {path.name for path in store.folder.glob(".*/")} == {".new"}


def test_tidy_keeps_locked_and_needed_entries(working_folder):
    entries = Entries(working_folder / "cache", 12_000)
    for i, key in enumerate("abcd"):
        with entries.put(key) as path:
            (path / "file").write_bytes(bytes(3000))
        os.utime(entries.folder / key, (i, i))
    entries.touch("c")  # "a" was used longest ago, and "d" before "c"
    with entries.alone("d"):
        entries.tidy(kept=["a"], new_bytes=6000)
    assert {path.name for path in entries.folder.glob("[!.]*")} == {"a", "c", "d"}
    with pytest.raises(ValueError, match="no more"), entries.put("e") as path:
        raise ValueError("no more")
    with entries.put("f") as path:
        entries.tidy(kept=["a"], new_bytes=6000)
        assert {path.name for path in entries.folder.glob("[!.]*/")} == {"a", "c"}
        (path / "file").write_bytes(bytes(1))  # it counts as well
        entries.tidy(kept=["a"], new_bytes=6000)
    assert {path.name for path in entries.folder.glob("*/")} == {"a", "f"}


# Commands


def test_some_rows_of_kept_data_leave_it_as_it_was_written(made, store):
    """Evaluations of `early_rows` take some; a file beside the data would spoil it for others."""
    whole = made()
    before = {path for path in store.folder.rglob("*") if path.suffix != ".lock"}
    some = whole.of_rows([2, 0])
    assert {path for path in store.folder.rglob("*") if path.suffix != ".lock"} == before
    assert some.dataset["row"][:] == [1, 0]
    texts = [whole.dataset[i]["input_ids"] for i in (0, 2)]
    assert some.dataset["input_ids"][:] == texts
