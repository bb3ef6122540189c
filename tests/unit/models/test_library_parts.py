"""Canaries: where a release moves what transformers_parts or torch_parts touches, what broke."""

import pytest
import torch
import transformers as hf
from torch.nn import Dropout, Module

from pipeline.models import torch_parts, transformers_parts

SIZES = {
    "vocab_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture(scope="module")
def model():
    return hf.BertForSequenceClassification(hf.BertConfig(**SIZES))


def test_an_auto_class_knows_its_architectures():
    moved = "no _model_mapping any more: models would be refused, or wrongly let through"
    for config, expected in ((hf.T5Config(), True), (hf.BertConfig(), False)):
        found = transformers_parts.has_architecture("AutoModelForSeq2SeqLM", config)
        assert found is expected, moved


def test_the_class_of_a_model_knows_its_configs():
    moved = "no _model_mapping or config_class any more: any model_type would go"
    built = transformers_parts.model_class(hf.BertConfig())
    assert built is hf.BertModel, moved
    assert transformers_parts.config_class_of(built) is hf.BertConfig, moved


def test_the_attention_of_a_model_is_the_one_that_was_set(model):
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        found = transformers_parts.attention_of(model.config)
        assert found == name, "no _attn_implementation any more: no model would be unpadded"


def test_what_was_read_is_marked_and_the_rest_is_drawn_again(model, tmp_path):
    hf.BertModel(model.config).save_pretrained(tmp_path)
    read = hf.BertForSequenceClassification.from_pretrained(tmp_path)
    query = read.bert.encoder.layer[0].attention.self.query.weight
    of_head, of_base = read.classifier.weight.clone(), query.clone()
    transformers_parts.unmark(read)
    read.initialize_weights()
    moved = "no _is_hf_initialized any more: a second trial would "
    assert not torch.equal(read.classifier.weight, of_head), f"{moved}keep the first one's head"
    assert torch.equal(query, of_base), f"{moved}draw the weights it has read"


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_pre_hook",
        "register_forward_hook",
        "register_full_backward_pre_hook",
        "register_full_backward_hook",
    ],
)
def test_hooks_are_seen(register):
    module = Dropout()
    assert not torch_parts.is_hooked(module)
    assert not torch_parts.are_altered([module])

    def hook(*_):
        """Change nothing."""

    handle = getattr(module, register)(hook)
    moved = f"what {register} adds is not seen any more: a fused layer would leave it out"
    assert torch_parts.is_hooked(module), moved
    assert torch_parts.are_altered([Dropout(), module]), moved
    is_first = register == "register_forward_pre_hook"
    assert list(torch_parts.forward_pre_hooks(module)) == ([hook] if is_first else []), moved
    handle.remove()
    assert not torch_parts.is_hooked(module)


def test_the_gradient_of_a_softmax_is_autograds():
    scores = torch.randn(3, 5, requires_grad=True)
    shares, gradient = torch.softmax(scores, -1), torch.randn(3, 5)
    shares.backward(gradient)
    found = torch_parts.softmax_backward(gradient, shares.detach(), -1, torch.float32)
    moved = "torch._softmax_backward_data computes something else: fused layers would learn wrongly"
    assert torch.allclose(found, scores.grad), moved


def test_extra_state_has_the_name_that_is_kept():
    class Own(Module):
        def get_extra_state(self):
            return 1

    (name,) = Own().state_dict()
    assert name.endswith(torch_parts.EXTRA), "a run's state would lack modules' extra state"
