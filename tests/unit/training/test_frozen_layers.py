"""Frozen layers: no dropout, computed once, and nothing but the time they take is another."""

import gc
import logging
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as hf

from pipeline.config.adapter import FreezeConfig, FullConfig, HeadConfig
from pipeline.models import adapters
from pipeline.models.adapters import adapt, new_head
from pipeline.models.frozen import quiet
from pipeline.training.snapshot import trained_state
from pipeline.training.speedups.activation_maker import Maker
from pipeline.training.speedups.activations import inputs_digest
from pipeline.training.speedups.frozen_layers import STORED, pays, reuse_frozen_layers
from pipeline.training.speedups.replaced import NoActivationsError
from tests.support.rows import BAD, FILLERS, GOOD, labelled, tiny_task

SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 24, "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 32}
MODELS = {
    "bert": hf.BertConfig(**SIZES),
    "distilbert": hf.DistilBertConfig(
        vocab_size=24, dim=16, n_layers=4, n_heads=2, hidden_dim=32, pad_token_id=0
    ),
    "deberta": hf.DebertaV2Config(
        **SIZES, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"]
    ),
    "modernbert": hf.ModernBertConfig(
        **SIZES, global_attn_every_n_layers=2, local_attention=4, mlp_dropout=0.1
    ),
    "gpt2": hf.GPT2Config(**GPT2, pad_token_id=0),
    "llama": hf.LlamaConfig(**SIZES, num_key_value_heads=2, attention_dropout=0.1),
}
OTHERS = {
    "albert": hf.AlbertConfig(**SIZES, embedding_size=8),
    "longformer": hf.LongformerConfig(**SIZES, attention_window=4),
    "bart": hf.BartConfig(
        vocab_size=24,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    ),
}
HEAD, TOP = HeadConfig("head"), FreezeConfig("freeze", 1)
PAIRS = [
    (" ".join([*FILLERS[: 1 + k % 9], word]), label)
    for k, (word, label) in enumerate([*((w, "pos") for w in GOOD), *((w, "neg") for w in BAD)] * 3)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model):
    """Make a model of a kind, without a head, with the words of `tiny_model`."""
    made = {}

    def folder(kind: str, seed: int = 0) -> Path:
        if (kind, seed) not in made:
            made[kind, seed] = tmp_path_factory.mktemp("models") / kind
            shutil.copytree(tiny_model, made[kind, seed])
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                hf.AutoModel.from_config({**MODELS, **OTHERS}[kind]).save_pretrained(
                    made[kind, seed]
                )
        return made[kind, seed]

    return folder


def task_on(folder: Path):
    return tiny_task(folder, {"neg": 15, "pos": 15})


def loaded(task, adapter):
    torch.manual_seed(3)
    model = task.load_model()
    return adapt(model, adapter, new_head(model))


def splits(task, pairs=PAIRS):
    return {
        "train": task.encode(labelled(pairs[:20]), training=True),
        "validation": task.encode(labelled(pairs[20:])),
    }


def cached(model, task, examples, **changes):
    given = {"key_parts": {}, "precision": "float32", "most_bytes": 10**9, **changes}
    return reuse_frozen_layers(model, task, examples, Path("cache"), **given)


def calls_of(layer, counted):
    layer.register_forward_pre_hook(lambda *_: counted.append(1))


def layers_of(model):
    return adapters.layers_of(model.base_model)[1]


