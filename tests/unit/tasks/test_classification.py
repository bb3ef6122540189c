"""Classification as tokens and losses: pairs, windows, several labels, prompts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.common.errors import DataError, ModelError
from pipeline.data import Rows
from pipeline.tasks.parts.labelled import Labelled
from tests.support import word_models as models
from tests.support.classifiers import WORDS
from tests.support.configs import columns_for
from tests.support.rows import BAD, GOOD, labelled, tiny_task

PAIRS = columns_for("classification", text_pair="second")


@pytest.fixture(scope="module", params=["llama", "gpt2", "t5"])
def writer(request, models_folder):
    path = models_folder / request.param
    if request.param == "t5":
        return models.encoder_decoder(path, WORDS)
    return models.decoder(path, WORDS, request.param, spread=0.2)


def pairs_of(*texts: tuple[str, str]) -> Rows:
    first, second = zip(*texts, strict=True)
    columns = {"text": first, "text_pair": second, "label": ["neg", "pos"] * (len(texts) // 2)}
    return Rows(Labelled(PAIRS), [f"f:{i}" for i in range(len(texts))], columns)


def test_a_pair_is_read_as_two_texts_and_the_longer_one_is_cut(encoder):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, max_length=8)
    found = task.encode(pairs_of(("good", "bad sad"), ("good " * 9, "bad sad")))
    assert found.dataset["token_type_ids"][:] == [[0, 0, 0, 1, 1, 1], [0] * 5 + [1] * 3]
    decode = task.checkpoint.tokenizer.decode
    assert [decode(ids) for ids in found.dataset["input_ids"]] == [
        "[CLS] good [SEP] bad sad [SEP]",
        "[CLS] good good good [SEP] bad sad [SEP]",
    ]
    assert found.truncated == 1
    (other,) = task.encode(pairs_of(("bad", "good"), ("sad", "good " * 9))).dataset["input_ids"][1:]
    assert decode(other) == "[CLS] sad [SEP] good good good good [SEP]"


def test_long_pairs_are_not_combined_with_all_that_is_cut_off(encoder, monkeypatch):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, max_length=8, long_rows="error")
    made = []
    plain = type(task.checkpoint.tokenizer).__call__

    def called(*args, **options):
        made.append(plain(*args, **options))
        return made[-1]

    monkeypatch.setattr(type(task.checkpoint.tokenizer), "__call__", called)
    with pytest.raises(DataError, match=r"row f:0: 603 tokens, and 2 of 2 rows"):
        task.encode(pairs_of(("good " * 300, "bad " * 300), ("good " * 300, "sad")))
    parts = [len(one.overflowing) for encoded in made for one in encoded.encodings or ()]
    assert max(parts) <= 300 // 8  # of 8 tokens each, of a text; not 100 * 150 of a pair


def test_windows_of_a_pair_each_see_the_whole_second_text(encoder):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, 9, long_rows="window", stride=1)
    texts = (("good great fine nice lovely the a", "bad sad"), ("good", "bad"))
    found = task.encode(pairs_of(*texts))
    assert [task.checkpoint.tokenizer.decode(ids) for ids in found.dataset["input_ids"]] == [
        "[CLS] good great fine nice [SEP] bad sad [SEP]",
        "[CLS] nice lovely the a [SEP] bad sad [SEP]",
        "[CLS] good [SEP] bad [SEP]",
    ]
    assert (found.row, found.truncated, found.dataset["labels"][:]) == ([0, 0, 1], 1, [0, 0, 1])


def test_a_second_text_without_room_is_refused_in_training_and_cut_elsewhere(encoder):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, 9, long_rows="window", stride=1)
    pair = pairs_of(("good", "bad"), ("good fine nice a the", "bad sad poor"))
    with pytest.raises(DataError, match=r"row f:1: its second text has 3 tokens .* at least 4"):
        task.encode(pair, training=True)
    found = task.encode(pair)
    assert [task.checkpoint.tokenizer.decode(ids) for ids in found.dataset["input_ids"]] == [
        "[CLS] good [SEP] bad [SEP]",
        "[CLS] good fine nice a [SEP] bad sad [SEP]",
        "[CLS] a the [SEP] bad sad [SEP]",
    ]
    assert (found.row, found.truncated) == ([0, 1, 1], 1)


def test_the_windows_of_a_pair_do_not_depend_on_other_rows(encoder):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, 14, long_rows="window", stride=5)
    firsts = ("good bad the a " * 5, "bad nice a the day " * 4, "fine", "a the sad " * 6)
    seconds = ("bad " * 7, "sad", "poor", "bad " * 3)
    together = task.encode(pairs_of(*zip(firsts, seconds, strict=True)))
    assert together.row == sorted(together.row)
    for i, pair in enumerate(zip(firsts, seconds, strict=True)):
        alone = task.encode(pairs_of(pair, pair)).dataset.filter(lambda one: one["row"] == 0)
        among = together.dataset.filter(lambda one, i=i: one["row"] == i)
        assert among["input_ids"][:] == alone["input_ids"][:]
    (first, second, *_) = (
        task.checkpoint.tokenizer.decode(i) for i in together.dataset["input_ids"]
    )
    # Of a window of 4 tokens 2 are shared, whatever the second row's 5 of 10.
    assert first == "[CLS] good bad the a [SEP]" + " bad" * 7 + " [SEP]"
    assert second == "[CLS] the a good bad [SEP]" + " bad" * 7 + " [SEP]"


def test_model_with_one_token_type_gets_no_type_ids(decoder):
    task = tiny_task(decoder, {"neg": 1, "pos": 1})
    assert "token_type_ids" not in task.encode(pairs_of(("a", "b"), ("b", "a"))).dataset.features


def test_predictions_of_several_labels_are_their_names_and_the_share_of_each(encoder):
    task = tiny_task(encoder, {"a": 1, "b": 1, "c": 1}, multi_label=True)
    columns = {"text": ["good", "bad"], "label": [("a", "c"), ()]}
    shape = Labelled(columns_for("classification"), many=True)
    examples = task.encode(Rows(shape, ["1", "2"], columns))
    assert examples.dataset["labels"][:] == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    logits = torch.tensor([[9.0, -9.0, 9.0], [-9.0, 0.1, -9.0]]).numpy()
    decoded = task.decode(examples, {"logits": logits})
    assert decoded["prediction"] == [("a", "c"), ("b",)]
    assert decoded["correct"] == [True, False]
    assert decoded["probability"][1]["b"] == pytest.approx(0.524979)


def loss_of(task, logits: torch.Tensor, targets: torch.Tensor, *, training: bool) -> float:
    """Return a batch's loss, as training and evaluation reckon it."""
    model = torch.nn.Linear(1, 1).train(training)
    task.logits = lambda *_: logits
    outputs = task.forward(model, {"labels": targets})
    return float(outputs["loss"].sum() / outputs["weight"].sum())


