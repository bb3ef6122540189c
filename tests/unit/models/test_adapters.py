"""Adapters: what is trained, what is kept of it, and that a saved or merged one says the same."""

import copy
import gc
import json
from pathlib import Path

import pytest
import torch
import transformers as hf

from pipeline.common.errors import ConfigError, TrackingError
from pipeline.config.adapter import FreezeConfig, FullConfig, HeadConfig, Ia3Config, LoraConfig
from pipeline.models import find_checkpoint
from pipeline.models.adapters import (
    adapt,
    check_adapter,
    is_adapter,
    load_adapter,
    load_options,
    merged,
    new_head,
    save_adapter,
)
from pipeline.tasks.objective import Objective
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.checkpoints import check_fits
from pipeline.training.snapshot import load_trained_state, trained_state
from tests.support.configs import model_of

ENCODER = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,  # so that queries and keys matter to float32
}
PAIR = {
    "vocab_size": 24,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "decoder_start_token_id": 0,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
CONFIGS = {
    "bert": hf.BertConfig(**ENCODER),
    "distilbert": hf.DistilBertConfig(
        vocab_size=24, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40
    ),
    "roberta": hf.RobertaConfig(**ENCODER, **SPECIAL),
    "deberta": hf.DebertaV2Config(**ENCODER, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": hf.ModernBertConfig(**ENCODER, **SPECIAL, cls_token_id=2, sep_token_id=3),
    "gpt2": hf.GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=40, **SPECIAL),
    "llama": hf.LlamaConfig(**ENCODER, **SPECIAL),
    "t5": hf.T5Config(
        vocab_size=24,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=3,
    ),
    "bart": hf.BartConfig(**PAIR, max_position_embeddings=40, forced_eos_token_id=None),
    "marian": hf.MarianConfig(**PAIR, max_position_embeddings=40, forced_eos_token_id=None),
}
HEADS = {
    "classifies": hf.AutoModelForSequenceClassification,
    "answers": hf.AutoModelForQuestionAnswering,
    "writes": hf.AutoModelForCausalLM,
    "rewrites": hf.AutoModelForSeq2SeqLM,
}
MODELS = [
    ("bert", "classifies"),
    ("gpt2", "classifies"),
    ("llama", "writes"),
    ("t5", "rewrites"),
    ("bert", "answers"),
]
ADAPTERS = {
    "lora": LoraConfig("lora", 4, 8.0, 0.1, None),
    "dora": LoraConfig("dora", 4, 8.0, 0.1, None),
    "ia3": Ia3Config("ia3", None),
    "head": HeadConfig("head"),
    "freeze": FreezeConfig("freeze", 1),
}
LORA = ADAPTERS["lora"]
EVERY = [
    (family, does, adapter)
    for family, does in MODELS
    for adapter in ADAPTERS
    if adapter != "head" or does in ("classifies", "answers")
]


def make(family: str, does: str, seed: int = 0):
    torch.manual_seed(seed)
    # Copied: some classes change the config that they are given.
    return HEADS[does].from_config(copy.deepcopy(CONFIGS[family]), dtype=torch.float32).eval()


def batch(does: str) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 24, (3, 8), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if does == "classifies":
        return {**inputs, "labels": torch.tensor([0, 1, 0])}
    if does == "answers":
        positions = torch.tensor([1, 2, 3])
        return {**inputs, "start_positions": positions, "end_positions": positions + 1}
    return {**inputs, "labels": ids}


def outputs(model, does: str) -> list[torch.Tensor]:
    with torch.no_grad():
        made = model.eval()(**batch(does))
    return [made.start_logits, made.end_logits] if does == "answers" else [made.logits]


def train(model, does: str, steps: int = 3) -> None:
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch(does)).loss.backward()
        optimizer.step()


def close(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))


def copied(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("family", "does", "expected"),
    [
        ("bert", "classifies", ("classifier",)),
        ("distilbert", "classifies", ("pre_classifier", "classifier")),
        ("roberta", "classifies", ("classifier",)),
        ("deberta", "classifies", ("pooler", "classifier")),
        ("modernbert", "classifies", ("head", "classifier")),
        ("gpt2", "classifies", ("score",)),
        ("llama", "classifies", ("score",)),
        ("t5", "classifies", ("classification_head",)),
        ("bart", "classifies", ("classification_head",)),
        ("bert", "answers", ("qa_outputs",)),
        ("roberta", "answers", ("qa_outputs",)),
        ("t5", "answers", ("qa_outputs",)),  # whose base model has no name in it
        ("gpt2", "writes", ()),  # tied to the input
        ("llama", "writes", ()),  # not tied
        ("bart", "writes", ()),
        ("t5", "rewrites", ()),
        ("bart", "rewrites", ()),
        ("marian", "rewrites", ()),
    ],
)
def test_head_is_the_modules_that_the_task_added(family, does, expected):
    assert new_head(make(family, does)) == expected