@pytest.mark.parametrize("adapter", [HEAD, TOP], ids=lambda a: a.name)
@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_those_without(folders, kind, adapter):
    task = task_on(folders(kind))
    examples = splits(task)
    plain, model = quiet(loaded(task, adapter)), loaded(task, adapter)
    cache = cached(model, task, examples)
    assert trained_state(model).keys() == trained_state(plain).keys()
    for some in ([0, 9, 3], [7, 19], [5]):  # padded otherwise than in the order of length
        found = []
        for task_of, of, split in (
            (task, plain, examples["train"]),
            (cache.task, model, cache.examples["train"]),
        ):
            of.train()
            torch.manual_seed(0)  # of the dropout that is left
            outputs = task_of.forward(of, task_of.collate(split.dataset.__getitems__(some)))
            outputs["loss"].sum().backward()
            found.append(outputs)
        for name, value in found[0].items():
            torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6)
    gradients = {n: p.grad for n, p in plain.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in gradients)
        if gradients.get(name) is not None:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-5, atol=1e-6)
    outputs = cache.task.infer(model, cache.examples["validation"])
    for name, array in task.infer(plain, examples["validation"]).items():
        torch.testing.assert_close(outputs[name], array, rtol=1e-5, atol=1e-6)
    cache.restore()
    for name, array in task.infer(plain, examples["validation"]).items():
        again = task.infer(model, examples["validation"])[name]
        assert (again == array).all()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_what_is_frozen_has_no_dropout(folders, kind):
    task = task_on(folders(kind))
    batch = task.collate(splits(task)["train"].dataset.__getitems__([0, 9]))
    model = quiet(quiet(loaded(task, TOP)))
    assert len(model._forward_pre_hooks) == 1
    below, above = [], []
    layers = layers_of(model)
    layers[2].register_forward_hook(lambda _, __, output: below.append(output))
    layers[3].register_forward_hook(lambda _, __, output: above.append(output))
    for _ in range(2):
        model.train()
        task.forward(model, batch)
    assert model.training
    assert layers[3].training
    assert torch.equal(*below)
    assert not torch.equal(*above)


def test_a_model_that_is_not_quiet_is_no_other(folders):
    task = task_on(folders("bert"))
    model = quiet(loaded(task, FullConfig("none")))
    model.train()
    task.forward(model, task.collate(splits(task)["train"].dataset.__getitems__([0])))
    assert all(module.training for module in model.modules())
    assert cached(model, task, splits(task)) is None


def test_trials_share_what_is_computed_once(folders):
    task = task_on(folders("bert"))
    counts = []
    for adapter in (HEAD, HEAD, TOP, TOP):
        model, counted = loaded(task, adapter), []
        calls_of(layers_of(model)[0], counted)
        cache = cached(model, task, splits(task))
        counts.append(len(counted))
        cache.restore()
    assert counts[0] > 0
    assert counts[2] > 0  # of other layers
    assert counts[1] == counts[3] == 0


def test_what_differs_is_computed_anew(folders):
    task = task_on(folders("bert"))
    examples = splits(task)
    assert cached(loaded(task, HEAD), task, examples) is not None
    entries = {path.name for path in Path("cache").glob("*/")}
    assert len(entries) == 2
    other = task_on(folders("bert", seed=1))
    for of, data, changes, new in (
        (task, examples, {}, 0),
        (other, examples, {}, 2),
        (task, splits(task, [*PAIRS[:20], *PAIRS[:10]]), {}, 1),
        (task, examples, {"key_parts": {"revision": 2}}, 2),
        (task, examples, {"precision": "bfloat16"}, 2),
    ):
        assert cached(loaded(of, HEAD), of, data, **changes) is not None
        found = {path.name for path in Path("cache").glob("*/")}
        assert len(found - entries) == new
        entries = found


def test_bfloat16_is_stored_as_such(folders, monkeypatch):
    task = task_on(folders("llama"))
    model = loaded(task, HEAD)
    model.base_model.to(torch.bfloat16)
    plain = loaded(task, HEAD)
    plain.base_model.to(torch.bfloat16)
    examples = splits(task)
    monkeypatch.setattr(Maker, "_compare", lambda *_: None)  # in float32 alone
    cache = cached(model, task, examples, precision="bfloat16")
    assert cache._form.dtype == "torch.bfloat16"
    expected = task.infer(plain, examples["validation"], precision="bfloat16")["logits"]
    found = cache.task.infer(model, cache.examples["validation"], precision="bfloat16")["logits"]
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


def test_a_batch_without_its_activations_is_refused(folders):
    task = task_on(folders("bert"))
    examples, model = splits(task), loaded(task, TOP)
    cache = cached(model, task, examples)
    dataset = examples["train"].dataset
    with pytest.raises(NoActivationsError, match="has none"):
        task.forward(model, task.collate(dataset.__getitems__([0])))
    with pytest.raises(NoActivationsError, match="not those of the frozen-layer cache"):
        cache.task.collate(dataset.__getitems__([0]))
    batch = cache.task.collate(cache.examples["train"].dataset.__getitems__([0, 1]))
    cache.task.forward(model, batch)
    with pytest.raises(NoActivationsError, match="has none"):  # they are of one call
        task.forward(model, cache._task.collate(dataset.__getitems__([0, 1])))
    with pytest.raises(NoActivationsError, match="changes what the model reads"):
        cache.task.forward(model, {**batch, "input_ids": batch["input_ids"][:, :1]})
    cache.restore()
    task.forward(model, task.collate(dataset.__getitems__([0])))


