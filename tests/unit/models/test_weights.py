"""Weights: read once in a process, and every run gets what a fresh process would have read."""

import gc
import json
import pickle
import shutil
import weakref
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pipeline.common.errors import ModelError
from pipeline.data import Targets
from pipeline.models import find_checkpoint
from pipeline.models.weights import Weights, weights
from pipeline.tasks.classification import Classification
from tests.support import broken
from tests.support.configs import model_of, task_settings
from tests.support.rows import labelled
from tests.support.weights import Trap, count_reads, same, with_own_code


def load(checkpoint, seed=0, labels=("neg", "pos")):
    transformers.set_seed(seed)
    config = task_settings("classification")
    return Classification(config, checkpoint, 32, Targets(dict.fromkeys(labels, 1))).load_model()


def state(model) -> dict[str, torch.Tensor]:
    """Return all a forward pass could read: buffers that are never saved are in it."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in named}


def fresh(
    checkpoint, seed=0, labels=("neg", "pos")
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return what transformers itself reads, and where that leaves the generator."""
    transformers.set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint.location,
        dtype=torch.float32,
        num_labels=len(labels),
        ignore_mismatched_sizes=True,
    )
    return state(model), torch.get_rng_state()


def saved(kind: str, tiny_model, folder):
    """Save a small model of another architecture with the tiny tokenizer, and find it."""
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    small = {"vocab_size": 24, "pad_token_id": 0}
    if kind == "bert with a head":  # of three labels: another number is drawn anew
        config = transformers.AutoConfig.from_pretrained(tiny_model, num_labels=3)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    elif kind == "decoder":  # with buffers that are not in its file
        config = transformers.LlamaConfig(
            **small,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
        transformers.LlamaModel(config).save_pretrained(folder)
    else:  # tied weights
        config = transformers.T5Config(
            **small, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, eos_token_id=3
        )
        transformers.T5Model(config).save_pretrained(folder)
    return find_checkpoint(model_of(folder))


@pytest.fixture
def reads(monkeypatch):
    return count_reads(monkeypatch)


@pytest.fixture
def own_code(tiny_model, working_folder, monkeypatch):
    return with_own_code(tiny_model, working_folder, monkeypatch)


@pytest.mark.parametrize("kind", ["bert", "bert with a head", "decoder", "tied"])
def test_a_second_load_is_a_fresh_one_bit_for_bit(tiny_model, working_folder, reads, kind):
    if kind == "bert":
        checkpoint = find_checkpoint(model_of(tiny_model))
    else:
        checkpoint = saved(kind, tiny_model, working_folder / "other")
    for seed in (0, 1, 2):
        expected, generator = fresh(checkpoint, seed)
        reads.clear()
        model = load(checkpoint, seed)
        assert len(reads) == (seed == 0)
        assert same(state(model), expected)
        assert torch.equal(torch.get_rng_state(), generator)
        tied = len(list(weights()._model.parameters()))
        assert len(list(model.parameters())) == tied
        assert not model.training
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(1)
        del model
        gc.collect()


def test_a_trained_head_of_other_labels_is_replaced_with_a_word(tiny_model, working_folder):
    checkpoint = saved("bert with a head", tiny_model, working_folder / "other")
    config = task_settings("classification")
    notes = {
        labels: Classification(config, checkpoint, 32, Targets(dict.fromkeys(labels, 1))).warnings(
            []
        )
        for labels in ("ab", "abc")
    }
    assert notes["abc"] == []
    assert notes["ab"] == [
        "the model's own head of 3 labels (LABEL_0, LABEL_1, LABEL_2) is replaced by a new one "
        "of 2 (a, b)"
    ]


@pytest.mark.parametrize(
    ("names", "rows", "said"),
    [
        (("pos", "neg"), [1, 0], ""),
        (("neg", "pos"), [0, 1], ""),
        (("LABEL_0", "LABEL_1"), [0, 1], ""),
        (("bad", "good"), [0, 1], "the model's own head of 2 labels (bad, good) is kept, in this "),
    ],
)
def test_a_trained_head_is_put_in_the_order_of_the_labels(tiny_model, tmp_path, names, rows, said):
    folder = shutil.copytree(tiny_model, tmp_path / "trained")
    config = transformers.AutoConfig.from_pretrained(folder, id2label=dict(enumerate(names)))
    made = transformers.BertForSequenceClassification(config)
    made.classifier.bias.data = torch.tensor([0.25, 0.5])
    made.save_pretrained(folder)
    checkpoint = find_checkpoint(model_of(folder))
    for model in (load(checkpoint), load(checkpoint)):  # as read, and a copy
        assert torch.equal(model.classifier.weight, made.classifier.weight[rows])
        assert torch.equal(model.classifier.bias, made.classifier.bias[rows])
    task = Classification(
        task_settings("classification"), checkpoint, 32, Targets({"neg": 1, "pos": 1})
    )
    assert " ".join(task.warnings([])).startswith(said)
    assert bool(said) == bool(task.warnings([]))


def test_a_pooler_without_weights_and_other_special_tokens_are_said(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "odd")
    broken.tensors(lambda t: {n: v for n, v in t.items() if "pooler" not in n})(folder)
    broken.config(pad_token_id=3)(folder)
    checkpoint = find_checkpoint(model_of(folder))
    task = Classification(
        task_settings("classification"), checkpoint, 32, Targets({"neg": 1, "pos": 1})
    )
    task.check_weights()
    assert task.warnings([]) == [
        "config.json has other ids of special tokens than the tokenizer: pad_token_id=3, not 0; "
        "check that both are of one model",
        f"model.checkpoint={folder} has no weights of bert.pooler.dense.weight, "
        "bert.pooler.dense.bias, classifier.weight, classifier.bias: they are new and random",
    ]


@pytest.mark.parametrize(("text", "share"), [("good zz bad zz", "50%"), ("good bad", "")])
def test_texts_that_a_tokenizer_does_not_know_are_said(tiny_model, text, share):
    checkpoint = find_checkpoint(model_of(tiny_model))
    task = Classification(
        task_settings("classification"), checkpoint, 32, Targets({"neg": 1, "pos": 1})
    )
    notes = task.notes(task.encode(labelled([(text, "neg")])))
    assert [note.split()[0] for note in notes] == share.split()


def test_changes_to_a_model_do_not_reach_the_next_load(tiny_model, reads):
    checkpoint = find_checkpoint(model_of(tiny_model))
    expected = state(load(checkpoint))
    gc.collect()
    model = load(checkpoint)
    layer = model.bert.encoder.layer[0]
    layer.output.dense = torch.nn.Sequential(layer.output.dense, torch.nn.Linear(16, 16))
    model.classifier.register_forward_hook(lambda *_: 0 / 0)
    model.bert.requires_grad_(False)
    mine = torch.zeros(24, 16)
    model.bert.embeddings.word_embeddings.weight.data = mine
    model.bert.pooler.half()
    model.gradient_checkpointing_enable()
    model.config.pad_token_id = 7
    model.train()
    del model, layer
    gc.collect()
    untouched = load(checkpoint)
    assert len(reads) == 1
    assert same(state(untouched), expected)
    assert not mine.any()
    assert all(p.requires_grad and p.grad is None for p in untouched.parameters())
    assert not untouched.is_gradient_checkpointing
    assert untouched.config.pad_token_id == 0
    assert not any(m.training or m._forward_hooks for m in untouched.modules())


def test_only_the_memory_of_a_model_that_is_gone_is_used_again(tiny_model):
    checkpoint = find_checkpoint(model_of(tiny_model))
    first = load(checkpoint)
    first.classifier.weight.grad = torch.ones_like(first.classifier.weight)
    grad = weakref.ref(first.classifier.weight.grad)
    kept, address = state(first), first.classifier.weight.data_ptr()
    second = load(checkpoint, seed=1)
    with torch.no_grad():
        second.classifier.weight.zero_()
    assert same(state(first), kept)
    shared = {p.data_ptr() for p in first.parameters()} & {
        p.data_ptr() for p in second.parameters()
    }
    assert not shared
    del second
    del first
    gc.collect()
    assert grad() is None
    assert load(checkpoint).classifier.weight.data_ptr() == address


def test_loading_another_model_frees_the_previous_one(tiny_model, working_folder, monkeypatch):
    checkpoint = find_checkpoint(model_of(tiny_model))
    other = saved("decoder", tiny_model, working_folder / "other")
    assert load(checkpoint).num_labels == 2
    asked = ({"labels": ("a", "b", "c")}, {"checkpoint": other}, {})
    for change in asked:
        former = weakref.ref(weights()._model)
        of = {"checkpoint": checkpoint, **change}
        expected, _ = fresh(**of)
        read, gone = Weights._read, []

        def look(self, key, load, read=read, former=former, gone=gone):
            gc.collect()
            gone.append(former() is None)
            return read(self, key, load)

        with monkeypatch.context() as patch:
            patch.setattr(Weights, "_read", look)
            assert same(state(load(**of)), expected)
        assert gone == [True]


def test_files_that_changed_are_read_again(tiny_model, working_folder):
    folder = working_folder / "mine"
    shutil.copytree(tiny_model, folder)
    checkpoint = find_checkpoint(model_of(folder))
    model = load(checkpoint)
    with torch.no_grad():
        model.bert.pooler.dense.bias.fill_(1)
    model.save_pretrained(folder)
    assert load(checkpoint).bert.pooler.dense.bias.eq(1).all()


def test_a_model_that_would_be_drawn_otherwise_is_read_each_time(tiny_model, monkeypatch, reads):
    checkpoint = find_checkpoint(model_of(tiny_model))
    expected = [fresh(checkpoint, seed) for seed in (0, 1)]
    reads.clear()
    draw = PreTrainedModel.initialize_weights

    def twice(self):
        if reads and getattr(self, "_drawn", False):
            torch.rand(1)  # a second time it takes one number more
        self._drawn = True
        draw(self)

    monkeypatch.setattr(PreTrainedModel, "initialize_weights", twice)
    for seed, (read, generator) in enumerate(expected):
        assert same(state(load(checkpoint, seed)), read)
        assert torch.equal(torch.get_rng_state(), generator)
    assert len(reads) == 2


def test_pickled_weights_that_an_index_of_safetensors_names_run_nothing(tiny_model):
    shutil.copytree(tiny_model, "mixed", ignore=shutil.ignore_patterns("*.safetensors"))
    Path("mixed/shard.bin").write_bytes(pickle.dumps(Trap(), protocol=2))
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "shard.bin"}}
    Path("mixed/model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = find_checkpoint(model_of("mixed"))
    with pytest.raises(ModelError, match=r"index\.json: Weights only load failed"):
        load(checkpoint)
    assert not Path("ran").exists()


def test_broken_safetensors_are_refused_in_one_paragraph(tiny_model):
    shutil.copytree(tiny_model, "broken")
    Path("broken/model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match=r"^model\.checkpoint=broken: model\.safetensors: "):
        load(find_checkpoint(model_of("broken")))


def test_a_hub_model_without_safetensors_is_refused_in_one_paragraph(tiny_model, monkeypatch):
    cached, commit = Path("hub/models--owner--old"), "0" * 40
    light = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(tiny_model, cached / "snapshots" / commit, ignore=light)
    (cached / "snapshots" / commit / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    for missing in ("model.safetensors", "model.safetensors.index.json"):  # as the hub answered
        (cached / ".no_exist" / commit).mkdir(parents=True, exist_ok=True)
        (cached / ".no_exist" / commit / missing).touch()
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(Path("hub").absolute()))
    checkpoint = find_checkpoint(model_of("owner/old"))
    with pytest.raises(ModelError, match=r"^model.checkpoint=owner/old: there are no safetensors"):
        load(checkpoint)
    assert not Path("ran").exists()


def test_a_models_own_code_runs_where_the_model_is_named(own_code):
    name = str(own_code)
    model = load(find_checkpoint(model_of(name, trust_remote_code=name)))
    assert type(model).__name__ == "OwnModel"
    assert Path("ran").exists()
