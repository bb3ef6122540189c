"""Unpadding: outputs and gradients are those with padding, which no layer computes."""

import copy
import threading

import numpy as np
import peft
import pytest
import torch
import transformers as hf

from pipeline.config.optimizer import OptimizerConfig
from pipeline.models.adapters import layers_of
from pipeline.training.speedups.active_vocabulary import shrink
from pipeline.training.speedups.fused import FusedLayer, _Kept
from pipeline.training.speedups.replaced import Slot, replace, restore
from pipeline.training.speedups.unpadding import UNPADDED, unpad

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}
DISTIL = {"vocab_size": 60, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
FIT = {
    "bert": hf.BertConfig(**SIZES, classifier_dropout=0.0),
    "distilbert": hf.DistilBertConfig(
        **DISTIL, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, qa_dropout=0.0
    ),
    "roberta": hf.RobertaConfig(**SIZES),
    "electra": hf.ElectraConfig(**SIZES, embedding_size=8),
    "albert": hf.AlbertConfig(**SIZES, embedding_size=8, classifier_dropout_prob=0.0),
}
PLAIN = {k: v for k, v in SIZES.items() if not k.endswith("_prob")}
UNFIT = {
    "mpnet": hf.MPNetConfig(**SIZES),  # its bias is by position
    "modernbert": hf.ModernBertConfig(**PLAIN, local_attention=4),
    "deberta": hf.DebertaV2Config(**SIZES, relative_attention=True, position_buckets=8),
    "gpt2": hf.GPT2Config(
        vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=80, pad_token_id=0
    ),
    "llama": hf.LlamaConfig(**PLAIN),
    "bert that decodes": hf.BertConfig(**SIZES, is_decoder=True),
    "eager": hf.BertConfig(**SIZES, attn_implementation="eager"),
    "t5": hf.T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0
    ),
}
HEADS = {
    "classes": hf.AutoModelForSequenceClassification,
    "spans": hf.AutoModelForQuestionAnswering,
}
BATCHES = {
    "mixed": (3, 60, 5, 58, 60, 1, 17, 3),  # buckets of one length, and of several
    "long": (3, 76, 66, 76, 5, 71),  # some of 64 tokens and more, and 23 spare rows
    "one row": (9,),
    "one row, padded": (9, 0),
    "one length": (7, 7, 7),
    "one length, padded": (7, 7, 7, 0),
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def made(kind, head=hf.AutoModel, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = copy.deepcopy({**FIT, **UNFIT}[kind])
        return head.from_config(config).eval()


def batch_of(lengths, width=None):
    """Make a batch; a length of 0 is none, but five columns more of padding."""
    rows = [n for n in lengths if n]
    width = width or max(rows) + 5 * (len(rows) < len(lengths))
    mask = (torch.arange(width) < torch.tensor(rows)[:, None]).long()
    ids = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * mask, "attention_mask": mask}


def learned(model, batch):
    """Return outputs, at tokens alone, and all gradients."""
    model.train()
    mask = batch["attention_mask"] == 1
    found = [x[mask] if x.shape == mask.shape else x for x in model(**batch).values()]
    model.zero_grad()
    sum((x**2).mean() for x in found).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {**dict(enumerate(found)), **gradients}


def same(model, other, batch):
    torch.testing.assert_close(learned(model, batch), learned(other, batch), **CLOSE)


def traces(model):
    hooks = [(key, len(v)) for m in model.modules() for key, v in vars(m).items() if "hooks" in key]
    return hooks, model.config._attn_implementation, [m.training for m in model.modules()]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", FIT)
def test_outputs_and_gradients_are_those_without(kind, head):
    plain, model = made(kind, HEADS[head]), made(kind, HEADS[head])
    unpadding = unpad(model)
    assert unpadding is not None
    for name, lengths in BATCHES.items():
        used = unpadding.used
        same(model, plain, batch_of(lengths))
        assert (unpadding.used > used) == (name not in ("one row", "one length")), name


@pytest.mark.parametrize("kind", UNFIT)
def test_others_are_left_alone(kind):
    model = made(kind)
    before = traces(model)
    assert unpad(model) is None
    assert traces(model) == before


def test_a_layer_that_mixes_tokens_is_found():
    model = made("bert")
    model.encoder.layer[1].register_forward_pre_hook(
        lambda _, args: (args[0] + args[0].roll(1, 1), *args[1:])
    )
    before = traces(model)
    assert unpad(model) is None
    assert traces(model) == before


def test_layers_compute_few_shapes_and_no_padding_which_becomes_zeros():
    model = made("bert")
    assert unpad(model)
    rows = []
    for layer in model.encoder.layer:
        dense = layer.intermediate.dense
        dense.register_forward_hook(lambda _, given, __: rows.append(given[0][..., 0].numel()))
    for lengths in ([70, k] for k in range(1, 70)):
        batch, tokens = batch_of(lengths), sum(lengths)
        hidden = model(**batch).last_hidden_state
        assert not hidden[batch["attention_mask"] == 0].any()
        assert all(tokens <= count <= tokens * 9 / 8 for count in rows[-3:])
    assert len(set(rows)) < 16  # of 69 batches


def test_undo_leaves_no_trace():
    plain, model = made("bert", HEADS["classes"]), made("bert", HEADS["classes"])
    batch, before = batch_of(BATCHES["mixed"]), traces(model)
    unpadding = unpad(model)
    copied = copy.deepcopy(model)
    assert traces(model) != before
    unpadding.undo()
    assert traces(model) == before
    assert torch.equal(model(**batch).logits, plain(**batch).logits)
    used = unpadding.used
    same(copied, plain, batch)
    assert unpadding.used == used


def test_other_masks_are_computed_as_before():
    plain, model, batch = made("roberta"), made("roberta"), batch_of(BATCHES["mixed"])
    unpadding = unpad(model)
    used = unpadding.used
    hole = {**batch, "attention_mask": batch["attention_mask"].clone()}
    hole["attention_mask"][1, 30] = 0
    left = {k: v.flip(1) for k, v in batch.items()}
    none = {"input_ids": batch["input_ids"]}
    for other in (hole, left, none):
        assert torch.equal(model(**other)[0], plain(**other)[0])
    asked = model(**batch, output_hidden_states=True).hidden_states
    torch.testing.assert_close(asked, plain(**batch, output_hidden_states=True).hidden_states)
    model.gradient_checkpointing_enable()
    model.train()
    torch.testing.assert_close(model(**batch)[0], plain(**batch)[0])
    assert unpadding.used == used


def test_in_bfloat16_it_is_near():
    plain, model, batch = made("bert"), made("bert"), batch_of(BATCHES["mixed"])
    unpadding = unpad(model)
    used, mask = unpadding.used, batch["attention_mask"] == 1
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**batch)[0][mask]
    found.float().sum().backward()
    assert unpadding.used == used + 1
    torch.testing.assert_close(found.float(), plain(**batch)[0][mask], rtol=0.05, atol=0.1)


