"""A model that is broken in one way is refused before a run is recorded, and the fault is named."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from pipeline.analysis.preflight import check_inputs
from pipeline.common.errors import ModelError
from pipeline.models.checkpoint import read_checkpoint
from tests.support.broken import (
    MATRIX,
    a_folder,
    config,
    cut,
    each,
    edited,
    encoded,
    filled,
    generation,
    index,
    tensors,
    tokenizer,
    vocabulary_alone,
    written,
)
from tests.support.configs import model_of
from tests.support.experiments import experiment
from tests.support.refusals import refused

NAN, INF = float("nan"), float("inf")
PAD, ZERO = "config.json: pad_token_id={} is outside", torch.zeros_like
ALIKE = "have one value throughout"
NO_JSON = "it cannot be read as JSON"


def with_token(special: bool):
    """Add a token that the model has no embedding of."""

    def add(found):
        token = found["added_tokens"][0]
        found["added_tokens"].append({**token, "id": 24, "content": "<x>", "special": special})

    return edited("tokenizer.json", add)


def head(**parameters):
    """Add a trained head of two labels."""
    named = {f"classifier.{name}": tensor for name, tensor in parameters.items()}
    return tensors(lambda t: {**t, **named})


BROKEN = {
    "all renamed": (tensors(lambda t: {f"x.{n}": v for n, v in t.items()}), "lack bert."),
    "one missing": (tensors(lambda t: {n: v for n, v in t.items() if n != MATRIX}), MATRIX),
    "one renamed": (tensors(lambda t: {n.replace(MATRIX, "x"): v for n, v in t.items()}), MATRIX),
    "no tensors": (tensors(lambda _: {}), "lack bert."),
    "transposed": (each(lambda matrix: matrix.T), MATRIX),
    "flattened": (each(torch.flatten), MATRIX),
    "scalar": (each(torch.sum), MATRIX),
    "int8": (each(lambda matrix: matrix.to(torch.int8)), MATRIX),
    "int64": (each(lambda matrix: matrix.to(torch.int64)), MATRIX),
    "bool": (each(lambda matrix: matrix > 0), MATRIX),
    "float8": (each(lambda matrix: matrix.to(torch.float8_e4m3fn)), f"{MATRIX} (F8_E4M3)"),
    "NaN": (filled(float("nan")), MATRIX),
    "infinite": (filled(float("inf")), MATRIX),
    "minus infinite": (filled(float("-inf")), MATRIX),
    "all zero": (each(ZERO, ""), f"{ALIKE}: bert.embeddings"),
    "zero words": (each(ZERO, "word_embeddings"), f"{ALIKE}: bert.embeddings.word_embeddings"),
    "zero layer": (each(ZERO, "layer.0"), f"{ALIKE}: bert.encoder.layer.0"),
    "all alike": (each(lambda tensor: torch.full_like(tensor, 0.02), ""), f"{ALIKE}: bert."),
    "adapter's tensors": (
        tensors(lambda t: {**t, "base_model.model.x.lora_A.weight": torch.ones(2, 2)}),
        "does not: base_model.model.x.lora_A.weight; expected",
    ),
    "two values": (
        tensors(lambda t: {**t, f"bert.{MATRIX}": t[MATRIX] + 1}),
        f"bert.{MATRIX} in model.safetensors and {MATRIX} in model.safetensors differ",
    ),
    "half a head": (head(weight=torch.rand(2, 16)), "lack classifier.bias; expected"),
    "misshapen head": (
        head(weight=torch.rand(2, 9), bias=torch.rand(2)),
        "classifier.weight ([2, 9] instead of [2, 16])",
    ),
    "more layers": (config(num_hidden_layers=9), "lack bert.encoder.layer."),
    "fewer layers": (config(num_hidden_layers=0), "encoder.layer.0."),
    "wider layers": (config(intermediate_size=96), "intermediate.dense"),
    "wider model": (config(hidden_size=48, num_attention_heads=2), "bert.embeddings"),
    "larger vocabulary": (config(vocab_size=5000), "word_embeddings"),
    "fewer positions": (config(max_position_embeddings=40), "position_embeddings"),
    "weights empty": (written("model.safetensors", "x"), "model.safetensors: it is no safe"),
    "weights cut": (cut("model.safetensors"), "model.safetensors: it is no safetensors file, or"),
    "another architecture": (
        config(model_type="distilbert", architectures=None),
        "model.safetensors: its weights lack distilbert.",
    ),
    "another type": (config(model_type="roberta"), "model_type='roberta', but architectures"),
    "another class": (config(architectures=["RobertaModel"]), "RobertaModel, which is a roberta"),
    "classes as numbers": (config(architectures=[3]), "json: architectures=[3] is no list of na"),
    "unknown type": (config(model_type="bret"), "config.json: model_type='bret': transformers has"),
    "no type": (edited("config.json", lambda found: found.pop("model_type")), "no model_type"),
    "heads that do not divide": (config(num_attention_heads=7), "bert with num_attention_heads=7:"),
    "no heads": (config(num_attention_heads=0), "config.json: cannot build a bert with num_attent"),
    "no width": (config(hidden_size=0), "config.json: cannot build a bert with hidden_size=0: "),
    "hidden size as text": (config(hidden_size="wide"), "hidden_size='wide': Field 'hidden_size'"),
    "negative hidden size": (config(hidden_size=-4), "with hidden_size=-4: "),
    "no layers": (config(num_hidden_layers=None), "with num_hidden_layers=None: "),
    "unknown activation": (config(hidden_act="zelu"), "bert with hidden_act='zelu': KeyError"),
    "unknown dtype": (config(dtype="float33"), "config.json: cannot build a bert with dtype='fl"),
    "dtype of integers": (config(dtype="int8"), "config.json: dtype=torch.int8 is no type of"),
    "list of labels": (config(id2label=["a", "b"]), "bert with id2label=['a', 'b']: "),
    "pad token outside": (config(pad_token_id=99999), PAD.format(99999)),
    "negative pad token": (config(pad_token_id=-2), PAD.format(-2)),
    "negative heads": (config(num_attention_heads=-2), "a bert with num_attention_heads=-2: "),
    "chunks too long": (config(chunk_size_feed_forward=7), "bert with chunk_size_feed_forward=7: "),
    "key of no config": (config(use_return_dict=False), "bert with use_return_dict=False: "),
    "NaN in config": (config(a=[{"b": NAN}]), "config.json: a[0].b=nan is no finite number"),
    "infinity in config": (config(layer_norm_eps=-INF), "config.json: layer_norm_eps=-inf is no f"),
    "float too large": (
        written("config.json", '{"layer_norm_eps": 1e999}'),
        "config.json: layer_norm_eps=inf is no finite number",
    ),
    "infinity in settings": (generation(temperature=INF), "config.json: temperature=inf is no fi"),
    "byte order mark": (encoded("config.json", "utf-8-sig"), "json: its encoding is utf-8-sig; e"),
    "config in UTF-16": (encoded("config.json", "utf-16"), "config.json: its encoding is utf-16"),
    "end token a text": (generation(eos_token_id="x"), "generation_config.json: eos_token_id='x' "),
    "end token outside": (generation(eos_token_id=[3, 99]), "eos_token_id=[3, 99] is outside"),
    "no pad token": (generation(pad_token_id=-3), "generation_config.json: pad_token_id=-3 is"),
    "forced token": (generation(forced_eos_token_id=-1), "forced_eos_token_id=-1 is outside"),
    "bad word empty": (generation(bad_words_ids=[[]]), "json: bad_words_ids=[[]] is outside"),
    "length a text": (generation(max_new_tokens="x"), "config.json: max_new_tokens='x' is of "),
    "no beams": (generation(num_return_sequences=3), "json: num_return_sequences=3 cannot be: G"),
    "index of paths": (
        index(lambda found: found["weight_map"].update(x="../part.safetensors")),
        "index.json: x: '../part.safetensors' is no file of the folder",
    ),
    "index of numbers": (index(lambda found: found["weight_map"].update(x=3)), "x: 3 is no file"),
    "index of nothing": (index(lambda found: found["weight_map"].clear()), "names no tensors"),
    "index of a list": (index(lambda found: found.update(weight_map=[])), "no object weight_map"),
    "index without metadata": (index(lambda found: found.pop("metadata")), "no object metadata"),
    "weights a folder": (a_folder("model.safetensors"), "index.json, found config.json"),
    "config no JSON": (written("config.json", "{"), f"config.json: {NO_JSON}"),
    "config a list": (written("config.json", "[]"), "config.json: it holds a JSON list"),
    "settings no JSON": (written("generation_config.json", "{"), f"config.json: {NO_JSON}"),
    "tokenizer config no JSON": (
        written("tokenizer_config.json", "{"),
        f"tokenizer_config.json: {NO_JSON}",
    ),
    "tokenizer config a list": (
        written("tokenizer_config.json", "[]"),
        "tokenizer_config.json: it holds a JSON list",
    ),
    "tokenizer cut": (cut("tokenizer.json"), f"tokenizer.json: {NO_JSON}"),
    "tokenizer empty": (written("tokenizer.json", "{}"), "tokenizer.json, tokenizer_config.json: "),
    "vocabulary empty": (vocabulary_alone(""), "vocab.txt, tokenizer_config.json: the tokenizer"),
    "length as text": (tokenizer(model_max_length="x"), "config.json: model_max_length='x' is no"),
    "negative length": (tokenizer(model_max_length=-3), "config.json: model_max_length=-3 is no"),
    "pad token a number": (tokenizer(pad_token=3), "tokenizer_config.json: Special token pad_tok"),
    "pad token unknown": (tokenizer(pad_token="[NOPE]"), "ids up to 24 ('[NOPE]')"),
    "token id too large": (
        edited("tokenizer.json", lambda found: found["model"]["vocab"].update(good=5000)),
        "ids up to 5000 ('good')",
    ),
    "unknown token unknown": (
        edited("tokenizer.json", lambda found: found["model"]["vocab"].pop("[UNK]")),
        "tokenizer.json, tokenizer_config.json: ",
    ),
    "special tokens of one id": (
        edited("tokenizer.json", lambda found: found["model"]["vocab"].update({"[PAD]": 1})),
        "pad_token='[PAD]' has the same id as '[UNK]': 1",
    ),
    "adapter's weights alone": (written("adapter_model.safetensors", ""), "PEFT adapter"),
    "added token": (with_token(special=False), "ids up to 24 ('<x>')"),
    "adapter": (written("adapter_config.json", "{}"), "PEFT adapter"),
}  # fmt: skip
SOUND = {
    "token types zero": each(ZERO, "token_type"),
    "one matrix zero": each(ZERO),
    "biases zero": each(ZERO, "bias"),
    "special token without embedding": with_token(special=True),
    "weights with an index": index(lambda _: None),
    "limit without end": config(time_step_limit=[0.0, INF]),
    "settings of another end": generation(eos_token_id=[3, 1], pad_token_id=-1, top_k=None),
    "template of an encoder": tokenizer(chat_template="{% if %}"),
    "unknown class of a whole tokenizer": tokenizer(tokenizer_class="OldTokenizer"),
}


@pytest.fixture
def broken(tiny_model, working_folder) -> Path:
    return shutil.copytree(tiny_model, working_folder / "broken")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_model_is_refused(tiny, broken, name):
    change, fault = BROKEN[name]
    change(broken)
    with pytest.raises(ModelError) as refusal:
        check_inputs(experiment(tiny, "model.checkpoint=./broken"))
    said = str(refusal.value)
    assert said.startswith("model.checkpoint=./broken: ")
    assert fault in said
    assert "\n" not in said
    assert said.count("model.checkpoint") == 1


@pytest.mark.parametrize("name", ["NaN", "weights cut", "no heads", "vocabulary empty"])
def test_refusal_of_broken_model_leaves_no_run(cli, tiny, broken, name):
    change, fault = BROKEN[name]
    change(broken)
    refused(cli("train", *tiny, "model.checkpoint=./broken"), "model.checkpoint=./broken: ", fault)


@pytest.mark.parametrize("name", SOUND)
def test_odd_but_sound_model_is_accepted(tiny, broken, name):
    SOUND[name](broken)
    check_inputs(experiment(tiny, "model.checkpoint=./broken"))


def test_what_a_model_returns_is_not_that_of_its_config(broken):
    config(output_attentions=True, output_hidden_states=True, return_dict=False)(broken)
    checkpoint = read_checkpoint(model_of(broken))
    for make in (checkpoint.load, checkpoint.outline):
        own = make(transformers.AutoModelForSequenceClassification).config
        assert (own.output_attentions, own.output_hidden_states, own.return_dict) == (0, 0, 1)


def test_settings_of_sampling_without_sampling_can_be_saved(decoder, working_folder):
    folder = shutil.copytree(decoder, working_folder / "samples")
    generation(temperature=0.9, top_p=0.6)(folder)
    model = read_checkpoint(model_of(folder)).load(transformers.AutoModelForCausalLM)
    model.save_pretrained(working_folder / "saved")
    assert (model.generation_config.do_sample, model.generation_config.top_p) == (True, 0.6)


def test_masks_that_older_releases_saved_are_no_weights(tmp_path):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    from pipeline.models.loaded import check_floats, check_loaded
    from pipeline.models.source import Source

    sizes = {"hidden_size": 8, "num_heads": 2, "num_layers": 1, "vocab_size": 9}
    small = GPTNeoConfig(**sizes, attention_types=[[["global"], 1]], max_position_embeddings=8)
    GPTNeoForCausalLM(small).save_pretrained(tmp_path)
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    tensors(lambda whole: {**whole, "transformer.h.0.attn.attention.bias": mask})(tmp_path)
    check_floats(Source("model.checkpoint", "old", str(tmp_path)))
    model, found = GPTNeoForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    check_loaded(model, found, "model.checkpoint=old", writes=True)


def test_model_without_embedding_of_tokens_is_accepted():
    from transformers import CanineConfig, CanineModel

    from pipeline.models.loaded import check_loaded

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    small = CanineConfig(**sizes, intermediate_size=8, num_hash_buckets=8)
    found = dict.fromkeys(("missing_keys", "mismatched_keys", "unexpected_keys"), ())
    check_loaded(CanineModel(small), found, "model.checkpoint=canine", writes=False)