@pytest.mark.parametrize(
    ("settings", "weights", "smoothing"),
    [
        ({}, [1.0, 1.0, 1.0], 0.0),
        ({"class_weights": "balanced"}, [20 / 30, 20 / 20, 20 / 10], 0.0),
        ({"class_weights": (1.0, 5.0, 0.5)}, [1.0, 5.0, 0.5], 0.0),
        ({"label_smoothing": 0.2}, [1.0, 1.0, 1.0], 0.2),
        ({"label_smoothing": 0.2, "class_weights": (1.0, 5.0, 0.5)}, [1.0, 5.0, 0.5], 0.2),
    ],
)
def test_the_loss_is_torchs_own_and_that_of_an_evaluation_is_plain(
    encoder, settings, weights, smoothing
):
    task = tiny_task(encoder, {"a": 30, "b": 20, "c": 10}, **settings)
    logits, targets = torch.randn(7, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0])
    own = torch.nn.functional.cross_entropy
    expected = own(logits, targets, torch.tensor(weights), label_smoothing=smoothing)
    assert loss_of(task, logits, targets, training=True) == pytest.approx(float(expected))
    plain = float(own(logits, targets))
    assert loss_of(task, logits, targets, training=False) == pytest.approx(plain)


def test_of_several_labels_a_weight_counts_where_the_label_is(encoder):
    task = tiny_task(encoder, {"a": 30, "b": 10}, multi_label=True, class_weights=(0.5, 3.0))
    logits, targets = torch.randn(5, 2), torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0], [1, 0]])
    own = torch.nn.functional.binary_cross_entropy_with_logits
    expected = own(logits, targets, pos_weight=torch.tensor([0.5, 3.0]))
    assert loss_of(task, logits, targets, training=True) == pytest.approx(float(expected))
    plain = float(own(logits, targets))
    assert loss_of(task, logits, targets, training=False) == pytest.approx(plain)


