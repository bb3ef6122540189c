"""The active vocabulary: rows that are left out end as if they had been trained with the others."""

import copy
import gc
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
import transformers
from datasets import Dataset
from transformers.trainer_pt_utils import get_parameter_names

from pipeline.config.optimizer import OptimizerConfig, ScheduleConfig
from pipeline.models.batches import reachable_ids
from pipeline.models.weights import Weights
from pipeline.training.optimizer import build_optimizer, build_schedule
from pipeline.training.snapshot import load_trained_state, trained_state
from pipeline.training.speedups.active_vocabulary import (
    _DECOUPLED,
    STILL,
    ActiveEmbedding,
    shrink,
)

VOCABULARY = 97
IDS = np.array([2, 3, *range(5, 60, 4)])  # what batches are made of
STEPS = 12
ADAMW = OptimizerConfig("AdamW", 1e-2, 0.1)
RATES = [1e-2 * k / 3 for k in range(3)] + [1e-2 * k / 9 for k in range(9, 0, -1)]
DECAY = float(np.prod([1 - 0.1 * rate for rate in RATES]))


def bert(head=transformers.BertForSequenceClassification, **changes):
    return made(
        head,
        transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **changes,
        ),
    )


def gpt2():
    return made(
        transformers.GPT2ForSequenceClassification,
        transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=16,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=1,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        ),
    )


def made(head, config):
    torch.manual_seed(0)
    return head(config)


def batches(count, ids=IDS, seed=0):
    """Return batches of 4 texts of 9 tokens, the last 2 of each padding."""
    chance = np.random.default_rng(seed)
    for _ in range(count):
        texts = torch.from_numpy(chance.choice(ids, (4, 9)))
        texts[:, 7:] = 0
        labels = torch.from_numpy(chance.integers(0, 2, 4))
        yield {"input_ids": texts, "attention_mask": (texts > 0).long(), "labels": labels}


class Training:
    """What the trainer does at each step: clip, step, schedule."""

    def __init__(self, model, config=ADAMW, *, shrunk=False, ids=IDS, max_norm=0.5):
        self.model, self.max_norm = model.train(), max_norm
        self.active = shrink(model, np.union1d(ids, [0]), config) if shrunk else None
        assert bool(self.active) is shrunk
        decayed = get_parameter_names(model, [torch.nn.LayerNorm], [r"bias", r"layernorm"])
        self.optimizer = build_optimizer(config, model, decayed)
        self.schedule = build_schedule(ScheduleConfig("linear", 3), self.optimizer, STEPS)

    def run(self, steps=STEPS, seed=0):
        for batch in batches(steps, seed=seed):
            self.model(**batch).loss.backward()
            if self.max_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        return self

    def end(self):
        if self.active:
            self.active.restore()
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def embedding(model):
    return model.get_input_embeddings()


@pytest.mark.parametrize("name", sorted(_DECOUPLED))
@pytest.mark.parametrize("make", [bert, gpt2])
def test_weights_end_as_those_of_the_whole_vocabulary(make, name):
    config = replace(ADAMW, name=name)
    model = make()
    begun = embedding(model).weight.detach().clone()
    whole = Training(make(), config).run().end()
    ended = Training(make(), config, shrunk=True).run().end()
    assert whole.keys() == ended.keys()
    for key, weight in whole.items():
        torch.testing.assert_close(ended[key], weight, rtol=1e-6, atol=1e-6 * float(weight.max()))
    model.load_state_dict(ended)
    unreached = embedding(model).weight.detach()[90:]
    assert float((unreached / begun[90:]).mean()) == pytest.approx(DECAY, abs=1e-6)


@pytest.mark.parametrize("name", sorted(STILL))
def test_without_weight_decay_the_weights_are_the_same_to_the_bit(name):
    config = OptimizerConfig(name, 1e-2, 0.0, momentum=0.9 if name == "SGD" else None)
    whole = Training(bert(), config, max_norm=None).run().end()
    ended = Training(bert(), config, shrunk=True, max_norm=None).run().end()
    assert all(torch.equal(ended[key], weight) for key, weight in whole.items())


@pytest.mark.parametrize("name", sorted(STILL))
def test_optimizers_leave_rows_without_a_gradient_alone(name):
    """Or multiply them by the decay, which `shrink` takes for granted of those it accepts."""
    for decay in (0.0, 0.1) if name in _DECOUPLED else (0.0,):
        weight = torch.nn.Parameter(torch.randn(6, 4))
        before, factor = weight.detach().clone(), 1 - 0.5 * decay
        module = torch.nn.ParameterDict({"weight": weight})
        optimizer = build_optimizer(OptimizerConfig(name, 0.5, decay), module, ["weight"])
        for _ in range(8):
            weight.grad = torch.randn(6, 4)
            weight.grad[3:] = 0
            optimizer.step()
            before *= factor
        torch.testing.assert_close(weight[3:], before[3:], rtol=1e-6 if decay else 0, atol=0)
        assert not torch.equal(weight[:3], before[:3])


def test_evaluation_reads_rows_that_training_never_saw():
    only_there = np.array([70, 71, 72])
    models = [bert(), bert()]
    seen = []
    for model, shrunk in zip(models, (False, True), strict=True):
        Training(model, shrunk=shrunk, ids=[*IDS, *only_there]).run()
        with torch.no_grad():
            seen.append(model.eval()(**next(batches(1, only_there))).logits)
    assert isinstance(embedding(models[1]), ActiveEmbedding)
    torch.testing.assert_close(*seen, rtol=1e-5, atol=1e-6)


