"""A store with a model of each task, and what they are asked."""

import json
import random
from pathlib import Path

import pytest
import torch

from tests.support.rows import BAD, FILLERS, GOOD, rows, write_rows
from tests.support.stores import Made, tiny_config

COLOURS = ["red", "blue", "green", "white", "black", "grey"]


THINGS = ["car", "house", "bird", "stone", "boat", "tree"]


ASKED = ["what", "colour", "has", "?", "near"]


WORDS = [*ASKED, *COLOURS, *THINGS, *GOOD, *BAD, *FILLERS]


KINDS = {**dict.fromkeys(COLOURS, "COLOUR"), **dict.fromkeys(THINGS, "THING")}


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


# Tasks, and a second approach of one; the first ones write nothing.
HEADED = [
    "classification",
    "question_answering",
    "token_classification",
    "regression",
    "similarity",
]
TASKS = [*HEADED, "summarization", "translation", "chat", "preference"]


INPUTS = {
    "classification": {"review"},
    "question_answering": {"context", "question"},
    "token_classification": {"text"},
    "regression": {"text"},
    "similarity": {"one", "other"},
    "summarization": {"long"},
    "translation": {"de"},
    "chat": {"messages"},
    "preference": {"messages"},
}


def tokenizer(folder: Path, *, around: tuple[str, str] | None = None, end: str = "") -> None:
    """A tokenizer of whole words; ``around`` is written around texts, ``end`` after one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "</s>", *(f"<{r}>" for r in ("user", "assistant"))]
    known = {word: i for i, word in enumerate([*words, *WORDS])}
    made = Tokenizer(models.WordLevel(known, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if around:
        first, last = around
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(first, known[first]), (last, known[last])],
        )
    elif end:
        made.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, known[end])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        model_max_length=64,
        **({"cls_token": around[0], "sep_token": around[1]} if around else {}),
    )
    fast.save_pretrained(folder)


def model_of(task: str, folder: Path) -> Path:
    """Make a tiny model with random weights that is wide enough to tell words apart."""
    import transformers as hf

    size = {"vocab_size": 7 + len(WORDS), "pad_token_id": 0, "eos_token_id": 4}
    wide = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    place = {"intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.3}
    torch.manual_seed(0)
    if task in HEADED:
        tokenizer(folder, around=("[CLS]", "[SEP]"))
        hf.BertModel(hf.BertConfig(**size, **wide, **place)).save_pretrained(folder)
    elif task == "summarization":
        tokenizer(folder, end="</s>")
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = hf.T5Config(**size, **shape, decoder_start_token_id=0, initializer_factor=2.0)
        hf.T5ForConditionalGeneration(config).save_pretrained(folder)
    else:
        tokenizer(folder)
        hf.LlamaForCausalLM(hf.LlamaConfig(**size, **wide, **place)).save_pretrained(folder)
    return folder


def records_of(task: str, count: int = 40) -> list[dict]:
    chance = random.Random(0)
    if task == "classification":
        return rows(count)
    made = []
    for _ in range(count):
        colours, things = chance.sample(COLOURS, 2), chance.sample(THINGS, 2)
        text = f"the {things[0]} is {colours[0]} and the {things[1]} is {colours[1]}"
        question, answer = f"what colour has the {things[1]} ?", colours[1]
        messages = [
            {"role": "user", "content": f"{text} near a {chance.choice(THINGS)} . {question}"},
            {"role": "assistant", "content": f"the {things[1]} is {answer}"},
        ]
        made.append(
            {
                "question_answering": {
                    "context": text,
                    "question": question,
                    "answers": {"text": [answer], "answer_start": [text.rindex(answer)]},
                },
                "token_classification": {
                    "text": text,
                    "tokens": text.split(),
                    "tags": [f"B-{KINDS[word]}" if word in KINDS else "O" for word in text.split()],
                },
                "regression": {"text": text, "number": COLOURS.index(colours[0])},
                "similarity": {
                    "one": text,
                    "other": f"the {things[0]} is {answer}",
                    "alike": float(colours[0] < colours[1]),
                },
                "summarization": {"long": text, "short": f"{things[0]} {things[1]}"},
                "translation": {"de": f"{text} {chance.choice(THINGS)}", "en": f"{colours[0]}"},
                "chat": {"messages": messages},
                "preference": {
                    "messages": messages[:-1],
                    "prompt": messages[0]["content"],
                    "chosen": messages[1]["content"],
                    "rejected": f"a {chance.choice(THINGS)}",
                },
            }[task]
        )
    return made


def command_of(task: str, folder: Path) -> list[str]:
    data = write_rows(folder / f"{task}.jsonl", records_of(task, 120 if task == TASKS[0] else 40))
    model = model_of(task, folder / f"model-{task}")
    if task == "classification":
        return [*tiny_config(model, data), "training.epochs=2", "training.eval_every=1.0"]
    (folder / "template.jinja").write_text(TEMPLATE)
    columns = {"summarization": ("long", "short"), "translation": ("de", "en")}
    pairs = zip(("input", "target"), columns.get(task, ()), strict=False)
    own = [f"data.{key}={column}" for key, column in pairs]
    own += ["data.label=number"] if task == "regression" else []
    if task == "similarity":
        own += ["data.text=one", "data.text_pair=other", "data.label=alike"]
        own += ["task.approach=embedding"]
    own += ["task.generation.max_new_tokens=6"] if task not in HEADED else []
    own += ["task.max_target_length=8"] if task in columns else []
    if task in ("chat", "preference"):
        own += [f"task.chat_template={folder / 'template.jinja'}"]
    own += ["task.generate=true"] if task == "preference" else []
    return [
        f"task={'regression' if task == 'similarity' else task}",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={data}",
        *own,
        "training.epochs=1",
        "training.max_length=48",
        "training.eval_every=1.0",
        "optimizer.learning_rate=1e-2",
    ]


def run_of(made: Made, task: str):
    return next(r for r in made.runs("run") if Path(r.data.params["data.train"]).stem == task)


def predicted(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(these: list[dict], those: list[dict]) -> None:
    assert len(these) == len(those)
    for one, other in zip(these, those, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            is_number = isinstance(value, float)
            # Some are rounded to 4 places.
            assert value == (pytest.approx(other[key], abs=2e-4) if is_number else other[key])