def test_the_windows_of_a_row_are_averaged_to_one_prediction(encoder):
    task = tiny_task(encoder, {"neg": 1, "pos": 1}, 8, long_rows="window", stride=2)
    examples = task.encode(labelled([("good " * 10, "pos"), ("bad", "neg")]))
    assert examples.row == [0, 0, 1]
    logits = torch.tensor([[4.0, 0.0], [-8.0, 0.0], [1.0, 0.0]]).numpy()
    decoded = task.decode(examples, {"logits": logits})
    assert decoded["prediction"] == ["pos", "neg"]
    assert decoded["probability"][0] == pytest.approx(1 / (1 + 2.718281828**-2), abs=1e-6)


def test_a_tokenizer_in_python_cuts_and_counts_but_makes_no_windows(encoder):
    from transformers import CanineTokenizer

    task = tiny_task(encoder, {"neg": 1, "pos": 1}, 8)
    task.checkpoint = replace(task.checkpoint, tokenizer=CanineTokenizer())
    found = task.encode(labelled([("good day", "pos"), ("bad", "neg")]))
    assert [len(ids) for ids in found.dataset["input_ids"]] == [8, 5]
    assert found.truncated == 1
    task.config = replace(task.config, long_rows="window")
    with pytest.raises(ModelError, match=r"long_rows=window: .* makes no windows"):
        task.check()


def test_texts_spell_out_no_special_tokens(encoder):
    for policy in ("truncate", "window"):
        task = tiny_task(encoder, {"neg": 1, "pos": 1}, 16, long_rows=policy)
        found = task.encode(pairs_of(("good [SEP] bad", "sad"), ("a", "[CLS] [SEP] nice " * 9)))
        special = [3]  # [SEP]
        assert [sum(i in special for i in ids) for ids in found.dataset["input_ids"]] == [2, 2]
        assert [ids.count(2) for ids in found.dataset["input_ids"]] == [1, 1]


def pieces(folder: Path) -> Path:
    """A T5 whose vocabulary of pieces has its special tokens among them, as T5's own has."""
    from transformers import T5Tokenizer

    models.encoder_decoder(folder, WORDS)
    made = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    words = [(f"▁{word}", -3.0) for word in (*GOOD, *BAD)]
    T5Tokenizer(vocab=[*made, *words], extra_ids=0).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 1}))
    return folder


@pytest.mark.parametrize("policy", ["truncate", "window"])
def test_end_token_in_a_text_does_not_end_t5_input(models_folder, policy):
    task = tiny_task(pieces(models_folder / "pieces"), {"neg": 1, "pos": 1}, 8, long_rows=policy)
    model = task.load_model().eval()
    texts = ["good </s> bad", "good", "bad </s> " * 9]
    examples = task.encode(labelled([(text, "neg") for text in texts]))
    assert [ids.count(1) for ids in examples.dataset["input_ids"]] == [1] * len(examples.row)
    assert 2 in examples.dataset["input_ids"][0]  # unknown
    together, alone = (task.infer(model, examples, size)["logits"] for size in (8, 1))
    assert together == pytest.approx(alone, abs=1e-5)
    options = {"approach": "generative", "long_rows": "truncate"}
    asked = replace(task.config, **options)
    generating = type(task).variant(asked)(asked, task.checkpoint, 24, task.targets)
    found = generating.encode(labelled([(text, "neg") for text in texts]))
    assert [ids.count(1) for ids in found.dataset["input_ids"]] == [1, 1, 1]


