"""Sources and targets as tokens and losses, and the texts that a model writes."""

import math
import re
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from pipeline.common.errors import ConfigError, DataError
from pipeline.data import Rows, Targets
from pipeline.models import find_checkpoint
from pipeline.tasks import get_task
from pipeline.tasks.parts.text_to_text import SourceTarget, common_end
from tests.support.configs import columns_for, generation, model_of, task_settings
from tests.support.writers import KINDS, SEPARATOR, pairs


def task_of(model, name="translation", max_length=40, **settings):
    given = {"max_target_length": 16, "generation": generation(max_new_tokens=8), **settings}
    config = task_settings(name, **given)
    checkpoint = find_checkpoint(model_of(model))
    return get_task(config)(config, checkpoint, max_length, Targets())


def rows_of(given):
    sources, targets = zip(*given, strict=True)
    columns = {"source": list(sources), "target": list(targets)}
    return Rows(
        SourceTarget(columns_for("translation")),
        [f"t.jsonl:{i + 1}" for i in range(len(given))],
        columns,
    )


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_the_loss_is_that_of_the_targets_tokens_alone(writers, kind):
    task = task_of(writers[kind])
    model = task.load_model()
    examples = task.encode(rows_of(pairs(3)))
    outputs = task.infer(model, examples, 3)
    tokenizer = task.checkpoint.tokenizer
    for i, (source, target) in enumerate(pairs(3)):
        wanted = [*tokenizer(target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if kind == "t5":
            read = torch.tensor([tokenizer(source)["input_ids"]])
            begun = torch.tensor([[tokenizer.pad_token_id, *wanted[:-1]]])
            logits = model(input_ids=read, decoder_input_ids=begun).logits[0]
        else:
            read = tokenizer(source + SEPARATOR, add_special_tokens=False)["input_ids"]
            logits = model(input_ids=torch.tensor([read + wanted])).logits[0, len(read) - 1 : -1]
        losses = -logits.log_softmax(-1)[range(len(wanted)), wanted]
        assert outputs["weight"][i] == len(wanted)
        assert outputs["loss"][i] == pytest.approx(losses.sum().item(), rel=1e-4)
        right = (logits.argmax(-1) == torch.tensor(wanted)).sum().item()
        assert outputs["correct"][i] == right
    scores = task.score(examples, outputs)
    mean = outputs["loss"].sum() / outputs["weight"].sum()
    assert scores["perplexity"] == pytest.approx(math.exp(mean), rel=1e-6)
    assert scores["token_accuracy"] == outputs["correct"].sum() / outputs["weight"].sum()
    size = sum(len(target.encode()) for _, target in pairs(3))
    assert scores["bits_per_byte"] == pytest.approx(outputs["loss"].sum() / math.log(2) / size)


def test_a_long_source_is_cut_at_its_end_and_the_separator_stays(writers):
    long = " ".join(["red", "dog"] * 40)
    for kind, tail in (("llama", "\n"), ("t5", "</s>"), ("bart", "</s>")):
        task = task_of(writers[kind], long_rows="truncate")
        given = rows_of([(long, "rot"), ("red", "rot " * 40)])
        examples = task.encode(given)
        ids = examples.dataset["prompt_input_ids" if kind == "llama" else "input_ids"][0]
        assert len(ids) == (40 - 16 if kind == "llama" else 40)
        assert re.search(rf"(red|dog){tail}$", task.checkpoint.tokenizer.decode(ids))
        assert examples.truncated == 2
        assert max(map(len, examples.dataset["input_ids"])) <= 40
        assert sum(label >= 0 for label in examples.dataset["labels"][1]) == 16
        (note,) = examples.notes
        assert note == "1 of 2 targets are longer than task.max_target_length=16 and are cut"
        assert task.encode(given, training=True).notes == (note,)
        assert not task.encode(rows_of(pairs(2)), training=True).notes
        assert not task.warnings(given)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_training_rows_have_no_prompts_and_asked_rows_no_targets(writers, kind):
    task = task_of(writers[kind])
    given = rows_of(pairs(3))
    trained = task.encode(given, training=True).dataset
    assert trained.column_names == ["input_ids", "attention_mask", "labels", "row"]
    assert trained["input_ids"] == task.encode(given).dataset["input_ids"]
    asked = task.encode(Rows(given.shape, given.ids, {"source": given["source"]}))
    model = task.load_model()
    outputs = task.infer(model, asked, 2)
    assert set(outputs) == {"written"}
    assert (outputs["written"] == task.infer(model, task.encode(given), 2)["written"]).all()


def test_long_rows_are_dropped_from_training_or_refused(writers):
    given = rows_of([("red", "rot"), ("red " * 60, "rot"), ("red", "rot " * 60)])
    task = task_of(writers["llama"], long_rows="drop")
    training = task.encode(given, training=True)
    assert (training.row, training.notes) == ([0], ())
    others = task.encode(given)
    assert others.row == [0, 1, 2]
    assert "1 of 3 targets" in others.notes[0]  # only training drops any
    with pytest.raises(DataError, match=r"t\.jsonl:2: its source has .* task\.long_rows=drop"):
        task.encode(given.take([1, 2]), training=True)
    with pytest.raises(DataError, match=r"t\.jsonl:3: .* its target 6\d, .* 1 of 2 .* 24 and 16"):
        task_of(writers["llama"], long_rows="error").encode(given.take([0, 2]))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("beams", [1, 3])
def test_rows_are_written_alike_alone_and_in_a_batch(writers, kind, beams):
    given = [("red", "rot"), ("red dog cat big small tree", "rot"), ("blue cat", "blau")]
    task = task_of(writers[kind], generation=generation(max_new_tokens=5, num_beams=beams))
    model = task.load_model()
    together = task.infer(model, task.encode(rows_of(given)), 3)
    alone = [task.infer(model, task.encode(rows_of([pair])), 1) for pair in given]
    assert together["written"].shape[1] <= 5
    for i, one in enumerate(alone):
        width = one["written"].shape[1]
        assert together["written"][i, :width].tolist() == one["written"][0].tolist()
        assert (together["written"][i, width:] == -100).all()
        assert together["loss"][i] == pytest.approx(one["loss"][0], rel=1e-3)


@pytest.mark.parametrize("kind", ["bart", "gpt2"])
def test_text_ends_at_the_end_token(writers, kind):
    task = task_of(writers[kind])
    model = task.load_model()
    ids = task.checkpoint.tokenizer(" rot haus", add_special_tokens=False)["input_ids"]
    other = task.checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = [other]  # the checkpoint's own end counts as well
    start = [5] if kind == "bart" else []

    def generate(input_ids, generation_config, **_):
        begun = start or input_ids[0].tolist()
        rows = [[*begun, *ids, end, 0, *ids] for end in (task.end, other)]
        assert set(generation_config.eos_token_id) == {task.end, other}
        return torch.tensor(rows)

    model.generate = generate
    outputs = task.infer(model, task.encode(rows_of([("red", "rot"), ("big", "rot")])), 2)
    assert task.texts(outputs) == ["rot haus", "rot haus"]
    assert outputs["written"][:, : len(ids) + 1].tolist() == [[*ids, task.end], [*ids, other]]
    assert (outputs["written"][:, len(ids) + 1 :] == -100).all()


def test_no_pair_of_tokens_is_written_twice_where_that_is_asked_for(writers):
    settings = {"max_new_tokens": 20, "no_repeat_ngram_size": 2}
    task = task_of(writers["llama"], generation=generation(**settings))
    model = task.load_model()
    (written,) = task.infer(model, task.encode(rows_of([("red", "rot")])), 1)["written"].tolist()
    read = task.encode(rows_of([("red", "rot")])).dataset["prompt_input_ids"][0]
    tokens = [*read, *(token for token in written if token >= 0)]
    bigrams = list(pairwise(tokens))
    assert len(bigrams) == len(set(bigrams)) > 5


def test_sampling_repeats_and_leaves_the_generators_of_training_alone(writers):
    drawn = generation(max_new_tokens=8, do_sample=True, temperature=2.0)
    task = task_of(writers["llama"], generation=drawn)
    model = task.load_model()
    examples = task.encode(rows_of(pairs(4)))
    before = torch.get_rng_state()
    first = task.infer(model, examples, 2)["written"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert (task.infer(model, examples, 2)["written"] == first).all()
    greedy = task_of(writers["llama"], generation=replace(drawn, do_sample=False, temperature=1.0))
    assert (greedy.infer(model, examples, 2)["written"] != first).any()


def test_a_model_without_its_own_shift_and_more_embeddings_than_tokens_is_read(writers):
    task = task_of(writers["bart"])
    model = task.load_model()
    model.resize_token_embeddings(700)
    examples = task.encode(rows_of(pairs(2)))
    own = task.infer(model, examples, 2)
    model.prepare_decoder_input_ids_from_labels = None  # as m2m_100
    other = task.infer(model, examples, 2)
    assert own["loss"].tolist() == other["loss"].tolist()
    outputs = {"written": torch.tensor([[690, 650, -100]]).numpy()}
    assert task.texts(outputs) == [""]


def test_common_end_is_what_every_text_ends_with():
    assert common_end([1], [5, 1]) == [1]
    assert common_end([0, 2], [0, 5, 2]) == [2]
    assert common_end([0], [0, 5]) == []
    assert common_end([], [5]) == []


def test_odd_pairs_are_named(writers):
    same = rows_of([("red", "red"), ("dog ", "dog")])
    (warning,) = same.shape.check(same)
    assert "all 2 training rows have a source equal to its target" in warning
    assert not same.shape.check(rows_of([("red", "red"), ("dog", "hund")]))
    chinese = rows_of([("red", "红色的房子"), ("dog", "一只小狗")])
    (warning,) = task_of(writers["t5"], "summarization").warnings(chinese)
    assert "task.language=zh" in warning
    assert task_of(writers["t5"], "summarization", language="zh").warnings(chinese) == []


def test_metrics_carry_the_mark_of_their_language(writers):
    for kind, name in (("summarization", "rouge1_zh"), ("translation", "bleu_zh")):
        task = task_of(writers["t5"], kind, language="zh")
        examples = task.encode(rows_of([("red", "红色"), ("dog", "小狗")]))
        scores = task.score(examples, task.infer(task.load_model(), examples, 2))
        assert name in scores
        assert {"loss", *scores} == set(task.metrics(task.config))
        assert set(task.baseline(examples.rows, examples.rows)) < set(scores)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("llama", {"max_target_length": 38}, r"training\.max_length=40: .* leaves 2 tokens"),
        (
            "gpt2",
            {"generation": generation(max_new_tokens=240)},
            r"max_new_tokens=240: .* 256 positions, .* expected at most 232",
        ),
        ("bart", {"generation": generation(max_new_tokens=128)}, r"expected at most 127"),
        ("bart", {"max_target_length": 129}, r"task\.max_target_length=129: .* at most 128"),
    ],
)
def test_more_tokens_than_there_is_room_for_are_refused(writers, kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        task_of(writers[kind], **settings).check()


def test_settings_of_a_checkpoint_do_not_shine_through(writers):
    task = task_of(writers["bart"], generation=generation(max_new_tokens=6))
    model = task.load_model()
    model.generation_config.update(min_length=6, num_beams=4, no_repeat_ngram_size=3, top_k=7)
    used = model._prepare_generation_config(task._generation(model))[0]
    for key, value in asdict(task.config.generation).items():
        if key not in ("temperature", "top_p", "length_penalty"):
            assert getattr(used, key) == value
    assert used.min_length == 0
    assert used.forced_bos_token_id == task.checkpoint.tokenizer.bos_token_id


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_bits_per_byte_leave_out_targets_that_are_cut(writers, kind):
    task = task_of(writers[kind], long_rows="truncate")
    given = rows_of([("red", "rot"), ("dog", "rot " * 40)])
    examples = task.encode(given)
    outputs = task.infer(task.load_model(), examples, 2)
    bits = float(outputs["loss"][0]) / math.log(2)
    for _ in range(2):
        assert task.score(examples, outputs)["bits_per_byte"] == pytest.approx(bits / len(b"rot"))
        task.trained_texts = None  # which an evaluation of the same examples does not read again
