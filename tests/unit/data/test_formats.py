"""Layouts of conversations: there and back nothing changes, and what is wrong is named."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli.convert import LAYOUTS as IN_THE_HELP
from pipeline.common.errors import DataError
from pipeline.data.conversations import Message
from pipeline.data.convert import Columns, convert
from pipeline.data.layouts import (
    AUTO,
    COLUMNS,
    LAYOUTS,
    detect,
    layouts_with,
    read_conversation,
)
from pipeline.data.preferences import PAIR_LAYOUTS, detect_pair
from pipeline.data.values import is_blank
from tests.support.conversations import CHATS, HI, HO, A, S, U, chat, in_file, write_file

ODD = [
    '"',
    "'",
    ",",
    "\n\n",
    "\r",
    "\r\n",
    "\t",
    "\\n",
    "\x85",
    "\u2028",
    "\u202e",
    "😀",
    "好",
]
_characters = st.characters(codec="utf-8", exclude_characters="\0")
texts = (
    st.lists(
        st.sampled_from(ODD) | st.text(_characters, max_size=5),
        min_size=1,
        max_size=6,
    )
    .map("".join)
    .filter(lambda text: not is_blank(text))
)
turns = st.tuples(texts, texts).map(
    lambda pair: (Message("user", pair[0]), Message("assistant", pair[1]))
)


@st.composite
def conversations(draw, most: int = 4):
    system = draw(st.none() | texts.map(lambda text: Message("system", text)))
    drawn = draw(st.lists(turns, min_size=1, max_size=most))
    return (*([system] if system else []), *(message for turn in drawn for message in turn))


@st.composite
def uneven(draw):
    """Return conversations that a greeting begins, or with two messages of the user in a row."""
    found = draw(conversations())
    first = [m.role for m in found].index("user")
    greeting, more = Message("assistant", draw(texts)), Message("user", draw(texts))
    return (*found[:first], draw(st.sampled_from([greeting, more])), *found[first:])


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
@given(uneven())
def test_turns_that_do_not_alternate_are_kept_or_refused(conversation):
    for first, second in permutations([name for name in CHATS if name != "alpaca"], 2):
        assert through(LAYOUTS[second], through(LAYOUTS[first], conversation)) == conversation
    with pytest.raises(DataError, match="alpaca cannot represent turns that do not alternate"):
        LAYOUTS["alpaca"].write(conversation)


@settings(max_examples=40, deadline=None)
@given(turns)
def test_one_turn_is_the_same_through_two_columns(conversation):
    for layout in [*map(LAYOUTS.get, COLUMNS), *map(layouts_with("q?", "a,b").get, COLUMNS)]:
        for kind in CHATS:
            there = through(LAYOUTS[kind], through(layout, conversation))
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
        with pytest.raises(DataError, match=f"{name} cannot represent an assistant .*0; mess"):
            LAYOUTS[name].write(weighted)


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
def test_files_of_other_tools_are_read(values, layout, conversation):
    assert detect(values) == layout
    assert LAYOUTS[layout].read(values) == conversation


@settings(max_examples=40, deadline=None)
@given(conversations())
def test_asked_conversation_ends_with_the_user(conversation):
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


def test_layout_is_named_or_found_by_keys():
    assert read_conversation(chat(HI, HO), "messages", "a:1") == (U, A)
    assert read_conversation({"text": "Hi", "label": "Ho"}, AUTO, "a:1") == (U, A)
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
def test_loss_in_a_layout_is_refused_by_name(conversation, layout, message):
    with pytest.raises(DataError, match=f"^{layout} cannot represent .*{message}"):
        LAYOUTS[layout].write(conversation)


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
        (chat(("user", True), HO), "messages", "messages[0].content is True; expected a text."),
        (chat(("user", " \n"), HO), "messages", "messages[0] is empty: found ' \\n', expected a"),
        (chat(HI, ("assistant", "")), "messages", "messages[1] is empty"),
        (chat(HI, ("system", "s"), HO), "messages", "messages[1] is a system message; expected"),
        (chat(("system", "s")), "messages", "there is no message from the assistant"),
        (chat(), "messages", "there is no message from the assistant"),
        (chat(HI, HO, HO), "messages", "messages[2] is from the assistant, as is the message bef"),
        (chat(HO), "messages", "there is no message from the user"),
        (chat(HI, HO, HI), "messages", "messages[2] is from the user; expected the last message"),
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
            "'system_instruction' is not a key of contents. Did you mean systemInstruction?",
        ),
        (
            {"conversations": [{"from": "humn", "value": "Hi"}]},
            "sharegpt",
            "conversations[0].from is 'humn'; expected system, human or gpt. Did you mean human?",
        ),
        (
            {"conversations": [{"from": "system", "value": "s"}], "system": "s"},
            "sharegpt",
            "conversations[0] is a system message; expected one only as the first message.",
        ),
        (
            {"instruction": "Hi", "output": "Ho", "sytem": "s"},
            "alpaca",
            "'sytem' is not a key of alpaca. Did you mean system?",
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
        ({"source": "Hi", "target": [3]}, "source_target", "target is [3]; expected a text."),
        ({"source": "Hi", "targt": "x"}, "source_target", "'target', which source_target needs"),
        ({"text": "Hi", "label": float("nan")}, "text_label", "label is nan; expected a text."),
        (
            {"context": "C", "question": "Q?", "answers": {"text": [], "answer_start": []}},
            "squad",
            "answers.text is empty; expected at least",
        ),
        ({"context": " ", "question": "Q?", "answers": {}}, "squad", "context is empty"),
    ],
)
def test_invalid_conversation_is_refused_with_its_place(values, layout, message):
    with pytest.raises(DataError) as caught:
        read_conversation(values, layout, "a.jsonl:7")
    assert str(caught.value).startswith("a.jsonl:7: ")
    assert message in str(caught.value)


def test_a_record_of_no_layout_names_the_keys_that_there_are():
    with pytest.raises(DataError, match=r"the keys 'mesages', 'id'; expected .*alpaca \(instruc"):
        detect({"mesages": [], "id": 1})
    with pytest.raises(DataError, match=r"Did you mean messages\?$"):
        detect({"mesages": [], "id": 1})


def test_the_help_and_the_page_name_every_layout():
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name, layout in LAYOUTS.items():
        assert f"`{name}`" in page
        assert layout.fields is None or name in IN_THE_HELP


def test_examples_in_docs_are_read_as_their_layouts():
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    cells = [
        [c.strip() for c in row.split(" | ")] for row in page.splitlines() if row.endswith("}` |")
    ]
    shown = {row[0].strip("| `"): json.loads(row[-1].strip(" |`")) for row in cells}
    assert list(shown) == [*LAYOUTS, *sorted(PAIR_LAYOUTS)]
    for name, values in shown.items():
        is_pair = name in PAIR_LAYOUTS
        assert (detect_pair if is_pair else detect)(values) == name
        assert (PAIR_LAYOUTS if is_pair else LAYOUTS)[name].read(values)


def test_columns_have_names_of_their_own():
    write_file("in.jsonl")
    done = convert(Path("in.jsonl"), Path("o.csv"), "source_target", columns=Columns("q"))
    assert (done.rows, done.source, done.target, done.left_out) == (2, *done[1:3], ())
    assert Path("o.csv").read_text(encoding="utf-8").startswith("q,target\n")
