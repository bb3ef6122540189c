"""Models: new ones from a config, tokenizers of their own, and refusals before weights are read."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from pipeline.common.errors import ConfigError, DataError, ModelError
from pipeline.common.session import session
from pipeline.config.flags import folders
from pipeline.config.model import ModelConfig
from pipeline.config.types import EmbeddedFile
from pipeline.models import find_checkpoint
from pipeline.models.digests import model_digests
from pipeline.models.families import can, families_with
from pipeline.models.weights import Weights
from tests.support.configs import model_of

MENU = folders("conf")[-1] / "model"
TEXTS = ["the film was very good", "a book so bad", "the day is fine and nice", "poor, sad"] * 4
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}


@pytest.fixture(scope="module")
def tokenizers_of(tmp_path_factory) -> dict[str, Path]:
    """Fast tokenizers as folders: WordPiece of a BERT, and BPE of a GPT without padding."""
    piece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    piece.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    piece.train_from_iterator(TEXTS, trainers.WordPieceTrainer(special_tokens=special))
    piece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    pair = Tokenizer(models.BPE())
    pair.pre_tokenizer = pre_tokenizers.ByteLevel()
    pair.decoder = decoders.ByteLevel()
    pair.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=["<|end|>"]))
    made = {
        "wordpiece": hf.PreTrainedTokenizerFast(
            tokenizer_object=piece, **{f"{key}_token": token for key, token in named.items()}
        ),
        "bpe": hf.PreTrainedTokenizerFast(
            tokenizer_object=pair, bos_token="<|end|>", eos_token="<|end|>"
        ),
    }
    root = tmp_path_factory.mktemp("tokenizers")
    for name, tokenizer in made.items():
        tokenizer.save_pretrained(root / name)
    return {name: root / name for name in made}


@pytest.fixture
def wordpiece(tokenizers_of) -> str:
    return str(tokenizers_of["wordpiece"])


@pytest.mark.parametrize("name", ["./nothere", "../nothere", "~/nothere", "a/b/c", "/nothere"])
def test_a_folder_that_is_not_there_is_refused_as_one(name):
    with pytest.raises(ModelError) as refusal:
        find_checkpoint(model_of(name))
    assert str(refusal.value).startswith(f"model.checkpoint={name}: there is no such folder")


def new(given: dict, tokenizer: str):
    return find_checkpoint(model_of(None, from_config=given, tokenizer=tokenizer))


def load(checkpoint, seed: int, labels=("neg", "pos", "none")):
    torch.manual_seed(seed)
    return checkpoint.load(
        hf.AutoModelForSequenceClassification,
        label2id={label: i for i, label in enumerate(labels)},
        num_labels=len(labels),  # which names the labels anew where it is set
        id2label=dict(enumerate(labels)),
        problem_type="single_label_classification",
    )


def test_a_new_model_is_drawn_by_the_seed_each_time(wordpiece, monkeypatch):
    monkeypatch.setattr(Weights, "load", None)  # no drawing is kept
    checkpoint = new(BERT, wordpiece)
    one, same, other = (load(checkpoint, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    matrix = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(one[matrix], other[matrix])
    assert one[matrix].data_ptr() != same[matrix].data_ptr()


def test_a_new_model_has_the_labels_and_is_plain(wordpiece):
    checkpoint = new({**BERT, "hidden_size": 24}, wordpiece)
    model = load(checkpoint, 0)
    assert model.config.id2label == {0: "neg", 1: "pos", 2: "none"}
    assert model.config.label2id["none"] == 2
    assert model.config.problem_type == "single_label_classification"
    assert (model.num_labels, model.config.hidden_size) == (3, 24)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert checkpoint.config.num_labels == 2  # one load leaves nothing to the next
    assert load(checkpoint, 0, ("a", "b")).num_labels == 2


def test_a_new_models_vocabulary_and_special_tokens_are_the_tokenizers(tokenizers_of):
    checkpoint = new(BERT, str(tokenizers_of["wordpiece"]))
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    assert config.vocab_size == len(tokenizer)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 3)
    assert new(T5, str(tokenizers_of["wordpiece"])).config.decoder_start_token_id == 0
    given = {**BERT, "vocab_size": 512, "pad_token_id": 1, "eos_token_id": None}
    config = new(given, str(tokenizers_of["wordpiece"])).config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (512, 1, None)
    bart = {
        "model_type": "bart",
        "d_model": 16,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    }
    config = new({**bart, "decoder_start_token_id": 4}, str(tokenizers_of["wordpiece"])).config
    assert (config.decoder_start_token_id, config.forced_eos_token_id) == (4, 3)


def test_an_end_that_pads_is_still_trained(tokenizers_of):
    checkpoint = new({**BERT, "model_type": "llama"}, str(tokenizers_of["bpe"]))
    assert checkpoint.tokenizer.pad_token == "<|end|>"
    torch.manual_seed(0)
    model = checkpoint.load(hf.AutoModelForCausalLM)
    assert model.model.embed_tokens.padding_idx is None  # whose gradient is none
    assert model.config.pad_token_id == model.config.eos_token_id == 0
    assert checkpoint.config.eos_token_id == 0  # and not Llama's own 2


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize("given", [T5, GPT2], ids=["t5", "gpt2"])
def test_a_new_model_trains_and_writes(tokenizers_of, kind, given):
    checkpoint = new(given, str(tokenizers_of[kind]))
    tokenizer = checkpoint.tokenizer
    torch.manual_seed(0)
    is_pair = given is T5
    model = checkpoint.load(hf.AutoModelForSeq2SeqLM if is_pair else hf.AutoModelForCausalLM)
    batch = dict(tokenizer(TEXTS[:2], padding=True, return_tensors="pt"))
    batch.pop("token_type_ids", None)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    model.eval()
    written = model.generate(**batch, max_new_tokens=5, do_sample=False)
    assert 1 < written.shape[1] <= (6 if is_pair else batch["input_ids"].shape[1] + 5)
    assert all(isinstance(text, str) for text in tokenizer.decode(written))
    model.save_pretrained("saved")
    again = type(model).from_pretrained("saved", dtype=torch.float32)
    assert torch.equal(again.generate(**batch, max_new_tokens=5, do_sample=False), written)


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ({"hidden_size": 16}, ("expected an architecture", "model_type=bert")),
        ({**BERT, "model_type": "berd"}, ("model.from_config.model_type=berd", "mean bert?")),
        ({**BERT, "hidden_sise": 16}, ("from_config.hidden_sise: a bert has", "mean hidden_size?")),
        ({**GPT2, "n_layers": 1}, ("n_layers: a gpt2 has no such key", "Did you mean n_layer?")),
        ({**BERT, "hidden_size": "big"}, ("build a bert with hidden_size='big': ", "expected int")),
        (
            {**BERT, "num_attention_heads": 3},
            ("cannot build a bert with hidden_size=16 and num_attention_heads=3: The hidden size",),
        ),
        ({**BERT, "hidden_size": 2**24}, ("its ", " parameters take ", " GiB of memory; expected")),
        ({**BERT, "num_hidden_layers": 10**6}, ("layers=1000000: expected at most 1,000.",)),
        ({**BERT, "vocab_size": 10}, ("from_config.vocab_size=10: expected at least the",)),
    ],
)
def test_a_config_that_makes_no_model_is_refused(wordpiece, given, fragments):
    with pytest.raises(ConfigError) as refusal:
        new(given, wordpiece)
    for fragment in fragments:
        assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_config_may_use_transformers_common_names(wordpiece):
    common = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert new({"model_type": "gpt2", **common}, wordpiece).config.n_embd == 16


def test_a_new_model_is_not_loaded_in_4_bits(wordpiece):
    with pytest.raises(ConfigError, match=r"adapter\.name=qlora: model\.from_config makes a new"):
        new(BERT, wordpiece).load(hf.AutoModel, quantization_config=object())


@pytest.mark.parametrize("name", ["./absent", "/no/such/folder", "owner/absent"])
def test_missing_tokenizer_is_refused(name):
    with pytest.raises(ModelError, match=rf"^model\.tokenizer={name}: "):
        new(BERT, name)


def test_a_folder_that_is_no_tokenizer_is_refused(working_folder):
    with pytest.raises(ModelError, match=r"model\.tokenizer=.*: there is no tokenizer"):
        new(BERT, str(working_folder))


def test_a_checkpoint_takes_another_tokenizer(tiny_model, tmp_path):
    own = find_checkpoint(model_of(tiny_model))
    folder = tmp_path / "other"
    own.tokenizer.save_pretrained(folder)
    saved = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**saved, "model_max_length": 9}))
    given = model_of(str(tiny_model), tokenizer=str(folder))
    other = find_checkpoint(given)
    assert (own.tokenizer.model_max_length, other.tokenizer.model_max_length) == (32, 9)
    assert other.location == own.location == str(tiny_model)
    one, two = model_digests(own), model_digests(other)
    assert {key for key in one if one[key] != two[key]} == {"tokenizer"}


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tiny_model, wordpiece):
    with pytest.raises(ModelError, match=rf"model\.tokenizer={wordpiece}: .* has ids up to \d+"):
        find_checkpoint(model_of(str(tiny_model), tokenizer=wordpiece))


def test_a_tokenizer_can_lie_in_a_package():
    file = EmbeddedFile(**OmegaConf.load(MENU / "minilm.yaml").checkpoint)
    checkpoint = find_checkpoint(model_of(None, from_config=BERT, tokenizer=file))
    assert checkpoint.config.vocab_size == len(checkpoint.tokenizer) == 30522
    broken = dataclasses.replace(file, sha256="0" * 64)
    with pytest.raises(DataError, match="its sha256 is"):
        find_checkpoint(model_of(None, from_config=BERT, tokenizer=broken))


def test_the_digests_of_a_new_model_say_so(tiny_model, tokenizers_of):
    folder = str(tokenizers_of["wordpiece"])
    one, other = (
        model_digests(new(given, folder)) for given in (BERT, {**BERT, "intermediate_size": 48})
    )
    assert (one["new"], one["weights"], one["commit"], one["name"]) == (True, None, None, "bert")
    assert {key for key in one if one[key] != other[key]} == {"config"}
    beside = model_digests(new(BERT, str(tiny_model)))
    assert beside["weights"] is None  # those beside the tokenizer are not the model's
    found = model_digests(find_checkpoint(model_of(tiny_model)))
    assert list(found) == ["name", "revision", "commit", "weights", "config", "tokenizer"]
    assert found["weights"]


def test_the_digests_of_a_hub_model_name_its_commit(tiny_model, working_folder, monkeypatch):
    cached, commit = working_folder / "hub" / "models--owner--tiny", "0123abcd" * 5
    shutil.copytree(tiny_model, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cached.parent))
    found = model_digests(find_checkpoint(model_of("owner/tiny")))
    own = model_digests(find_checkpoint(model_of(tiny_model)))
    assert (found["commit"], own["commit"]) == (commit, None)
    assert found["weights"] == own["weights"]


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (hf.BertConfig(), "SequenceClassification QuestionAnswering"),
        (hf.BertConfig(is_decoder=True), "SequenceClassification QuestionAnswering CausalLM"),
        (hf.ModernBertConfig(), "SequenceClassification QuestionAnswering"),
        (hf.GPT2Config(), "SequenceClassification QuestionAnswering CausalLM"),
        (hf.LlamaConfig(), "SequenceClassification QuestionAnswering CausalLM"),
        (hf.T5Config(), "SequenceClassification QuestionAnswering Seq2SeqLM"),
        (hf.BartConfig(), "SequenceClassification QuestionAnswering Seq2SeqLM"),
        (hf.MarianConfig(), "Seq2SeqLM"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_capabilities_follow_from_the_architecture(config, heads):
    every = ("SequenceClassification", "QuestionAnswering", "CausalLM", "Seq2SeqLM")
    found = [head for head in every if can(config, f"AutoModelFor{head}")]
    assert found == heads.split()


def test_capabilities_of_custom_code_follow_its_auto_map():
    config = hf.BertConfig(auto_map={"AutoModelForSeq2SeqLM": "code.Own"})
    assert can(config, "AutoModelForSeq2SeqLM")


@pytest.mark.parametrize(
    ("auto_class", "task", "fragments"),
    [
        (
            "AutoModelForSeq2SeqLM",
            "summarization",
            ("is a bert, which has no sequence-to-sequence language model.", "t5-small, tiny-t5."),
        ),
        ("AutoModelForCausalLM", "chat", ("which has no causal language model.", "gpt2, llama")),
    ],
)
def test_a_model_without_the_head_is_refused_before_it_is_read(
    tiny_model, wordpiece, auto_class, task, fragments, tmp_path
):
    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\xff" * 9)  # never read
    broken = find_checkpoint(model_of(tmp_path / "broken"))
    for checkpoint, place in (
        (broken, f"model.checkpoint={tmp_path / 'broken'}"),
        (new(BERT, wordpiece), "model.from_config"),
    ):
        checkpoint.check_head("AutoModelForSequenceClassification", task)
        with pytest.raises(ModelError) as refusal:
            checkpoint.check_head(auto_class, task)
        assert str(refusal.value).startswith(f"task={task}: {place} is a bert, which")
        for fragment in fragments:
            assert fragment in str(refusal.value)
        for build in (checkpoint.load, checkpoint.outline):
            with pytest.raises(ModelError, match=f"^{place} is a bert, which has no "):
                build(getattr(hf, auto_class))


def test_a_pad_token_of_minus_one_is_none(tokenizers_of, tmp_path):
    copy = shutil.copytree(tokenizers_of["bpe"], tmp_path / "copy")
    llama = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8}
    few = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    new({**llama, **few}, str(copy)).load(hf.AutoModelForCausalLM).save_pretrained(copy)
    for name in ("config.json", "generation_config.json"):
        given = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**given, "pad_token_id": -1}))
    checkpoint = find_checkpoint(model_of(copy))
    for build in (checkpoint.load, checkpoint.outline):
        model = build(hf.AutoModelForCausalLM)
        assert model.config.pad_token_id == checkpoint.tokenizer.pad_token_id
        assert model.generation_config.pad_token_id in (None, model.config.pad_token_id)
        assert model.get_input_embeddings().padding_idx is None


def test_parameters_are_counted_in_the_file_of_weights_alone(tiny_model, tmp_path):
    stored = hf.AutoModel.from_pretrained(tiny_model)
    shutil.copytree(tiny_model, tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    shutil.copy(file, tmp_path / "copy" / "other.safetensors")
    copy = find_checkpoint(model_of(tmp_path / "copy"))
    assert copy.count_stored() == stored.num_parameters()
    file.write_bytes(b"\xff" * 9)
    with pytest.raises(ModelError, match=r"model\.checkpoint=.*copy: "):
        copy.count_stored()
    file.unlink()
    assert copy.count_stored() is None


def with_limits(given: dict, tokenizer: str, limit: int):
    checkpoint = new(given, tokenizer)
    checkpoint.tokenizer.model_max_length = limit
    return checkpoint


@pytest.mark.parametrize(
    ("given", "limit", "longest"),
    [
        (BERT, 10**30, 32),
        (BERT, 20, 20),
        ({**BERT, "model_type": "roberta", "pad_token_id": 1}, 10**30, 30),
        (GPT2, 10**30, 32),  # which calls it otherwise
        (T5, 10**30, None),
        (T5, 512, None),  # it was trained with so many, but reads more
    ],
)
def test_texts_are_as_long_as_the_model_has_positions(wordpiece, given, limit, longest):
    session().clear()
    checkpoint = with_limits(given, wordpiece, limit)
    checkpoint.check_length(longest or 100_000)
    if longest is not None:
        with pytest.raises(ConfigError, match=rf"max_length={longest + 1}: .* most {longest} tok"):
            checkpoint.check_length(longest + 1)


FILES = {path.stem: OmegaConf.load(path) for path in sorted(MENU.glob("*.yaml"))}


@pytest.mark.parametrize("name", FILES)
def test_every_model_of_the_menu_lists_every_key(name):
    keys = [field.name for field in dataclasses.fields(ModelConfig)]
    assert [key for key in FILES[name] if key != "architecture"] == keys
    first = (MENU / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".") or name in ("hub", "scratch")


def test_models_that_can_are_named_from_the_menu_and_own_files(working_folder, caplog):
    own = working_folder / "conf" / "model" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [hub]\ncheckpoint: me/mine\narchitecture: pegasus\n")
    own.with_name("typo.yaml").write_text("defaults: [hub]\narchitecture: pegasuss\n")
    session().clear()
    try:
        found = families_with("AutoModelForSeq2SeqLM")
        own.write_text("checkpoint: [\n")
        session().clear()
        with pytest.raises(ConfigError, match=r"mine\.yaml, line 2: "):
            families_with("AutoModelForSeq2SeqLM")
    finally:
        session().clear()
    assert "typo.yaml: architecture=pegasuss: transformers has no such" in caplog.text
    assert found == (
        "bart-base",
        "flan-t5-small",
        "marian-en-de",
        "mine",
        "mt5-small",
        "t5-small",
        "tiny-t5",
    )


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("tiny-")])
def test_a_tiny_model_of_the_menu_has_a_million_parameters(name, wordpiece):
    given = OmegaConf.to_container(OmegaConf.merge(FILES[name], {"tokenizer": wordpiece}))
    checkpoint = find_checkpoint(model_of(**given))
    model = checkpoint.load(hf.AutoModel)
    embeddings = {id(p) for n, p in model.named_parameters() if "embed" in n or "shared" in n}
    embeddings |= {id(p) for n, p in model.named_parameters() if n in ("wte.weight", "wpe.weight")}
    count = sum(p.numel() for p in model.parameters() if id(p) not in embeddings)
    assert 0.85e6 < count < 1.15e6
    checkpoint.check_length(512)
