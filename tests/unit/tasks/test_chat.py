"""Chats as tokens: which are targets, by each kind of template, and what is cut."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import ConfigError, DataError, ModelError
from pipeline.data import Rows, Targets, load_splits
from pipeline.data.conversations import Message
from pipeline.models import find_checkpoint
from pipeline.tasks.chat import Chat
from pipeline.tasks.parts.conversing import Chats
from tests.support.chats import TEXTS, TURNS, chats, said, write_chats
from tests.support.configs import columns_for, files, generation, model_of, task_settings
from tests.support.tiny_models import CHATML, tiny_gpt2, tiny_t5

PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
DEAF = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
LAST_ONLY = (  # as Qwen 3, which strips earlier reasoning
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{% if loop.last %}<think></think>{% endif %}{{ m.content }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = Message("system", "Be short.")


def task_of(model, template=None, max_length=64, **settings):
    path = None
    if template is not None:
        path = "template.jinja"
        Path(path).write_text(template, encoding="utf-8")
    given = {"generation": generation(max_new_tokens=8), "chat_template": path, **settings}
    config = task_settings("chat", **given)
    return Chat(config, find_checkpoint(model_of(model)), max_length, Targets())


def rows_of(*conversations):
    ids = [f"chat.jsonl:{i + 1}" for i in range(len(conversations))]
    return Rows(Chats(columns_for("chat")), ids, {"messages": list(conversations)})


def targets(task, conversation):
    """Return the texts of the targets, run by run, and that of the whole."""
    examples = task.encode(rows_of(conversation), training=True).dataset[0]
    runs, previous = [], -2
    for position, label in enumerate(examples["labels"]):
        if label >= 0:
            if position != previous + 1:
                runs.append([])
            runs[-1].append(label)
            previous = position
    decode = task.checkpoint.tokenizer.decode
    return [decode(run) for run in runs], decode(examples["input_ids"])


@pytest.mark.parametrize(
    ("template", "system", "expected"),
    [
        (CHATML, False, ["A town.<|im_end|>", "A colour.<|im_end|>"]),
        (CHATML, True, ["A town.<|im_end|>", "A colour.<|im_end|>"]),
        # What follows a reply is to be its end, where the template writes none.
        (PLAIN, True, [" A town.\n</s>", " A colour.\n</s>"]),
        (DEAF, True, [" A town.\n</s>", " A colour.\n</s>"]),
        (MARKED, True, ["A town.<|im_end|>", "<think></think>A colour.<|im_end|>"]),
    ],
)
def test_the_targets_are_the_replies_and_their_ends(chatter, template, system, expected):
    task = task_of(chatter, template, max_length=128)
    task.check()
    found, whole = targets(task, (SYSTEM, *TURNS) if system else TURNS)
    assert found == expected
    assert whole.count("<s>") == 0  # no template here writes one, so nobody does
    assert whole.endswith("</s>") == (template in (PLAIN, DEAF))
    (prompt,) = task.encode(rows_of(TURNS)).dataset["prompt_input_ids"]
    read = task.encode(rows_of(TURNS)).dataset["input_ids"][0]
    assert read[: len(prompt)] == prompt  # what is written goes on from what was trained


def test_a_beginning_is_not_written_twice(chatter):
    _, whole = targets(task_of(chatter, "{{ bos_token }}" + CHATML), TURNS)
    assert whole.startswith("<s><|im_start|>user")


def test_a_reply_of_weight_0_is_no_target(chatter):
    idle = TURNS[1]._replace(trained=False)
    for template, last in ((CHATML, "A colour.<|im_end|>"), (PLAIN, " A colour.\n</s>")):
        assert targets(task_of(chatter, template), (TURNS[0], idle, *TURNS[2:]))[0] == [last]
    (marked,) = targets(task_of(chatter, MARKED), (TURNS[0], idle, *TURNS[2:]))[0]
    assert "A colour." in marked


@pytest.mark.parametrize("template", [CHATML, PLAIN, DEAF, MARKED])
def test_a_greeting_and_users_in_a_row_are_trained(chatter, template):
    hello = Message("assistant", "Hi, I am A.")
    _, replied = TURNS[2:]
    given = rows_of((hello, *TURNS[2:]), (hello, *TURNS[:2]), (*TURNS[2:3], *TURNS[2:]))
    task = task_of(chatter, template, max_length=128)
    (greeting, reply), _ = targets(task, given["messages"][0])
    assert hello.content in greeting
    assert replied.content in reply
    assert len(targets(task, given["messages"][2])[0]) == 1
    assert len({*given.groups}) == 3  # a greeting that all share does not make them one
    assert len(task.encode(given).dataset["prompt_input_ids"]) == 3


def test_a_template_that_rewrites_earlier_replies_is_refused_without_marks(chatter):
    task = task_of(chatter, LAST_ONLY)
    assert targets(task, TURNS[2:])[0] == ["<think></think>A colour.<|im_end|>"]
    with pytest.raises(ModelError, match=r"chat\.jsonl:1: template\.jinja writes messages\[1\]"):
        task.encode(rows_of(TURNS))
    idle = TURNS[1]._replace(trained=False)
    assert len(targets(task, (TURNS[0], idle, *TURNS[2:]))[0]) == 1


def test_generation_stops_at_the_end_token_of_the_template(chatter):
    tokenizer = task_of(chatter).checkpoint.tokenizer
    assert task_of(chatter).end == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert task_of(chatter, PLAIN).end == tokenizer.eos_token_id
    worded = task_of(chatter, CHATML.replace("<|im_end|>", "[DONE]"))  # no token of its own
    ids = tokenizer("A town.[DONE]\n", add_special_tokens=False)["input_ids"]
    assert worded.texts({"written": np.array([ids])}) == ["A town."]


@pytest.mark.parametrize(("template", "end"), [(CHATML, "<|im_end|>"), (PLAIN, "</s>")])
def test_a_warning_says_if_no_end_token_is_trained(chatter, template, end):
    whole = task_of(chatter, template)
    given = rows_of(TURNS[:2])
    (ids,) = whole.encode(given, training=True).dataset["input_ids"]
    (labels,) = whole.encode(given, training=True).dataset["labels"]
    before = len(ids) - 1 - labels[::-1].index(whole.end)
    assert whole.encode(given, training=True).notes == ()
    (note,) = task_of(chatter, template, before).encode(given, training=True).notes
    assert f"the end token {end}: training.max_length={before} cuts every" in note
    several = rows_of(TURNS[:2], said("Hi", "A."))  # whose end is within
    assert task_of(chatter, template, before).encode(several, training=True).notes == ()


def test_rows_without_a_token_to_learn_from_are_left_out_and_counted(chatter):
    long = said(" ".join(["What is red?"] * 30), "A colour.")
    idle = (TURNS[0], TURNS[1]._replace(trained=False))
    given = rows_of(long, TURNS, idle)
    task = task_of(chatter, max_length=40)
    training = task.encode(given, training=True)
    assert (training.row, training.dropped, training.truncated) == ([1], 2, 1)
    others = task.encode(given)
    outputs = task.infer(task.load_model(), others, 3)
    assert outputs["weight"].tolist() == [0, outputs["weight"][1], 0]
    assert outputs["loss"].tolist() == [0, outputs["loss"][1], 0]
    assert all(value == value for value in task.score(others, outputs).values())  # no NaN
    for training in (True, False):
        with pytest.raises(DataError, match=r"chat\.jsonl:1: no reply token .* weight other"):
            task.encode(given.take([0, 2]), training=training)


def test_a_long_conversation_is_cut_at_its_end_and_its_prompt_at_its_beginning(chatter):
    long = said(*["What is red?", "A colour."] * 12)
    task = task_of(chatter, max_length=40)
    (row,) = task.encode(rows_of(long)).dataset
    decode = task.checkpoint.tokenizer.decode
    assert len(row["input_ids"]) == len(row["prompt_input_ids"]) == 40
    assert decode(row["input_ids"]).startswith("<|im_start|>user\nWhat is red?")
    assert decode(row["prompt_input_ids"]).endswith("red?<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(DataError, match=r"row chat\.jsonl:1: \d+ tokens"):
        task_of(chatter, max_length=40, long_rows="error").encode(rows_of(long))


def test_a_prompt_that_is_cut_is_counted(chatter, tmp_path):
    asked = rows_of((SYSTEM, TURNS[0]))
    whole = task_of(chatter).encode(asked)
    (ids,) = whole.dataset["prompt_input_ids"]
    cut = task_of(chatter, max_length=len(ids) - 1).encode(asked)
    assert (whole.truncated, cut.truncated) == (0, 1)
    assert cut.dataset["prompt_input_ids"][0] == ids[1:]

    few = tiny_gpt2(tmp_path / "few", TEXTS)  # of 256 positions
    writing = {"generation": generation(max_new_tokens=240)}
    task = task_of(few, CHATML, 128, **writing)
    answered = rows_of((SYSTEM, *TURNS))
    examples = task.encode(answered)
    assert examples.truncated == 1
    assert len(examples.dataset["prompt_input_ids"][0]) == 16
    assert task.encode(answered, training=True).truncated == 0  # which reads no prompts
    refusing = task_of(few, CHATML, 128, long_rows="error", **writing)
    with pytest.raises(DataError, match=r"chat\.jsonl:1: \d+ tokens .* leave 16 after task\.gen"):
        refusing.encode(answered)


def test_asked_rows_have_only_prompts_and_training_rows_none(chatter):
    task = task_of(chatter)
    asked = task.encode(rows_of(TURNS[:3]))
    answered = task.encode(rows_of(TURNS))
    assert asked.dataset["prompt_input_ids"] == answered.dataset["prompt_input_ids"]
    assert asked.dataset["input_ids"] == asked.dataset["prompt_input_ids"]
    assert "labels" not in asked.dataset.column_names
    outputs = task.infer(task.load_model(), asked, 1)
    assert set(outputs) == {"written"}
    assert len(task.decode(asked, outputs)["prediction"]) == 1
    trained = ["input_ids", "attention_mask", "labels", "row"]
    assert task.encode(rows_of(TURNS), training=True).dataset.column_names == trained
    unwritten = task_of(chatter, generate=False).encode(rows_of(TURNS))
    assert unwritten.dataset.column_names == trained


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_texts_and_prompts_are_tokens_by_a_call_each(chatter, template, monkeypatch):
    task = task_of(chatter, template)
    given = rows_of(*[TURNS] * 5)
    task.encode(given)  # now the template is known
    calls, kind = [], type(task.checkpoint.tokenizer)
    call = kind.__call__

    def counted(self, texts, *args, **kwargs):
        calls.append(len(texts))
        return call(self, texts, *args, **kwargs)

    monkeypatch.setattr(kind, "__call__", counted)
    task.encode(given)
    assert calls == [5, 5]
    task.encode(given, training=True)
    assert calls == [5, 5, 5]


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        (
            "{% for m in messages %}",
            ConfigError,
            r"template\.jinja, line 1: not a Jinja template: ",
        ),
        ("{{ raise_exception('no system') }}", DataError, r"chat\.jsonl:1: .* no system\."),
        ("{{ messages[0].content + 1 }}", DataError, r"chat\.jsonl:1: template\.jinja refuses"),
    ],
)
def test_a_template_that_fails_is_refused_with_its_error(chatter, template, error, message):
    task = task_of(chatter, template)
    with pytest.raises(error, match=message):
        task.encode(rows_of(TURNS))


def test_every_row_that_a_template_refuses_is_named_at_once(chatter):
    roles = "(m.role == 'user') != (loop.index0 % 2 == 0)"
    strict = f"{{% if {roles} %}}{{{{ raise_exception('must alternate') }}}}{{% endif %}}"
    task = task_of(chatter, CHATML.replace("<|im_start|>", strict + "<|im_start|>", 1))
    given = rows_of(TURNS, TURNS[1:], TURNS, TURNS[1:])
    message = r"^row chat\.jsonl:2: .* roles assistant, user, assistant: must alternate\. .* 2 rows"
    with pytest.raises(DataError, match=f"{message} .*: chat.jsonl:2, chat.jsonl:4"):
        task.encode(given)


def test_a_template_that_is_given_leaves_the_checkpoints_own_alone(chatter):
    task = task_of(chatter, PLAIN)
    assert task.checkpoint.tokenizer.chat_template == PLAIN
    assert task_of(chatter).checkpoint.tokenizer.chat_template == CHATML
    dated = task_of(chatter, CHATML + "{{ strftime_now('%d') if false }}")
    assert "another day" in dated.warnings(rows_of(TURNS))[0]
    idle = rows_of((TURNS[0], TURNS[1]._replace(trained=False)))
    assert "1 conversations have weight 0" in idle.shape.check(idle)[0]


def test_a_model_that_cannot_chat_is_refused(tiny_model, tmp_path):
    bare = tiny_gpt2(tmp_path / "bare", TEXTS)
    both = tiny_t5(tmp_path / "both", TEXTS)
    for model, message in (
        (bare, r"no chat template; expected .* task\.chat_template=FILE"),
        (both, r"is a t5, which cannot generate such answers\. Models that can: gpt2, llama"),
        (tiny_model, r"is a bert, which cannot generate such answers\. Models that can: gpt2"),
    ):
        with pytest.raises(ModelError, match=message):
            task_of(model).check()
    task_of(bare, CHATML).check()
    for generate in (True, False):  # what is kept will be asked
        many = generation(max_new_tokens=253)
        with pytest.raises(ConfigError, match=r"max_new_tokens=253: .* expected at most 252"):
            task_of(bare, CHATML, generate=generate, generation=many).check()
    with pytest.raises(ConfigError, match=r"task\.chat_template=none\.jinja: cannot be read"):
        Chat(
            task_settings("chat", chat_template="none.jinja"),
            find_checkpoint(model_of(bare)),
            64,
            {},
        )


def test_every_layout_is_the_same_to_the_model(chatter):
    task, losses = task_of(chatter), set()
    model = task.load_model()
    for layout in ("messages", "contents", "sharegpt", "alpaca", "prompt_completion"):
        file = write_chats(Path(f"{layout}.jsonl"), [(SYSTEM, *TURNS), *chats(5)], layout)
        config = files("chat", train=str(file))
        rows = load_splits(config, Chats(config.columns), with_test=False).train
        outputs = task.infer(model, task.encode(rows), 4)
        losses.add(tuple(outputs["loss"].tolist()))
    assert len(losses) == 1


def test_messages_are_answered_for_every_training_layout():
    shape = Chats(columns_for("chat", layout="sharegpt"))
    record = {"messages": [{"role": "user", "content": "Hi"}]}
    read = shape.read(record, "record 1", with_targets=False)
    assert read == {"messages": TURNS[:1]}
    assert shape.record(rows_of(TURNS[:2]), 0) == record
    with pytest.raises(DataError, match="there is no 'conversations', which sharegpt needs"):
        shape.read(record, "record 1")