@pytest.mark.filterwarnings("error::FutureWarning")  # a search would repeat it each trial
@pytest.mark.parametrize(("family", "does", "adapter"), EVERY)
def test_training_changes_only_trained_parameters(family, does, adapter):
    plain = make(family, does)
    size = sum(p.numel() for p in plain.parameters())
    head = new_head(plain)
    model = adapt(plain, ADAPTERS[adapter], head)
    assert is_adapter(model) == (adapter in ("lora", "dora", "ia3"))
    assert 0 < sum(p.numel() for p in model.parameters() if p.requires_grad) < size / 2
    before = copied(model)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    train(model, does)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed <= names
    assert all(any(f"{part}." in name for name in changed) for part in head)
    # All but keys' biases, which a softmax does not see.
    assert {n for n in names - changed if "bias" not in n} == set()


@pytest.mark.parametrize(
    ("family", "does", "adapter"), [c for c in EVERY if c[2] in ("lora", "dora", "ia3")]
)
def test_a_saved_and_a_merged_adapter_say_the_same(family, does, adapter, tmp_path):
    plain = make(family, does)
    untrained = outputs(plain, does)
    base = copy.deepcopy(plain)
    names = list(base.state_dict())
    model = adapt(plain, ADAPTERS[adapter], new_head(plain))
    assert close(outputs(model, does), untrained)  # until it is trained
    train(model, does)
    expected = outputs(model, does)
    assert not close(expected, untrained)

    save_adapter(model, tmp_path / "adapter", "acme/tiny")
    files = {p.name for p in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    generator = torch.get_rng_state()
    loaded = load_adapter(base, tmp_path / "adapter")
    assert torch.equal(torch.get_rng_state(), generator)
    assert is_adapter(loaded)
    assert close(outputs(loaded, does), expected)

    plain = merged(model)
    assert not is_adapter(plain)
    assert list(plain.state_dict()) == names
    assert close(outputs(plain, does), expected)
    plain.save_pretrained(tmp_path / "merged")
    again = HEADS[does].from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert close(outputs(again, does), expected)


@pytest.mark.parametrize("adapter", ["lora", "dora", "ia3"])
@pytest.mark.parametrize(
    ("family", "does"), [("llama", "writes"), ("gpt2", "writes"), ("t5", "rewrites")]
)
def test_a_model_with_an_adapter_writes(family, does, adapter):
    model = adapt(make(family, does), ADAPTERS[adapter], ())
    train(model, does, steps=1)
    given = {"input_ids": torch.tensor([[5, 6, 7]]), "max_new_tokens": 4, "do_sample": False}
    written = model.eval().generate(**given)
    assert written.shape[1] > 1
    assert torch.equal(written, merged(model).generate(**given))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_seed_repeats_new_weights(adapter):
    def made(seed):
        plain = make("bert", "classifies")
        torch.manual_seed(seed)
        return copied(adapt(plain, ADAPTERS[adapter], new_head(plain)))

    one, same, other = made(1), made(1), made(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = {name for name in one if not torch.equal(one[name], other[name])}
    assert all("lora_A" in name for name in drawn)
    assert bool(drawn) == (adapter in ("lora", "dora"))


def test_without_an_adapter_a_model_is_left_alone():
    model = make("bert", "classifies")
    assert adapt(model, FullConfig("none"), ("classifier",)) is model
    assert merged(model) is model
    assert load_options(FullConfig("none")) == {}
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "marian"])
@pytest.mark.parametrize("adapter", ["lora", "ia3"])
def test_where_peft_knows_no_targets_attention_is_adapted(family, adapter, tmp_path):
    does = "rewrites" if family == "marian" else "classifies"
    plain = make(family, does)
    base, head = copy.deepcopy(plain), new_head(plain)
    model = adapt(plain, ADAPTERS[adapter], head)
    mark = "lora_A" if adapter == "lora" else "ia3_l"
    adapted = {name for name, _ in model.named_parameters() if mark in name}
    attention = [
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and "att" in name
    ]
    assert len(adapted) == len(attention) > 0
    assert all("att" in name for name in adapted)
    train(model, does)
    save_adapter(model, tmp_path, "acme/tiny")
    assert close(outputs(load_adapter(base, tmp_path), does), outputs(model, does))


def test_ia3_scales_what_enters_a_feed_forward_layer_and_leaves_attention():
    plain = make("bert", "classifies")
    model = adapt(plain, ADAPTERS["ia3"], new_head(plain))
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if "ia3_l" in n}
    layer = "base_model.model.bert.encoder.layer.0"
    assert shapes[f"{layer}.attention.self.key.ia3_l.default"] == (16, 1)
    assert shapes[f"{layer}.output.dense.ia3_l.default"] == (1, 32)


