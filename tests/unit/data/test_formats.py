"""Layouts of conversations: there and back nothing changes, and what is wrong is named."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli.convert import LAYOUTS as IN_THE_HELP
from pipeline.common.errors import DataError
from pipeline.data.conversations import (
    AUTO,
    COLUMNS,
    LAYOUTS,
    Message,
    detect,
    layouts_with,
    read_conversation,
    write_conversation,
)
from pipeline.data.convert import Columns, convert
from pipeline.data.readers import read_records

CHATS = ("messages", "contents", "sharegpt", "alpaca", "prompt_completion")
ODD = [
    '"',
    "'",
    ",",
    "\n\n",
    "\r",
    "\r\n",
    "\t",
    "\\n",
    "\0",
    "\x85",
    "\u2028",
    "\u202e",
    "😀",
    "好",
]

texts = (
    st.lists(st.sampled_from(ODD) | st.text(max_size=5), min_size=1, max_size=6)
    .map("".join)
    .filter(str.strip)
)
turns = st.tuples(texts, texts).map(
    lambda pair: (Message("user", pair[0]), Message("assistant", pair[1]))
)


@st.composite
def conversations(draw, most: int = 4):
    system = draw(st.none() | texts.map(lambda text: Message("system", text)))
    drawn = draw(st.lists(turns, min_size=1, max_size=most))
    return (*([system] if system else []), *(message for turn in drawn for message in turn))


def through(layout, conversation):
    """Write a conversation as a line of JSON and read it again."""
    line = json.dumps(layout.write(conversation), ensure_ascii=False)
    assert detect(json.loads(line), {layout.name: layout}) == layout.name
    return layout.read(json.loads(line.encode()))


@settings(max_examples=200, deadline=None)
@given(conversations())
def test_a_conversation_is_the_same_through_every_pair_of_layouts(conversation):
    for first, second in permutations(CHATS, 2):
        there = through(LAYOUTS[second], through(LAYOUTS[first], conversation))
        assert through(LAYOUTS[first], there) == conversation


@settings(max_examples=40, deadline=None)
@given(turns)
def test_one_turn_is_the_same_through_two_columns(conversation):
    for layout in [*map(LAYOUTS.get, COLUMNS), *map(layouts_with("q?", "a,b").get, COLUMNS)]:
        for chat in CHATS:
            there = through(LAYOUTS[chat], through(layout, conversation))
            assert through(layout, there) == conversation


@settings(max_examples=40, deadline=None)
@given(st.lists(turns, min_size=1, max_size=4))
def test_csv_gives_back_every_character(given):
    Path("in.jsonl").write_text(
        "".join(json.dumps(LAYOUTS["messages"].write(c)) + "\n" for c in given)
    )
    convert(Path("in.jsonl"), Path("out.csv"), "text_label", force=True)
    convert(Path("out.csv"), Path("back.jsonl"), "messages", force=True)
    assert in_file("back.jsonl", "messages") == given


@settings(max_examples=40, deadline=None)
@given(conversations(), st.data())
def test_a_weight_is_kept_or_refused(conversation, data):
    spared = data.draw(st.sampled_from([i for i, m in enumerate(conversation) if m[0][0] == "a"]))
    weighted = tuple(m._replace(trained=i != spared) for i, m in enumerate(conversation))
    assert through(LAYOUTS["messages"], weighted) == weighted
    for name in CHATS[1:]:
        with pytest.raises(DataError, match=f"{name} cannot carry an assistant .* weight 0; mess"):
            LAYOUTS[name].write(weighted)


def in_file(path, layout):
    """Return the conversations of a file."""
    records = read_records(Path(path), "utf-8")
    return [read_conversation(v, LAYOUTS[layout], f"{path}:{line}") for line, v in records]


U, A = Message("user", "Hi"), Message("assistant", "Ho")
S = Message("system", "Be brief.")
HI, HO = ("user", "Hi"), ("assistant", "Ho")


def chat(*messages, **more):
    """Return a record of messages given as role and content, or whole."""
    whole = [m if isinstance(m, dict) else {"role": m[0], "content": m[1]} for m in messages]
    return {"messages": whole, **more}


@pytest.mark.parametrize(
    ("values", "layout", "conversation"),
    [
        (
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": t} for t in "Hi"]},
                    {"role": "assistant", "content": "Ho", "weight": 0, "refusal": None},
                    {"role": "user", "content": "Hi", "weight": None, "tool_calls": []},
                    {"role": "assistant", "content": "Ho", "weight": 1.0},
                ],
                "tools": [],
            },
            "messages",
            (S, U, A._replace(trained=False), U, A),
        ),
        (
            {
                "systemInstruction": {"parts": [{"text": "Be "}, {"text": "brief."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "H"}, {"text": "i"}]},
                    {"role": "model", "parts": [{"text": "Ho", "functionCall": None}]},
                ],
            },
            "contents",
            (S, U, A),
        ),
        (
            {
                "system": "Be brief.",
                "conversations": [
                    {"from": "user", "value": "Hi"},
                    {"from": "assistant", "value": "Ho"},
                ],
            },
            "sharegpt",
            (S, U, A),
        ),
        (
            {"instruction": "H", "input": "i", "output": "Ho", "system": "", "history": None},
            "alpaca",
            (Message("user", "H\ni"), A),
        ),
        ({"instruction": "", "input": "Hi", "output": "Ho"}, "alpaca", (U, A)),
        (
            {
                "prompt": [{"role": "user", "content": "Hi"}],
                "completion": [{"role": "assistant", "content": "Ho"}],
            },
            "prompt_completion",
            (U, A),
        ),
        ({"text": "Hi", "label": 1.0}, "text_label", (U, Message("assistant", "1"))),
        ({"text": "Hi", "label": True}, "text_label", (U, Message("assistant", "True"))),
        (
            {
                "id": "7",
                "context": "C",
                "question": "Q?",
                "answers": {"text": ["Ho", "He"], "answer_start": [0, 1]},
            },
            "squad",
            (Message("user", "C\n\nQ?"), A),
        ),
    ],
)
def test_what_others_write_is_read(values, layout, conversation):
    assert detect(values) == layout
    assert LAYOUTS[layout].read(values) == conversation


@settings(max_examples=40, deadline=None)
@given(conversations())
def test_what_is_to_be_answered_ends_with_the_user(conversation):
    for name in CHATS:
        layout = LAYOUTS[name]
        values = layout.write(conversation)
        without = {key: value for key, value in values.items() if key != layout.answer}
        for record in (values, without):
            assert read_conversation(record, AUTO, "a:1", to_answer=True) == conversation[:-1]


@pytest.mark.parametrize(
    "values",
    [
        chat(HI),
        {"text": "Hi"},
        {"source": "Hi", "target": None},
        {"prompt": "Hi"},
        {"instruction": "Hi"},
    ],
)
def test_an_answer_may_be_missing_where_it_is_asked_for(values):
    assert read_conversation(values, AUTO, "a:1", to_answer=True) == (U,)
    with pytest.raises(DataError, match=r"^a:1: "):
        read_conversation(values, AUTO, "a:1")


def test_a_layout_is_named_or_told_by_the_keys():
    assert read_conversation(chat(HI, HO), "messages", "a:1") == (U, A)
    assert read_conversation({"text": "Hi", "label": "Ho"}, AUTO, "a:1") == (U, A)
    with pytest.raises(DataError, match=r"^a:1: 'mesages' is no layout; .*Did you mean messages\?"):
        read_conversation(chat(HI, HO), "mesages", "a:1")
    with pytest.raises(DataError, match=r"^a:1: there is no message from the user; expected at"):
        read_conversation(chat(HO), AUTO, "a:1", to_answer=True)


def test_the_layouts_are_written_as_their_readers_want_them():
    two = (S, U, A, U, A)
    assert LAYOUTS["messages"].write((U, A._replace(trained=False)))["messages"][1] == {
        "role": "assistant",
        "content": "Ho",
        "weight": 0,
    }
    assert LAYOUTS["contents"].write((S, U, A)) == {
        "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Ho"}]},
        ],
    }
    assert LAYOUTS["sharegpt"].write((U, A)) == {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    }
    assert LAYOUTS["alpaca"].write(two) == {
        "instruction": "Hi",
        "input": "",
        "output": "Ho",
        "system": "Be brief.",
        "history": [["Hi", "Ho"]],
    }
    assert LAYOUTS["prompt_completion"].write((U, A)) == {"prompt": "Hi", "completion": "Ho"}
    written = LAYOUTS["prompt_completion"].write(two)
    assert [m["role"] for m in written["prompt"]] == ["system", "user", "assistant", "user"]
    assert written["completion"] == [{"role": "assistant", "content": "Ho"}]
    assert layouts_with("q", None)["source_target"].write((U, A)) == {"q": "Hi", "target": "Ho"}


@pytest.mark.parametrize(
    ("conversation", "layout", "message"),
    [
        ((U, A, U, A), "source_target", "several turns; messages, contents, sharegpt, alpaca, pro"),
        ((S, U, A), "text_label", "a system message; messages, "),
        ((Message("system", ""), U, A), "alpaca", "an empty system message; messages, "),
        ((U, A._replace(trained=False)), "text_label", "weight 0; messages can"),
    ],
)
def test_what_a_layout_cannot_carry_is_refused_by_name(conversation, layout, message):
    with pytest.raises(DataError, match=f"^a:3: {layout} cannot carry .*{message}"):
        write_conversation(conversation, LAYOUTS[layout], "a:3")


@pytest.mark.parametrize(
    ("values", "layout", "message"),
    [
        (
            chat(HI, HO, ("asistant", "Ho")),
            "messages",
            "messages[2].role is 'asistant'; expected system, user or assistant. Did you mean "
            "assistant?",
        ),
        (chat(HI, (["user"], "Ho")), "messages", "messages[1].role is ['user']; expected system"),
        (chat(HI, ("tool", "22°")), "messages", "role is 'tool': tool calls are not supported."),
        (
            chat({"role": "user", "contents": "Hi"}),
            "messages",
            "messages[0] has the key 'contents'; expected role, content, weight. Did you mean "
            "content?",
        ),
        (chat({"role": "user"}), "messages", "messages[0] has no content; expected role, content"),
        (
            chat(HI, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}),
            "messages",
            "messages[1].tool_calls: tool calls are not supported.",
        ),
        (
            chat({"role": "user", "content": "Hi", "name": "Al"}, HO),
            "messages",
            "messages[0].name: tool calls are not supported.",
        ),
        (chat(HI, HO, tools=[{}]), "messages", "tools: tool calls are not supported."),
        (chat(HI, HO, functions=[{}]), "messages", "functions: tool calls are not supported."),
        (
            chat(("user", [{"type": "image_url", "image_url": "x"}]), HO),
            "messages",
            "messages[0].content[0].type is 'image_url'; expected text: only text is supported.",
        ),
        (chat(("user", 3), HO), "messages", "messages[0].content is 3; expected a list."),
        (chat(("user", " \n"), HO), "messages", "messages[0] is empty: found ' \\n', expected a"),
        (chat(HI, ("assistant", "")), "messages", "messages[1] is empty"),
        (chat(HI, ("system", "s"), HO), "messages", "messages[1] is a system message; expected"),
        (chat(("system", "s")), "messages", "there is no message from the assistant"),
        (chat(), "messages", "there is no message from the assistant"),
        (chat(HI, HI, HO), "messages", "messages[1] is from the user; expected one from the assi"),
        (chat(HO), "messages", "messages[0] is from the assistant; expected one from the user"),
        (chat(HI, HO, HI), "messages", "messages[2] is from the user; expected the assistant to"),
        (chat(HI, ("assistant", "\ud83d")), "messages", "messages[1] holds '\\ud83d', half of a"),
        (chat(HI, {"role": "assistant", "content": "Ho", "weight": 2}), "messages", "weight is 2;"),
        (
            chat(HI, {"role": "assistant", "content": "Ho", "weight": True}),
            "messages",
            "messages[1].weight is True; expected 0 or 1.",
        ),
        (chat({"role": "user", "content": "Hi", "weight": 0}, HO), "messages", "has a weight;"),
        ({"messages": "Hi"}, "messages", "messages is 'Hi'; expected a list."),
        ({"messages": ["Hi"]}, "messages", "messages[0] is 'Hi'; expected an object."),
        (
            {"contents": [{"role": "assistant", "parts": []}]},
            "contents",
            "contents[0].role is 'assistant'; expected user or model.",
        ),
        (
            {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "x"}}]}]},
            "contents",
            "contents[0].parts[0].fileData: only text is supported.",
        ),
        (
            {"contents": [], "system_instruction": {"parts": []}},
            "contents",
            "'system_instruction' is no key of contents. Did you mean systemInstruction?",
        ),
        (
            {"conversations": [{"from": "humn", "value": "Hi"}]},
            "sharegpt",
            "conversations[0].from is 'humn'; expected system, human or gpt. Did you mean human?",
        ),
        (
            {"conversations": [{"from": "system", "value": "s"}], "system": "s"},
            "sharegpt",
            "conversations[0] is a system message; expected it as the first only.",
        ),
        (
            {"instruction": "Hi", "output": "Ho", "sytem": "s"},
            "alpaca",
            "'sytem' is no key of alpaca. Did you mean system?",
        ),
        (
            {"instruction": "Hi", "output": "Ho", "history": [["a"]]},
            "alpaca",
            "history[0] has 1 texts; expected a question and its answer.",
        ),
        ({"instruction": "", "output": "Ho"}, "alpaca", "instruction is empty"),
        ({"instruction": "Hi", "output": None}, "alpaca", "output is None; expected a text."),
        ({"prompt": "Hi", "completion": []}, "prompt_completion", "completion is []; expected a t"),
        ({"prompt": [], "completion": []}, "prompt_completion", "completion has 0 messages; expec"),
        ({"source": "Hi", "target": 3}, "source_target", "target is 3; expected a text."),
        ({"source": "Hi", "targt": "x"}, "source_target", "'target', which source_target needs"),
        ({"text": "Hi", "label": float("nan")}, "text_label", "label is nan; expected a text."),
        (
            {"context": "C", "question": "Q?", "answers": {"text": [], "answer_start": []}},
            "squad",
            "answers.text is empty; expected an answer",
        ),
        ({"context": " ", "question": "Q?", "answers": {}}, "squad", "context is empty"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(values, layout, message):
    with pytest.raises(DataError) as caught:
        read_conversation(values, LAYOUTS[layout], "a.jsonl:7")
    assert str(caught.value).startswith("a.jsonl:7: ")
    assert message in str(caught.value)


def test_a_record_of_no_layout_names_the_keys_that_there_are():
    with pytest.raises(DataError, match=r"found the keys mesages, id; expected .*alpaca \(instruc"):
        detect({"mesages": [], "id": 1})
    with pytest.raises(DataError, match=r"Did you mean messages\?$"):
        detect({"mesages": [], "id": 1})


# The command.

SEVERAL = [(S, U, A, U, Message("assistant", 'says "好",\n\nand 😀')), (U, A), (S, U, A)]
ONE_TURN = [(U, A), (Message("user", 'a "b",\n\nc'), Message("assistant", "😀"))]


def write_file(path, given=ONE_TURN, layout="messages"):
    lines = [json.dumps(LAYOUTS[layout].write(c), ensure_ascii=False) + "\n" for c in given]
    Path(path).write_text("".join(lines), encoding="utf-8")


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
    assert list(read_records(Path("back.csv"), "utf-8")) == [
        (2, {"review": "très bien", "stars": "5"})
    ]
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
    assert "in.csv:2: there is no column 'revew' (--input-column); found id, review" in ended.err
    ended = cli("convert", "out.jsonl", "o.jsonl", "--to", "alpaca", *names)
    assert "neither messages nor alpaca has columns" in ended.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["in.jsonl", "out.jsonl", "--to", "mesages"], "--to mesages: there is no such layout. Va"),
        (["in.jsonl", "out.jsonl", "--to", "mesages"], "Did you mean messages?"),
        (["in.jsonl", "out.jsonl", "--to", "alpaca", "--from", "openai"], "--from openai: there"),
        (["in.jsonl", "out.jsonl", "--to", "squad"], "--to squad: is only read; expected message"),
        (["in.jsonl", "out.jsonl", "--to", "alpaca", "--from", "squad"], "in.jsonl:1: there is no"),
        (["in.jsonl", "in.jsonl", "--to", "alpaca", "--force"], "in.jsonl: is the file to be read"),
        (["in.jsonl", "./x/../in.jsonl", "--to", "alpaca", "--force"], "is the file to be read"),
        (["in.jsonl", "kept.jsonl", "--to", "alpaca"], "kept.jsonl: is there already; give anoth"),
        (["in.jsonl", "x.jsonl", "--to", "alpaca"], "x.jsonl: is a folder"),
        (["in.jsonl", "y/out.jsonl", "--to", "alpaca"], "y/out.jsonl: there is no folder y."),
        (["in.jsonl", "out.json", "--to", "alpaca"], "the suffix is '.json'; expected .jsonl or"),
        (["in.jsonl", "out.csv", "--to", "alpaca"], "a csv file has columns, which alpaca has not"),
        (["in.jsonl", "out.jsonl", "more", "--to", "alpaca"], "convert: more: expected IN and OUT"),
        (["in.jsnl", "out.jsonl", "--to", "alpaca"], "in.jsnl: the suffix '.jsnl' is no known"),
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
        (["none.jsonl", "out.jsonl", "--to", "alpaca"], "none.jsonl: no rows; expected at least"),
        (["bad.jsonl", "out.jsonl", "--to", "alpaca"], "bad.jsonl:3: messages[1].role is 'asist"),
        (["bad.jsonl", "kept.jsonl", "--to", "alpaca", "--force"], "bad.jsonl:3: messages[1]"),
        (["cut.jsonl", "out.jsonl", "--to", "alpaca"], "cut.jsonl, line 3: not JSON"),
        (["weight.jsonl", "out.jsonl", "--to", "contents"], "weight.jsonl:3: contents cannot carr"),
        (["keys.jsonl", "out.jsonl", "--to", "alpaca"], "keys.jsonl:1: found the keys a; expected"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(cli, given, said):
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


def test_a_file_that_is_there_is_replaced_when_that_is_asked_for(cli):
    write_file("in.jsonl")
    Path("out.jsonl").write_text("old")
    assert cli("convert", "in.jsonl", "out.jsonl", "--to", "sharegpt", "--force").code == 0
    assert in_file("out.jsonl", "sharegpt") == ONE_TURN


def test_what_is_stopped_leaves_nothing(cli, monkeypatch):
    write_file("in.jsonl")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.data.convert.write_conversation", stop)
    ended = cli("convert", "in.jsonl", "out.jsonl", "--to", "sharegpt")
    assert (ended.code, ended.err) == (130, "tunewright: stopped.\n")
    assert [path.name for path in Path().iterdir()] == ["in.jsonl"]


def test_the_help_and_the_page_name_every_layout():
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, layout in LAYOUTS.items():
        assert f"`{name}`" in page
        assert layout.fields is None or name in IN_THE_HELP


def test_the_lines_on_the_page_are_read_as_the_layouts_beside_them():
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    cells = [
        [c.strip() for c in row.split(" | ")] for row in page.splitlines() if row.endswith("}` |")
    ]
    shown = {row[0].strip("| `"): json.loads(row[-1].strip(" |`")) for row in cells}
    assert list(shown) == list(LAYOUTS)
    for name, values in shown.items():
        assert detect(values) == name
        assert LAYOUTS[name].read(values)


def test_columns_have_names_of_their_own():
    write_file("in.jsonl")
    done = convert(Path("in.jsonl"), Path("o.csv"), "source_target", columns=Columns("q"))
    assert (done.rows, done.source, done.target, done.left_out) == (2, *done[1:3], ())
    assert Path("o.csv").read_text(encoding="utf-8").startswith("q,target\n")
