"""convert: files of conversations from one layout to another, whole or not at all."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from pipeline.data.conversations import Message
from pipeline.data.layouts import COLUMNS, LAYOUTS
from pipeline.data.readers import read_records
from tests.support.conversations import CHATS, HI, ONE_TURN, A, S, U, chat, in_file, write_file
from tests.support.rows import write_rows

SEVERAL = [(S, U, A, U, Message("assistant", 'says "好",\n\nand 😀')), (U, A), (S, U, A)]


@pytest.mark.parametrize("there", [*CHATS[1:], *COLUMNS])
def test_a_file_there_and_back_holds_the_same_conversations(cli, there):
    given = ONE_TURN if there in COLUMNS else SEVERAL
    write_file("in.jsonl", given)
    out = "there.csv" if there in COLUMNS else "there.jsonl"
    ended = cli("convert", "in.jsonl", out, "--to", there)
    rows = len(given)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{out}: {rows} rows, from messages to {there}\n"
    assert "😀" in Path(out).read_text(encoding="utf-8")
    assert cli("convert", out, "back.jsonl", "--to", "messages").code == 0
    assert Path("back.jsonl").read_bytes() == Path("in.jsonl").read_bytes()


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_every_format_is_read(cli, suffix):
    records = [LAYOUTS["messages"].write(c) for c in SEVERAL]
    if suffix == "json":
        Path("in.json").write_text(json.dumps(records))
    else:
        records[0]["messages"][2]["weight"] = 1  # so that every message has the key, most with null
        Dataset.from_list(records).to_parquet("in.parquet")
    assert cli("convert", f"in.{suffix}", "out.jsonl", "--to", "sharegpt").code == 0
    assert in_file("out.jsonl", "sharegpt") == SEVERAL


def test_columns_are_named_in_the_file_that_has_them(cli):
    Path("in.csv").write_text("id,review,stars\n7,très bien,5\n", encoding="latin-1")
    names = ("--input-column", "review", "--target-column", "stars")
    ended = cli("convert", "in.csv", "out.jsonl", "--to", "messages", *names, "--encoding=latin-1")
    assert ended.out == "out.jsonl: 1 row, from source_target to messages; left out: id\n"
    assert cli("convert", "out.jsonl", "back.csv", "--to", "text_label", *names).code == 0
    assert list(read_records(Path("back.csv"))) == [(2, {"review": "très bien", "stars": "5"})]
    ended = cli(
        "convert",
        "in.csv",
        "o.csv",
        "--to",
        "text_label",
        "--input-column",
        "revew",
        "--encoding=latin-1",
    )
    assert "in.csv:2: there is no column 'revew' (--input-column); found 'id'," in ended.err
    ended = cli("convert", "out.jsonl", "o.jsonl", "--to", "alpaca", *names)
    assert "neither messages nor alpaca has columns" in ended.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["in.jsonl", "out.jsonl", "--to", "mesages"], "--to mesages: there is no such layout. Va"),
        (["in.jsonl", "out.jsonl", "--to", "mesages"], "Did you mean messages?"),
        (["in.jsonl", "out.jsonl", "--to", "alpaca", "--from", "openai"], "--from openai: there"),
        (["in.jsonl", "out.jsonl", "--to", "squad"], "--to squad: this layout is read-only; expec"),
        (["in.jsonl", "out.jsonl", "--to", "alpaca", "--from", "squad"], "in.jsonl:1: there is no"),
        (["in.jsonl", "in.jsonl", "--to", "alpaca", "--force"], "in.jsonl: is the input file"),
        (["in.jsonl", "./x/../in.jsonl", "--to", "alpaca", "--force"], "is the input file"),
        (["in.jsonl", "kept.jsonl", "--to", "alpaca"], "kept.jsonl: already exists; give another"),
        (["in.jsonl", "x.jsonl", "--to", "alpaca"], "x.jsonl: is a folder"),
        (
            ["in.jsonl", "y/out.jsonl", "--to", "alpaca"],
            "y/out.jsonl: the folder y does not exist.",
        ),
        (["in.jsonl", "out.json", "--to", "alpaca"], "the suffix is '.json'; expected .jsonl or"),
        (["in.jsonl", "out.csv", "--to", "alpaca"], "alpaca has no columns for a csv file"),
        (["in.jsonl", "out.jsonl", "more", "--to", "alpaca"], "convert: more: expected IN and OUT"),
        (["in.jsnl", "out.jsonl", "--to", "alpaca"], "in.jsnl: the suffix '.jsnl' is not a"),
        (["inn.jsonl", "out.jsonl", "--to", "alpaca"], "there is no such file"),
        (
            [f"{'n' * 300}.jsonl", "out.jsonl", "--to", "alpaca"],
            "cannot be read: File name",
        ),
        (
            ["in.jsonl", "out.jsonl", "--to", "alpaca", "--encoding", "utf-9"],
            "--encoding utf-9: no",
        ),
        (
            ["in.jsonl", "o.csv", "--to", "text_label", "--input-column=a", "--target-column=a"],
            "--input-column and --target-column are both 'a'",
        ),
        (["in.jsonl", "o.csv", "--to", "text_label", "--input-column="], "is empty"),
        (
            ["in.jsonl", "out.jsonl", "--to", "alpaca", "--delimiter", "colon"],
            "--delimiter 'colon': should be comma, semicolon, tab, pipe or one character.",
        ),
        (["none.jsonl", "out.jsonl", "--to", "alpaca"], "none.jsonl: no rows; expected at least"),
        (["bad.jsonl", "out.jsonl", "--to", "alpaca"], "bad.jsonl:3: messages[1].role is 'asist"),
        (["bad.jsonl", "kept.jsonl", "--to", "alpaca", "--force"], "bad.jsonl:3: messages[1]"),
        (["cut.jsonl", "out.jsonl", "--to", "alpaca"], "cut.jsonl, line 3: not JSON"),
        (["weight.jsonl", "out.jsonl", "--to", "contents"], "weight.jsonl:3: contents cannot repr"),
        (
            ["keys.jsonl", "out.jsonl", "--to", "alpaca"],
            "keys.jsonl:1: found the keys 'a'; exp",
        ),
    ],
)
def test_refused_conversion_leaves_nothing(cli, given, said):
    write_file("in.jsonl")
    Path("x.jsonl").mkdir()
    Path("x").mkdir()
    Path("kept.jsonl").write_text("kept")
    Path("none.jsonl").write_text("\n")
    Path("keys.jsonl").write_text('{"a": 1}\n')
    good = Path("in.jsonl").read_text(encoding="utf-8")
    Path("bad.jsonl").write_text(good + json.dumps(chat(HI, ("asistant", "Ho"))), encoding="utf-8")
    Path("cut.jsonl").write_text(good + '{"messages": [', encoding="utf-8")
    write_file("weight.jsonl", [*ONE_TURN, (U, A._replace(trained=False))])
    there = sorted(Path().rglob("*"))
    ended = cli("convert", *given)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert sorted(Path().rglob("*")) == there
    assert Path("kept.jsonl").read_text() == "kept"


def test_force_replaces_an_existing_file(cli):
    write_file("in.jsonl")
    Path("out.jsonl").write_text("old")
    assert cli("convert", "in.jsonl", "out.jsonl", "--to", "sharegpt", "--force").code == 0
    assert in_file("out.jsonl", "sharegpt") == ONE_TURN


def test_stopped_conversion_leaves_nothing(cli, monkeypatch):
    write_file("in.jsonl")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.data.layouts.Layout.write", stop)
    ended = cli("convert", "in.jsonl", "out.jsonl", "--to", "sharegpt")
    assert (ended.code, ended.err) == (130, "tunewright: stopped.\n")
    assert [path.name for path in Path().iterdir()] == ["in.jsonl"]


def test_preferences_convert_to_each_other_and_to_no_conversation(cli):
    records = [
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Hey"},
        {
            "prompt": [{"role": "system", "content": ""}, {"role": "user", "content": "a"}],
            "chosen": [{"role": "assistant", "content": "b"}],
            "rejected": [{"role": "assistant", "content": "c"}],
        },
    ]
    write_rows(Path("a.jsonl"), records)
    for name, before in (("preference_openai", "a"), ("preference_sharegpt", "b")):
        after = chr(ord(before) + 1)
        done = cli("convert", f"{before}.jsonl", f"{after}.jsonl", "--to", name)
        assert done.code == 0, done.err
        assert f"to {name}" in done.out
    assert cli("convert", "c.jsonl", "d.jsonl", "--to", "preference").code == 0
    found = [json.loads(line) for line in Path("d.jsonl").read_text().splitlines()]
    assert found == records
    for to, said in (
        ("messages", "preference has two replies, and messages one"),
        ("preferenc", "no such layout"),
    ):
        ended = cli("convert", "a.jsonl", "e.jsonl", "--to", to)
        assert (ended.code, Path("e.jsonl").exists()) == (2, False)
        assert said in ended.err