def test_layers_that_read_padding_are_not_replaced(folders, caplog):
    task = task_on(folders("bert"))
    model = loaded(task, HEAD)
    layers_of(model)[1].register_forward_pre_hook(
        lambda _, given: (given[0] + given[0].mean(dim=1, keepdim=True), *given[1:])
    )
    with caplog.at_level(logging.INFO):
        assert cached(model, task, splits(task)) is None
    assert "depends on its batch" in caplog.text
    assert not list(Path("cache").glob("*/"))
    assert not any("forward" in vars(layer) for layer in layers_of(model))


def test_layers_with_a_forward_of_their_own_keep_it(folders):
    task = task_on(folders("bert"))
    assert cached(loaded(task, HEAD), task, splits(task)) is not None
    model = loaded(task, HEAD)
    layer = layers_of(model)[1]
    layer.forward = own = layer.forward
    assert cached(model, task, splits(task)) is None  # nor what is there already
    assert layer.forward is own


def test_there_has_to_be_room(folders, monkeypatch):
    task = task_on(folders("bert"))
    size = sum(sum(of.lengths) for of in splits(task).values()) * 16 * 4
    assert cached(loaded(task, HEAD), task, splits(task), most_bytes=size - 1) is None
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4 * size - 1))
        assert cached(loaded(task, HEAD), task, splits(task), most_bytes=size) is None
    first = cached(loaded(task, HEAD), task, splits(task), most_bytes=size)
    old = {path.name for path in Path("cache").glob("*/")}
    second = cached(loaded(task, TOP), task, splits(task), most_bytes=size + 1000)
    assert first is not None
    assert second is not None  # in the place of the first
    assert not old & {path.name for path in Path("cache").glob("*/")}
    assert len(list(Path("cache").iterdir())) == 4  # each with its lock


def test_a_task_that_changes_what_is_read_has_no_cache(folders):
    task = task_on(folders("bert"))
    task.forward = lambda model, batch: type(task).forward(
        task, model, {**batch, "input_ids": batch["input_ids"].flip(0)}
    )
    assert cached(loaded(task, HEAD), task, splits(task)) is None


@pytest.mark.parametrize("kind", ["albert", "longformer", "bart"])
def test_models_whose_layers_are_no_plain_sequence_have_no_cache(folders, kind):
    task = task_on(folders(kind))
    model = loaded(task, HEAD)
    assert cached(model, task, splits(task)) is None
    task.infer(model, splits(task)["validation"])


def test_the_splits_keep_what_was_computed_of_them(folders):
    task = task_on(folders("bert"))
    examples = splits(task)
    lengths = examples["train"].lengths
    cache = cached(loaded(task, HEAD), task, examples)
    assert cache.examples["train"].lengths is lengths
    assert list(cache.examples["validation"].dataset[STORED][:]) == list(range(20, 30))
    assert cache.examples["train"].rows is examples["train"].rows
    chosen = replace(examples["train"], dataset=examples["train"].dataset.select([4, 2]))
    assert inputs_digest(chosen.dataset) == inputs_digest(chosen.dataset.flatten_indices())


def test_a_model_that_is_gone_leaves_its_memory(folders):
    task = task_on(folders("bert"))
    model = loaded(task, TOP)
    gc.collect()
    gc.disable()
    try:
        cache = cached(model, task, splits(task))
        cache.task.infer(model, cache.examples["train"])
        gone = [weakref.ref(model), *map(weakref.ref, layers_of(model))]
        del model, cache
        assert [of() for of in gone] == [None] * 5
    finally:
        gc.enable()


def test_cache_pays_where_layers_are_computed_repeatedly():
    assert pays(1, 1, in_sweep=True)
    assert pays(3, 3, in_sweep=False)
    assert pays(1, 4, in_sweep=False)
    assert not pays(1, 1, in_sweep=False)
    assert not pays(0.5, 2, in_sweep=False)