def test_an_id_that_is_not_active_is_no_other_row():
    model = bert()
    Training(model, shrunk=True, ids=[*IDS, VOCABULARY - 1])
    for wrong in (4, 95, VOCABULARY, -1):
        with pytest.raises((IndexError, RuntimeError)):
            embedding(model)(torch.tensor([[2, wrong]]))
    assert embedding(model)(torch.tensor([[2, 3]])).shape == (1, 2, 16)


def test_only_active_rows_have_state():
    def state_of(training):
        states = training.run(1).optimizer.state.values()
        return sum(state["exp_avg"].numel() for state in states)

    whole, active = Training(bert()), Training(bert(), shrunk=True)
    active_rows = len(embedding(active.model).weight)
    assert active_rows == len(IDS) + 1
    assert state_of(whole) - state_of(active) == (VOCABULARY - active_rows) * 16
    key = "bert.embeddings.word_embeddings.weight"
    assert trained_state(active.model)[key].shape == (active_rows, 16)
    assert trained_state(active.model).keys() - trained_state(whole.model).keys() == {
        "bert.embeddings.word_embeddings._extra_state"
    }


def test_a_state_brings_the_decay_of_its_step():
    """As best weights and checkpoints do; the optimizer's groups are others after loading."""
    training = Training(bert(), shrunk=True).run(5)
    kept = copy.deepcopy((dict(trained_state(training.model)), training.optimizer.state_dict()))
    schedule = training.schedule.state_dict()
    decay = embedding(training.model).decay
    whole = training.run(STEPS - 5, seed=1).end()

    again = Training(bert(), shrunk=True)
    load_trained_state(again.model, kept[0])
    assert embedding(again.model).decay == decay < 1
    again.optimizer.load_state_dict(kept[1])
    again.schedule.load_state_dict(schedule)
    resumed = again.run(STEPS - 5, seed=1).end()
    assert all(torch.equal(resumed[key], weight) for key, weight in whole.items())


def test_a_state_of_other_ids_is_refused():
    state = trained_state(Training(bert(), shrunk=True).model)
    other = Training(bert(), shrunk=True, ids=IDS + 1).model
    with pytest.raises(RuntimeError, match="other token ids"):
        load_trained_state(other, state)


def test_the_original_embedding_comes_back_and_its_memory_after_it():
    weights, kept = Weights(), bert()
    weights.load("key", lambda: kept)
    model = weights.load("key", lambda: kept)
    original, address = embedding(model), embedding(model).weight.data_ptr()
    training = Training(model, shrunk=True).run(2)
    training.end()
    assert embedding(model) is original
    assert original.weight.data_ptr() == address
    assert original.weight.requires_grad
    del model, training, original
    gc.collect()
    assert embedding(weights.load("key", lambda: kept)).weight.data_ptr() == address


def frozen():
    model = bert()
    embedding(model).requires_grad_(False)
    return model


def with_adapter():
    config = peft.LoraConfig(target_modules=["query"], modules_to_save=["word_embeddings"])
    return peft.get_peft_model(bert(), config)


def hooked():
    model = bert()
    embedding(model).register_forward_hook(lambda *_: None)
    return model


def patched():
    model = bert()
    embedding(model).forward = lambda ids: ids
    return model


class Own(transformers.BertForSequenceClassification):
    """Code from elsewhere, which may do anything with its weights."""


def own_code():
    return bert(Own)


def in_half():
    return bert().bfloat16()


def tied():
    return bert(transformers.BertForMaskedLM)


def untied():
    return bert(transformers.BertLMHeadModel, is_decoder=True, tie_word_embeddings=False)


def shared():
    """Encoder and decoder look up in the same table."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return made(transformers.T5ForSequenceClassification, config)


def scaled():
    """Its embedding multiplies what it looks up."""
    config = transformers.GemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return made(transformers.GemmaForSequenceClassification, config)


@pytest.mark.parametrize(
    "make", [frozen, with_adapter, hooked, patched, own_code, in_half, tied, untied, shared, scaled]
)
def test_models_that_use_the_embedding_otherwise_are_left_whole(make):
    model = make()
    before = dict(model.named_modules())
    assert shrink(model, IDS, ADAMW) is None
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize(
    ("name", "decay"), [("Adafactor", 0.0), ("ASGD", 0.0), ("SGD", 0.1), ("Adamax", 0.1)]
)
def test_optimizers_that_do_more_to_a_row_are_left_the_whole(name, decay):
    assert shrink(bert(), IDS, OptimizerConfig(name, 1e-2, decay)) is None


def test_a_vocabulary_that_is_mostly_reached_is_left_whole():
    assert shrink(bert(), np.arange(80), ADAMW) is None
    assert shrink(bert(), np.arange(70), ADAMW) is not None


def test_ids_of_the_models_config_are_active():
    model = bert(pad_token_id=80, eos_token_id=[81, 82], bos_token_id=VOCABULARY)
    shrink(model, IDS, ADAMW)
    found = embedding(model)
    assert found(torch.tensor([80, 81, 82])).shape == (3, 16)
    found(torch.tensor([80, 2])).sum().backward()
    padding, other = found.index[torch.tensor([80, 2])]
    assert not found.weight.grad[padding].any()
    assert found.weight.grad[other].all()


def test_reachable_ids_are_those_of_all_splits_and_of_the_tokenizer(tiny_model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    train = Dataset.from_dict({"input_ids": [[7, 5], [], [7]], "labels": [20, 21, 22]})
    test = Dataset.from_dict({"left_input_ids": [[9]], "input_ids": [[8, 8]], "row": [30]})
    none = Dataset.from_dict({"input_ids": []})
    special = {0, 1, 2, 3}
    found = reachable_ids([train, none, test], tokenizer)
    assert found.tolist() == sorted(special | {5, 7, 8, 9})
