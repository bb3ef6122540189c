"""Preference tuning: pairs are read and cut, and losses and scores are those of TRL."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.common.errors import DataError
from pipeline.config.adapter import LoraConfig
from pipeline.data import Rows, Targets
from pipeline.data.conversations import Message
from pipeline.data.preferences import PAIR_LAYOUTS, read_preference
from pipeline.models import find_checkpoint
from pipeline.models.adapters import adapt
from pipeline.models.batches import IGNORED
from pipeline.tasks import get_task
from pipeline.tasks.preference import Pairs
from tests.support.configs import columns_for, model_of, task_settings

NAME = "preference"
SHAPE = Pairs(columns_for(NAME))
USER, REPLY = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
RECORDS = [
    {"prompt": "What is red?", "chosen": "A colour.", "rejected": "I see a dog over there."},
    {"prompt": "Hi", "chosen": "Hello. What do you see?", "rejected": "No."},
    {"prompt": "What is a dog?", "chosen": "A dog.", "rejected": "A colour. A colour."},
]


def rows_of(*records):
    read = [SHAPE.read(one, f"f.jsonl:{i}") for i, one in enumerate(records, start=1)]
    columns = {name: [row[name] for row in read] for name in read[0]}
    return Rows(SHAPE, [str(i) for i in range(len(read))], columns)


def task_on(model, max_length=64, **settings):
    config = task_settings(NAME, **settings)
    return get_task(config)(config, find_checkpoint(model_of(model)), max_length, Targets())


def moved(task, *, adapter=False):
    """Return a model that training has moved away from the one it began with."""
    model = task.load_model()
    if adapter:
        torch.manual_seed(0)
        lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": None}
        model = adapt(model, LoraConfig(name="lora", **lora), ())
    task.begin(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_layouts_say_the_same_and_are_written_again():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    reply = {
        side: [{"role": "assistant", "content": text}] for side, text in (("a", "Ho"), ("b", "Hey"))
    }
    records = {
        "preference": [
            {"prompt": messages, "chosen": reply["a"], "rejected": reply["b"]},
            {"chosen": [*messages, *reply["a"]], "rejected": [*messages, *reply["b"]]},
            {"prompt": messages, "chosen": "Ho", "rejected": "Hey"},
            {
                "prompt": "Hi",
                "chosen": [*messages, *reply["a"]],
                "rejected": [*messages, *reply["b"]],
            },
        ],
        "preference_openai": [
            {
                "input": {"messages": messages, "tools": [], "parallel_tool_calls": True},
                "preferred_output": reply["a"],
                "non_preferred_output": reply["b"],
            }
        ],
        "preference_sharegpt": [
            {
                "conversations": [{"from": "human", "value": "Hi"}],
                "system": "Be brief.",
                "chosen": {"from": "gpt", "value": "Ho"},
                "rejected": {"from": "gpt", "value": "Hey"},
            }
        ],
    }
    expected = ((Message("system", "Be brief."), Message("user", "Hi")), "Ho", "Hey")
    for name, some in records.items():
        for record in some:
            assert read_preference(record, "auto", "a") == expected
        for layout in PAIR_LAYOUTS.values():
            written = json.loads(json.dumps(layout.write(PAIR_LAYOUTS[name].read(some[0]))))
            assert read_preference(written, "auto", "a") == expected
            assert read_preference(written, layout.name, "a") == expected


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"prompt": "a", "chosen": "b"},
            "expected those of a layout of preferences",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "rejected is ' ' from the assistant"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "prompt is empty"),
        ({"chosen": "b", "rejected": "c"}, "there is no prompt, .* no lists of messages"),
        (
            {
                "prompt": [USER, {"role": "assistant", "content": "x"}],
                "chosen": "b",
                "rejected": "c",
            },
            r"prompt\[1\] is from the assistant, and so are the replies",
        ),
        ({"messages": [USER]}, "read by task=chat"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "there is no message from the user"),
        (
            {"prompt": "x", "chosen": [USER, REPLY], "rejected": [USER, REPLY]},
            "prompt is no message of chosen",
        ),
        ({"prompt": "a", "chosen": "b", "rejcted": "c"}, "Did you mean rejected"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "images": [1]}, "only text is supported"),
        (
            {
                "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "rejected": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": "c"},
                ],
            },
            "chosen and rejected are whole conversations, and differ before",
        ),
        (
            {"prompt": "a", "chosen": [{"role": "user", "content": "b"}], "rejected": "c"},
            "chosen is 'b' from the user; expected a reply of the assistant",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "tools": [1]}, "tool calls are not"),
    ],
)
def test_a_record_without_two_replies_is_refused(record, said):
    with pytest.raises(DataError, match=said):
        SHAPE.read(record, "a")


def test_pairs_that_teach_nothing_or_length_are_told():
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    begun = {"prompt": "a", "chosen": "b c", "rejected": "b"}
    other = {"prompt": "a", "chosen": "a long reply", "rejected": "short"}
    found = SHAPE.check(rows_of(same, begun, *[other] * 30))
    assert found == [
        "1 of 32 pairs have the same reply twice, as in row 0: they train nothing",
        "in 1 of 32 pairs one reply is the beginning of the other, as in row 1: they may "
        "teach the length alone",
        "the chosen reply is the longer one in 97% of the pairs: a model may learn its length "
        "alone",
    ]
    assert SHAPE.check(rows_of(*RECORDS)) == []


def test_only_replies_are_targets_and_useless_pairs_are_left_out(chatter):
    task = task_on(chatter)
    same = {"prompt": "Hi", "chosen": "A dog.", "rejected": "A dog."}
    found = task.encode(rows_of(*RECORDS, same), training=True)
    assert (found.row, found.dropped) == ([0, 1, 2], 1)
    decode = task.checkpoint.tokenizer.decode
    for side in ("chosen", "rejected"):
        prefix = "" if side == "chosen" else "rejected_"
        for i, labels in enumerate(found.dataset[f"{prefix}labels"][:]):
            text = decode([token for token in labels if token != IGNORED])
            assert text.strip().startswith(RECORDS[i][side])
            assert decode(found.dataset[f"{prefix}input_ids"][i]).count(RECORDS[i]["prompt"]) == 1
    short = task_on(chatter, 14)
    cut = short.encode(rows_of(*RECORDS), training=False)
    assert len(cut.dataset) == 3
    assert cut.truncated > 0
    assert max(cut.lengths) == 14


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize(("loss", "theirs"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_losses_and_margins_are_those_of_trl(chatter, tmp_path, loss, theirs, adapter):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    task = task_on(chatter, loss=loss, beta=0.3)
    examples = task.encode(rows_of(*RECORDS))
    model = moved(task, adapter=adapter)
    batch = task.collate(list(examples.dataset))
    with torch.no_grad():
        found = task.forward(model, batch)
        trained = task.forward(model.train(), batch)["loss"]  # Llama has no dropout
    model.eval()
    start = task.load_model().eval()
    plain = copy.deepcopy(model).merge_and_unload() if adapter else model
    tokenizer = task.checkpoint.tokenizer
    arguments = DPOConfig(
        output_dir=str(tmp_path),
        beta=0.3,
        loss_type=theirs,
        use_cpu=True,
        report_to=[],
        bf16=False,
        per_device_train_batch_size=1,
    )
    trainer = DPOTrainer(
        plain,
        start,
        arguments,
        train_dataset=Dataset.from_list(RECORDS),
        processing_class=tokenizer,
    )
    sides = ("", "rejected_")
    for i, example in enumerate(examples.dataset):
        width = max(len(example[f"{side}input_ids"]) for side in sides)

        def padded(name, fill, width=width, example=example):
            rows = (example[f"{side}{name}"] for side in sides)
            return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

        inputs = {
            "input_ids": padded("input_ids", tokenizer.pad_token_id),
            "attention_mask": padded("attention_mask", 0),
            "completion_mask": (padded("labels", IGNORED) != IGNORED).long(),
        }
        with torch.no_grad():
            expected = trainer.compute_loss(plain, inputs)
        assert trained[i].item() == pytest.approx(expected.item(), abs=1e-5)
        margin = trainer._metrics["eval"]["rewards/margins"][-1]
        assert 0.3 * found["margin"][i].item() == pytest.approx(margin, abs=1e-5)
        for side in ("chosen", "rejected"):
            logps = trainer._metrics["eval"][f"logps/{side}"][-1]
            assert found[f"{side}_logps"][i].item() == pytest.approx(logps, abs=1e-4)


def test_simpo_compares_means_over_tokens_without_a_reference(chatter):
    task = task_on(chatter, loss="simpo", beta=2.0, simpo_margin=0.5)
    examples = task.encode(rows_of(*RECORDS))
    model, batch = moved(task), task.collate(list(examples.dataset))
    with torch.no_grad():
        found = task.forward(model, batch)
        trained = task.forward(model.train(), batch)["loss"]
    tokens = [
        [sum(i != IGNORED for i in labels) for labels in examples.dataset[f"{side}labels"][:]]
        for side in ("", "rejected_")
    ]
    chosen, rejected = (
        found[f"{side}_logps"] / torch.tensor(of)
        for side, of in zip(("chosen", "rejected"), tokens, strict=True)
    )
    expected = -torch.nn.functional.logsigmoid(2.0 * (chosen - rejected) - 0.5)
    assert torch.allclose(trained, expected, atol=1e-5)
    # Judged it is as any other loss: by the gain on the reference.
    assert torch.allclose(found["loss"], -torch.nn.functional.logsigmoid(found["margin"]))


@pytest.mark.parametrize("adapter", [False, True])
def test_drift_is_the_divergence_of_the_next_token(chatter, adapter):
    task = task_on(chatter)
    examples = task.encode(rows_of(*RECORDS))
    model, start = moved(task, adapter=adapter), task.load_model().eval()
    outputs = task.infer(model, examples, 2)
    for i, example in enumerate(examples.dataset):
        ids = torch.tensor([example["input_ids"]])
        with torch.no_grad():
            own, held = (m(input_ids=ids).logits[0, :-1].log_softmax(-1) for m in (model, start))
        targets = torch.tensor(example["labels"][1:]) != IGNORED
        each = (own.exp() * (own - held)).sum(-1)[targets]
        assert outputs["kl"][i] == pytest.approx(each.mean().item(), abs=1e-5)
    scores = task.score(examples, outputs)
    assert scores["accuracy"] == np.mean(outputs["margin"] > 0)
    assert scores["kl"] == pytest.approx(outputs["kl"].mean())


def test_an_untrained_model_scores_as_its_reference(chatter):
    task = task_on(chatter)
    rows = rows_of(*RECORDS)
    examples, model = task.encode(rows), task.load_model()
    task.begin(model)
    scores = task.score(examples, task.infer(model, examples, 2))
    baseline = task.baseline(rows, rows)
    assert {name: scores[name] for name in baseline} == pytest.approx(baseline)
    assert scores.keys() | {"loss"} == task.metrics(task.config).keys()


def test_pairs_without_two_replies_are_not_scored(chatter, monkeypatch):
    same = {"prompt": "Hi", "chosen": "A dog.", "rejected": "A dog."}
    long = {"prompt": "What is red? " * 20, "chosen": "A dog.", "rejected": "A colour."}
    task = task_on(chatter)
    examples = task.encode(rows_of(*RECORDS, same, long))
    assert examples.notes == (
        "2 of 5 pairs do not have two different replies within training.max_length=64 tokens, so "
        "they are not scored",
    )
    model = moved(task)
    outputs = task.infer(model, examples, 2)
    assert outputs["weight"].tolist() == [1, 1, 1, 0, 0]
    assert outputs["loss"][3:].tolist() == [0, 0]
    apart = task.infer(model, examples, 1)  # whatever a batch pads
    assert apart["weight"].tolist() == outputs["weight"].tolist()
    other = copy.deepcopy(task.checkpoint.tokenizer)
    other.pad_token_id = 7
    monkeypatch.setattr(task, "checkpoint", replace(task.checkpoint, tokenizer=other))
    assert task.infer(model, examples, 5)["weight"].tolist() == [1, 1, 1, 0, 0]
    whole = task.score(examples, outputs)
    some = task.encode(rows_of(*RECORDS))
    assert whole == pytest.approx(task.score(some, task.infer(model, some, 2)), abs=1e-5)
    with pytest.raises(DataError, match="no pair of its split has two different replies"):
        task.encode(rows_of(same, long))


def test_dropout_has_no_part_in_the_reference(chatter):
    task = task_on(chatter)
    examples = task.encode(rows_of(*RECORDS))
    model, batch = moved(task, adapter=True), task.collate(list(examples.dataset))
    for layer in model.get_base_model().model.layers:
        layer.self_attn.attention_dropout = 0.5
    start = task.load_model().eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        model.train()
        assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
        with task._reference(model) as frozen:
            assert torch.allclose(frozen(**inputs).logits, start(**inputs).logits, atol=1e-5)
    with pytest.raises(RuntimeError), task._reference(model):
        raise RuntimeError
    assert model.training
    task.forward(model, batch)["loss"].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
