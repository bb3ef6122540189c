"""check: every row that is wrong is named at once, and what the model would see is counted."""

import json
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def chat(tiny_model, working_folder):
    """The overrides of a chat by a tiny decoder, whose file is still to be written."""
    (working_folder / "template.jinja").write_text(TEMPLATE)
    return [
        "task=chat",
        "task.chat_template=template.jinja",
        "model=tiny-llama",
        f"model.tokenizer={tiny_model}",
        "data=files",
        "data.train=chats.jsonl",
    ]


def write(*conversations: list[tuple[str, str]]) -> None:
    """Write conversations of (role, content) in OpenAI's layout."""
    messages = [[{"role": r, "content": c} for r, c in turns] for turns in conversations]
    lines = [json.dumps({"messages": turns}) + "\n" for turns in messages]
    Path("chats.jsonl").write_text("".join(lines))


def test_every_wrong_row_is_named_with_its_line_role_and_key(cli, chat):
    write(
        [("user", "good day"), ("assistant", "lovely day")],
        [("user", "good day"), ("asistant", "lovely day")],
        [("user", "good day")],
        [("user", ""), ("assistant", "lovely day")],
    )
    with Path("chats.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "contnt": "good day"}]}\n{"messages": \n')
    ended = cli("check", *chat)
    assert ended.code == 2
    for fragments in (
        ("chats.jsonl:2", "'asistant'", "Did you mean assistant?"),
        ("chats.jsonl:3", "no message from the assistant"),
        ("chats.jsonl:4", "messages[0]"),
        ("chats.jsonl:5", "'contnt'", "Did you mean content?"),
        ("line 6", "not JSON"),
        ("5 errors",),
    ):
        assert any(all(f in line for f in fragments) for line in ended.out.splitlines()), fragments
    assert not Path("mlruns").exists()


def test_tokens_are_counted_and_rows_without_a_trained_one(cli, chat):
    write(
        [("user", "good day"), ("assistant", "fine")],
        [("user", "very " * 40), ("assistant", "fine")],  # its reply is beyond max_length
        [("user", "day"), ("assistant", "good"), ("user", "so"), ("assistant", "fine day")],
    )
    ended = cli("check", *chat, "training.max_length=24", "--format", "json")
    (line,) = json.loads(ended.out)["tokens"]
    # [user] and [assistant] are three tokens each, and each conversation has an end.
    assert line["longest"] == 3 + 40 + 3 + 1 + 1
    assert line["tokens"] == (3 + 2 + 3 + 1 + 1) + line["longest"] + (4 * 3 + 1 + 1 + 1 + 2 + 1)
    assert line["too long"] == 1
    assert line["idle"] == 1
    assert line["trained"] == (1 + 1) + 0 + (1 + 1 + 2 + 1)  # with the end of each reply


def test_check_reports_refusals_of_whole_splits(cli, tiny):
    lines = Path("reviews.jsonl").read_text().splitlines()
    same = [json.dumps({**json.loads(line), "stars": "pos"}) for line in lines]
    Path("reviews.jsonl").write_text("\n".join(same))
    ended = cli("check", *tiny)
    assert ended.code == 2
    assert "every row has the label 'pos'" in ended.out


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("a.csv", "text,review ,stars\n" + "a,b,pos\n" * 30, ("30 rows", "'review '", "a.csv:2; ")),
        ("a.csv", "review;stars\n" + "a, b;pos\n" * 30, ("'review;stars'", "delimiter=semicolon")),
        ("a.csv", "fine,pos\n" + "bad,neg\n" * 30, ("30 rows", "'fine', 'pos'")),
        ("a.jsonl", '{"text": "a", "stars": "pos"}\n' * 30, ("30 rows", "a.jsonl:1; ")),
        ("a.csv", "review,stars\n" + "a,b,c\n" * 30, ("30 rows", "3 fields", "'review', 'stars'")),
        ("a.csv", "I liked it!,good\n" + "bad,1\n" * 30, ("30 rows", "If that is a row, write")),
        ("a.jsonl", '["so", "pos"]\n' * 30, ("30 rows: found a JSON array", "line 1; ")),
        (
            "a.jsonl",
            "".join(f'{{"review": [{i}]}}\n' for i in range(30)),
            ("30 rows, the first: fo",),
        ),
        ("a.csv", "", ("is empty",)),
        ("n" * 300 + ".csv", None, ("File name too long",)),
    ],
)
def test_a_fault_of_a_whole_file_is_one_error(cli, tiny, name, content, fragments):
    if content is not None:
        Path(name).write_text(content)
    ended = cli("check", *tiny, f"data.train={name}")
    assert ended.code == 2
    (said,) = (line for line in ended.out.splitlines() if line.startswith("error: "))
    assert said.startswith(f"error: {name}")
    assert [fragment for fragment in fragments if fragment not in said] == []


def test_rows_longer_than_the_policy_allows_are_an_error(cli, tiny):
    ended = cli("check", *tiny, "training.max_length=6", "task.long_rows=error")
    assert ended.code == 2
    assert "row reviews.jsonl:1: 8 tokens" in ended.out
    ended = cli("check", *tiny, "training.max_length=6", "--format", "json")
    assert ended.code == 0
    tables = json.loads(ended.out)
    whole = len(Path("reviews.jsonl").read_text().splitlines())
    assert [(line["source"], line["rows read"]) for line in tables["tokens"]] == [("train", whole)]
    splits = [
        sum(line[f"{split} split"] for line in tables["labels"])
        for split in ("train", "validation", "test")
    ]
    assert sum(splits) == whole > splits[0] > 0


@pytest.mark.parametrize(
    "given", ["training.max_length=4096", "evaluation.objective=val/nonsense", "optimizer.name=Adm"]
)
def test_check_refuses_what_train_refuses(cli, tiny, given):
    checked, trained = cli("check", *tiny, given), cli("train", *tiny, given)
    assert checked.code == trained.code == 2
    assert trained.err.removeprefix("tunewright: ").strip() in checked.out


def test_targets_are_counted_whole(cli, tiny_model, working_folder):
    rows = [{"source": f"good {'day ' * i}", "target": "very " * 30} for i in range(1, 30)]
    (working_folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    given = ["task=summarization", "model=tiny-t5", f"model.tokenizer={tiny_model}", "data=files"]
    cut = ["data.train=pairs.jsonl", "task.max_target_length=8", "training.max_length=32"]
    ended = cli("check", *given, *cut, "--format", "json")
    assert ended.code == 0, ended.out
    found = json.loads(ended.out)
    # A source has a word and one to 29 more, with [CLS] and [SEP]; so has a target.
    assert found["tokens"][0]["longest"] == (2 + 1 + 29) + (2 + 30)
    assert any("29 of 29" in finding["message"] for finding in found["findings"])