def test_given_targets_never_reach_into_the_head():
    plain = make("roberta", "classifies")  # whose head has a `dense` too
    model = adapt(plain, LoraConfig("lora", 4, 8.0, 0.0, ("dense",)), new_head(plain))
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert len(adapted) == 2 * 3
    assert not any("classifier" in name for name in adapted)
    train(model, "classifies")
    expected = outputs(model, "classifies")
    assert close(outputs(merged(model), "classifies"), expected)


@pytest.mark.parametrize(
    ("family", "does", "adapter", "fragments"),
    [
        (
            "bert",
            "classifies",
            LoraConfig("lora", 4, 8.0, 0.0, ("qery", "value")),
            ("adapter.targets=[qery, value]: qery names no", "Did you mean query?", "key, value"),
        ),
        (
            "gpt2",
            "writes",
            LoraConfig("lora", 4, 8.0, 0.0, ("lm_head",)),
            ("lm_head names no matrix of GPT2LMHeadModel outside", "c_attn"),
        ),
        (
            "bert",
            "classifies",
            Ia3Config("ia3", ("classifier",)),
            ("classifier names no matrix of BertForSequenceClassification outside its head",),
        ),
        (
            "llama",
            "writes",
            HeadConfig("head"),
            ("adapter.name=head: LlamaForCausalLM has no new head", "adapter=lora"),
        ),
        (
            "bert",
            "classifies",
            FreezeConfig("freeze", 3),
            ("adapter.trained_layers=3: expected at most 2, the layers of BertForSeq",),
        ),
        ("t5", "rewrites", FreezeConfig("freeze", 3), ("at most 2, the decoder layers of T5For",)),
    ],
)
def test_an_adapter_that_a_model_cannot_have_is_refused(family, does, adapter, fragments):
    model = make(family, does)
    with pytest.raises(ConfigError) as refusal:
        adapt(model, adapter, new_head(model))
    for fragment in fragments:
        assert fragment in str(refusal.value)
    assert all(p.requires_grad for p in model.parameters())  # as it was


@pytest.mark.parametrize(
    ("family", "does", "above", "beside"),
    [
        ("bert", "classifies", "bert.encoder.layer.1.", {"bert.pooler.dense", "classifier"}),
        ("deberta", "classifies", "deberta.encoder.layer.1.", {"pooler.dense", "classifier"}),
        (
            "modernbert",
            "classifies",
            "model.layers.1.",
            {"model.final_norm", "head.dense", "head.norm", "classifier"},
        ),
        ("gpt2", "classifies", "transformer.h.1.", {"transformer.ln_f", "score"}),
        ("llama", "writes", "model.layers.1.", {"model.norm"}),
        ("t5", "rewrites", "decoder.block.1.", {"decoder.final_layer_norm"}),
        (
            "t5",
            "classifies",
            "transformer.decoder.block.1.",
            {
                "transformer.decoder.final_layer_norm",
                "classification_head.dense",
                "classification_head.out_proj",
            },
        ),
        ("bart", "rewrites", "model.decoder.layers.1.", set()),
    ],
)
def test_freezing_leaves_top_layers_and_head_trained(family, does, above, beside):
    plain = make(family, does)
    model = adapt(plain, ADAPTERS["freeze"], new_head(plain))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    layer = {name for name, _ in model.named_parameters() if name.startswith(above)}
    assert layer <= trained
    assert {name.rsplit(".", 1)[0] for name in trained - layer} == beside


@pytest.mark.parametrize("found", [(), ("bitsandbytes",), ("cuda",)])
def test_qlora_names_its_missing_requirements(found, monkeypatch):
    adapter = LoraConfig("qlora", 4, 8.0, 0.0, None)
    monkeypatch.setattr(
        "pipeline.models.adapters.find_spec", lambda _: "bitsandbytes" in found or None
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: "cuda" in found)
    with pytest.raises(ConfigError, match=r"^adapter\.name=qlora: .* adapter=lora") as refusal:
        check_adapter(adapter)
    assert ("pip install bitsandbytes" in str(refusal.value)) == ("bitsandbytes" not in found)
    assert ("CUDA GPU" in str(refusal.value)) == ("cuda" not in found)
    check_adapter(LORA)


def test_qlora_loads_in_4_bits(monkeypatch):
    monkeypatch.setattr("transformers.BitsAndBytesConfig.post_init", lambda _: None)
    given = load_options(LoraConfig("qlora", 4, 8.0, 0.0, None))["quantization_config"]
    assert (given.load_in_4bit, given.bnb_4bit_quant_type) == (True, "nf4")
    assert given.bnb_4bit_use_double_quant
    assert given.bnb_4bit_compute_dtype == torch.bfloat16
    assert {"classifier", "score", "qa_outputs", "lm_head"} <= set(given.llm_int8_skip_modules)