def test_special_tokens_of_a_prompt_are_read_and_those_of_a_text_by_themselves_are_not(decoder):
    end = 4  # </s>
    plain = generative(decoder, ("neg", "pos"))
    (ids,) = plain.encode(labelled([("good </s> bad", "neg")])).dataset["input_ids"]
    assert end not in ids
    special = generative(decoder, ("neg", "pos"), prompt="{text} </s> label :")
    (ids,) = special.encode(labelled([("good bad", "neg")])).dataset["input_ids"]
    assert ids.count(end) == 1


def brute_force(task, model, prompt: list[int]) -> torch.Tensor:
    """Return each label's probability, with a forward pass for each prefix of a label."""
    tokenizer = task.checkpoint.tokenizer
    names = [[*tokenizer(label)["input_ids"], tokenizer.eos_token_id] for label in task.labels]
    found = []
    for name in names:
        total = 0.0
        for i, token in enumerate(name):
            nexts = sorted(
                {other[i] for other in names if other[:i] == name[:i] and len(other) > i}
            )
            if task.checkpoint.config.is_encoder_decoder:
                begun = torch.tensor([[0, *name[:i]]])
                logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits
            else:
                logits = model(input_ids=torch.tensor([[*prompt, *name[:i]]])).logits
            total += float(logits[0, -1, nexts].log_softmax(-1)[nexts.index(token)])
        found.append(total)
    return torch.tensor(found).exp()


def generative(model: Path, labels=("no", "no way", "yes sir", "yes sir no"), **settings):
    counts = dict.fromkeys(labels, 3)
    length = settings.pop("max_length", 32)
    task = tiny_task(model, counts, length, approach="generative", **settings)
    task.check()
    return task


TEXTS = ["good", "the film was so bad and very sad", "nice a a day", "bad " * 12]


def test_probabilities_are_the_models_own_and_padding_has_no_part_in_them(writer):
    task = generative(writer)
    model = task.load_model().eval()
    examples = task.encode(labelled([(text, "no") for text in TEXTS]))
    with torch.no_grad():
        expected = torch.stack(
            [brute_force(task, model, ids) for ids in examples.dataset["input_ids"]]
        )
    for batch_size in (1, 3, 4):
        outputs = task.infer(model, examples, batch_size)
        found = torch.tensor(outputs["logits"]).exp()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(expected.sum(dim=1), torch.ones(4))
    assert expected.std(dim=0).max() > 1e-3  # else the texts would have no part in it


def test_padding_has_no_part_under_an_adapter(models_folder):
    import peft

    task = generative(models.decoder(models_folder / "adapted", WORDS, "gpt2", spread=0.2))
    model = peft.get_peft_model(
        task.load_model(), peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM")
    ).eval()
    examples = task.encode(labelled([(text, "no") for text in TEXTS]))
    alone, together = (task.infer(model, examples, size)["logits"] for size in (1, 4))
    assert together == pytest.approx(alone, abs=1e-5)


def test_labels_with_distinct_first_tokens_take_one_pass(decoder):
    assert generative(decoder, ("neg", "pos", "rare"))._paths == [()]
    with pytest.raises(ModelError, match="identically"):
        generative(decoder, ("unknown", "unheard"))


def test_the_prompt_is_filled_once_and_its_end_is_kept(decoder):
    prompt = "{labels} : {text} . {text_pair} label :"
    task = generative(decoder, ("neg", "pos"), prompt=prompt, max_length=18)
    texts = (("good {text_pair}", "bad {text}"), ("good bad sad " * 9, "nice"))
    examples = task.encode(pairs_of(*texts))
    filled, cut = examples.dataset["input_ids"]
    decode = task.checkpoint.tokenizer.decode
    brace = "{ [UNK] }"  # a text's own
    assert decode(filled) == f"neg [UNK] pos : good {brace} . bad {brace} label :"
    assert len(cut) == 16  # and two for the longest label
    assert decode(cut) == "neg [UNK] pos : good bad sad good bad sad good bad . nice label :"
    assert examples.truncated == 1