def test_with_dropout_it_repeats_itself():
    model, batch = made("bert"), batch_of(BATCHES["mixed"])
    assert unpad(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    found = []
    torch.use_deterministic_algorithms(True)
    try:
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            found.append({name: x.clone() for name, x in learned(model, batch).items()})
    finally:
        torch.use_deterministic_algorithms(False)
    one, again, other = found
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[0], other[0])


def test_models_do_not_disturb_each_other():
    config, batch = copy.deepcopy(FIT["bert"]), batch_of(BATCHES["mixed"])
    torch.manual_seed(0)
    inner, model = hf.BertModel(config).eval(), made("bert", HEADS["classes"], seed=1)
    want, wanted = inner(**batch)[0], model(**batch).logits
    assert unpad(model)
    inner.set_attn_implementation(UNPADDED)  # as a copy of an unpadded model's config would have it
    found = []

    def nested(*_):
        found.append(inner(**batch)[0])

    model.bert.encoder.layer[1].register_forward_pre_hook(nested)
    torch.testing.assert_close(model(**batch).logits, wanted, **CLOSE)

    def in_a_thread(*_):
        thread = threading.Thread(target=nested)
        thread.start()
        thread.join()

    model.bert.encoder.layer[1].register_forward_pre_hook(in_a_thread)
    model(**batch)
    assert all(torch.equal(x, want) for x in found)
    assert len(found) == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_interruption_batches_are_right(error):
    plain, model, batch = made("bert"), made("bert"), batch_of(BATCHES["mixed"])
    assert unpad(model)

    def fail(*_):
        raise error

    hook = model.encoder.layer[1].register_forward_pre_hook(fail)
    with pytest.raises(error):
        model(**batch)
    hook.remove()
    for other in (batch_of((7, 7)), batch):
        mask = other["attention_mask"] == 1
        torch.testing.assert_close(model(**other)[0][mask], plain(**other)[0][mask], **CLOSE)


def test_adapters_and_few_embeddings_fit():
    lora = peft.LoraConfig(target_modules=["query"], modules_to_save=["classifier"])
    plain, model = (peft.get_peft_model(made("bert", HEADS["classes"]), lora) for _ in range(2))
    model.load_state_dict(plain.state_dict())
    assert unpad(model)
    same(model, plain, batch_of(BATCHES["mixed"]))

    shrunk = made("bert", HEADS["classes"])
    assert shrink(shrunk, torch.arange(9).numpy(), OptimizerConfig("AdamW", 1e-3, 0.0))
    assert unpad(shrunk)