def test_with_all_weights_trained_the_whole_state_is_kept():
    for family, does in MODELS:
        model = make(family, does)
        whole, kept = model.state_dict(), trained_state(model)
        assert list(kept) == list(whole)
        assert all(kept[name].data_ptr() == whole[name].data_ptr() for name in whole)
    norm = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert list(trained_state(norm)) == list(norm.state_dict())
    norm.requires_grad_(False)
    assert list(trained_state(norm)) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


@pytest.mark.parametrize(("family", "does", "adapter"), EVERY)
def test_state_holds_and_restores_only_trained_parameters(family, does, adapter):
    plain = make(family, does)
    model = adapt(plain, ADAPTERS[adapter], new_head(plain))
    if adapter == "lora":  # two matrices beside each target in each layer, and the head
        targets = {"bert": 2, "gpt2": 1, "llama": 2, "t5": 2 + 4 / 2}[family]
        attentions = 6 if family == "t5" else 2
        matrices = 2 * attentions * (2 if family == "t5" else targets)
        of_head = {"writes": 0, "rewrites": 0, "answers": 2}.get(does, 1 if family == "gpt2" else 2)
        assert len(trained_state(model)) == matrices + of_head
    evaluations = Evaluations(Objective("val/score", "maximize", "best"), patience=None)
    train(model, does)
    expected = outputs(model, does)
    evaluations.add(Evaluation(1, 0.0, {"score": 1.0}, None), model)
    train(model, does)
    evaluations.add(Evaluation(2, 0.0, {"score": 0.5}, None), model)
    assert not close(outputs(model, does), expected)
    evaluations.restore(model)
    assert all(torch.equal(a, b) for a, b in zip(outputs(model, does), expected, strict=True))
    size = sum(weight.numel() for weight in evaluations.weights.values())
    assert size < sum(p.numel() for p in model.parameters()) / 2


def test_a_state_of_another_adapter_is_refused():
    plain = make("bert", "classifies")
    lora = adapt(copy.deepcopy(plain), LORA, ("classifier",))
    dora = adapt(copy.deepcopy(plain), ADAPTERS["dora"], ("classifier",))
    with pytest.raises(RuntimeError, match="lora_magnitude_vector"):
        load_trained_state(dora, trained_state(lora))
    with pytest.raises(RuntimeError, match="lora_magnitude_vector"):
        load_trained_state(lora, trained_state(dora))
    wider = adapt(copy.deepcopy(plain), LoraConfig("lora", 6, 8.0, 0.0, None), ("classifier",))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_trained_state(lora, trained_state(wider))

    class Snapshot:
        step, weights = 3, trained_state(lora)

    check_fits(Snapshot, lora)
    with pytest.raises(TrackingError, match=r"step 3 is of a different model: .* has base_model"):
        check_fits(Snapshot, plain)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_does_not_reach_the_next_model_of_a_checkpoint(tiny_model, adapter):
    checkpoint = find_checkpoint(model_of(tiny_model))
    torch.manual_seed(0)
    plain = checkpoint.load(HEADS["classifies"])
    expected = copied(plain)
    model = adapt(plain, ADAPTERS[adapter], new_head(plain))
    train(model, "classifies")
    del plain
    merged(model)
    del model
    gc.collect()
    torch.manual_seed(0)
    again = checkpoint.load(HEADS["classifies"])
    assert all(torch.equal(p, expected[name]) for name, p in again.named_parameters())
    assert all(p.requires_grad for p in again.parameters())


def test_peft_s_file_names_the_task_and_the_head(tmp_path: Path):
    plain = make("distilbert", "classifies")
    save_adapter(adapt(plain, LORA, new_head(plain)), tmp_path, "acme/tiny")
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == "acme/tiny"
    assert said["task_type"] == "SEQ_CLS"
    assert {"classifier", "pre_classifier"} <= set(said["modules_to_save"])
    assert (said["r"], said["lora_alpha"], said["lora_dropout"]) == (4, 8.0, 0.1)


def test_an_adapted_model_still_reads_which_text_a_token_is_of():
    torch.manual_seed(0)
    model = hf.BertForQuestionAnswering(hf.BertConfig(**ENCODER))
    config = LoraConfig("lora", 2, 4.0, 0.0, ("query",))
    adapted = adapt(model, config, ("qa_outputs",)).eval()
    ids = torch.arange(8)[None]
    kinds = (torch.zeros_like(ids), torch.ones_like(ids))
    one, other = (adapted(input_ids=ids, token_type_ids=kind).start_logits for kind in kinds)
    assert not torch.allclose(one, other)