def test_layers_after_stored_ones_are_unpadded():
    plain, model, batch = made("bert"), made("bert"), batch_of(BATCHES["mixed"])
    slot, layers = Slot(), layers_of(model)[1][:2]
    given, mask = torch.randn(*batch["input_ids"].shape, 16), batch["attention_mask"] == 1
    replace(layers, (0, 0), slot)
    unpadding = unpad(model)
    used, slot.given = unpadding.used, given
    found = model(**batch)[0]
    assert unpadding.used == used + 1
    plain.encoder.layer[2].register_forward_pre_hook(lambda _, args: (given, *args[1:]))
    torch.testing.assert_close(found[mask], plain(**batch)[0][mask], **CLOSE)
    restore(layers)
    want = made("bert")(**batch)[0]
    torch.testing.assert_close(model(**batch)[0][mask], want[mask], **CLOSE)


@pytest.mark.parametrize("lengths", ["mixed", "long"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_gradients_with_dropout_are_those_of_what_it_drew(kind, lengths):
    model, batch = made(kind, HEADS["classes"]), batch_of(BATCHES[lengths])
    assert unpad(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    model.train()

    def loss():
        torch.manual_seed(0)
        return (model(**batch).logits ** 2).sum()

    loss().backward()
    moved = [p for n, p in model.named_parameters() if ".layer." in n]
    drawn = torch.Generator().manual_seed(1)
    ways = [torch.randn(p.shape, generator=drawn) for p in moved]
    expected = sum(float((p.grad * way).sum()) for p, way in zip(moved, ways, strict=True))
    step, found = 1e-3, []
    with torch.no_grad():
        for sign in (1, -2):  # forwards, and from there backwards
            for p, way in zip(moved, ways, strict=True):
                p.add_(way, alpha=sign * step)
            found.append(float(loss()))
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(expected, rel=0.02)


def test_dropout_keeps_its_share_and_draws_anew_each_time():
    kept = [
        _Kept(torch.empty(400_000, dtype=dtype), 0.1, np.random.default_rng(seed)).of(
            torch.ones(400_000, dtype=dtype)
        )
        for dtype in (torch.float32, torch.bfloat16)
        for seed in range(2)
    ]
    assert [float(ones.float().mean()) for ones in kept] == pytest.approx([0.9] * 4, abs=0.003)
    assert torch.equal(kept[0], kept[2].float())
    assert not torch.equal(kept[0], kept[1])
    model, batch = made("bert"), batch_of(BATCHES["mixed"])
    assert unpad(model)
    model.train()
    assert torch.equal(model(**batch)[0], model(**batch)[0])
    model.encoder.layer[1].output.dropout.p = 0.1
    assert not torch.equal(model(**batch)[0], model(**batch)[0])


def test_layers_of_these_kinds_are_computed_in_one_step(monkeypatch):
    calls = []
    computed = FusedLayer.__call__
    monkeypatch.setattr(FusedLayer, "__call__", lambda *a: calls.append(1) or computed(*a))
    for kind in ("bert", "distilbert", "roberta", "electra"):
        calls.clear()
        model = made(kind)
        assert unpad(model)
        calls.clear()
        model(**batch_of(BATCHES["mixed"]))
        assert len(calls) == 3, kind


def test_a_layer_with_more_in_it_is_computed_as_before():
    def unbiased(layer):
        layer.output.dense.bias = None

    def hooked(layer):
        layer.attention.self.register_full_backward_pre_hook(lambda *_: None)

    def wrapped(layer):
        layer.output.dense = torch.nn.Sequential(layer.output.dense)

    for change in (unbiased, hooked, wrapped):
        plain, before, after = (made("bert", HEADS["classes"]) for _ in range(3))
        change(plain.bert.encoder.layer[1])
        change(before.bert.encoder.layer[1])
        assert unpad(before)
        assert unpad(after)
        change(after.bert.encoder.layer[1])
        for model in (before, after):
            assert FusedLayer.of(model.bert.encoder.layer[0])
            assert not FusedLayer.of(model.bert.encoder.layer[1])
            same(model, plain, batch_of(BATCHES["mixed"]))


def test_models_of_the_same_parts_are_tried_once():
    sizes = {**SIZES, "intermediate_size": 40}  # of no other test
    first, second = (hf.BertModel(hf.BertConfig(**sizes)).eval() for _ in range(2))
    other = hf.BertModel(hf.BertConfig(**sizes, hidden_act="relu")).eval()
    assert [unpad(model).used for model in (first, second, other)] == [1, 0, 1]


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_gradients_in_bfloat16_are_as_near_as_without(kind):
    batch, found = batch_of(BATCHES["long"]), []
    for is_unpadded, is_autocast in ((False, False), (False, True), (True, True)):
        model = made(kind, HEADS["classes"])
        model.base_model.embeddings.requires_grad_(False)
        assert not is_unpadded or unpad(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            of = learned(model, batch)
        found.append(torch.cat([x.float().flatten() for n, x in of.items() if ".layer." in str(n)]))
    exact, plain, fused = found
    assert 0 < torch.dist(fused, exact) < 1.2 * torch.dist(plain, exact)
