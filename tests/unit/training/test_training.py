"""Optimizers, schedules and the watch on losses; the weights kept are the best ones."""

import shutil

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2LMHeadModel,
    T5ForConditionalGeneration,
)

from pipeline.common.errors import ConfigError, DivergedError, ModelError
from pipeline.config.adapter import FullConfig, LoraConfig
from pipeline.config.flags import folders
from pipeline.config.optimizer import OptimizerConfig, ScheduleConfig
from pipeline.models import find_checkpoint
from pipeline.models.adapters import adapt, new_head
from pipeline.tasks.objective import Objective
from pipeline.training.best import Evaluation, Evaluations
from pipeline.training.layer_rates import check_rates
from pipeline.training.losses import LossWatch
from pipeline.training.optimizer import (
    build_optimizer,
    build_schedule,
    check_optimizer,
    warmup_steps,
)
from tests.support.configs import model_of


def test_the_watch_names_the_first_bad_step():
    watch = LossWatch(["a", "b", "c", "d"])
    watch.keep(1, torch.tensor(0.5), torch.tensor([0, 1]))
    watch.check()
    watch.keep(2, torch.tensor(0.4), torch.tensor([1, 2]))
    watch.keep(3, torch.tensor(float("inf")), torch.tensor([2, 3]))
    watch.keep(4, torch.tensor(float("nan")), torch.tensor([0, 1]))
    with pytest.raises(DivergedError, match=r"step 3: .* rows c, d\."):
        watch.check()


@pytest.mark.parametrize(("direction", "kept"), [("maximize", 2), ("minimize", 1)])
def test_the_weights_kept_are_those_of_the_best_evaluation(direction, kept):
    model = torch.nn.Linear(1, 1, bias=False)
    evaluations = Evaluations(Objective("val/score", direction, "best"), patience=None)
    for step, score in enumerate([0.3, 0.1, 0.5, 0.5]):
        model.weight.data.fill_(float(step))
        evaluations.add(Evaluation(step, 0.0, {"score": score}, None), model)
    evaluations.restore(model)
    assert model.weight.item() == kept


TINY = BertConfig(
    vocab_size=9,
    hidden_size=4,
    num_hidden_layers=2,
    num_attention_heads=1,
    intermediate_size=4,
    max_position_embeddings=8,
)


@pytest.mark.parametrize("adapter", [FullConfig("none"), LoraConfig("lora", 2, 4, 0.0, None)])
def test_lower_layers_learn_more_slowly_and_a_new_head_faster(adapter):
    plain = BertForSequenceClassification(TINY)
    model = adapt(plain, adapter, new_head(plain))
    config = OptimizerConfig("AdamW", 0.1, 0.0, layer_decay=0.5, head_multiplier=10.0)
    check_rates(config, plain)
    optimizer = build_optimizer(config, model, [])
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rates) == {name for name, p in model.named_parameters() if p.requires_grad}
    expected = {"bert.embeddings": 0.025, "encoder.layer.0": 0.05, "encoder.layer.1": 0.1}
    expected |= {"pooler": 0.1, "classifier": 1.0}
    for name, rate in rates.items():
        (wanted,) = (value for part, value in expected.items() if part in name)
        assert rate == pytest.approx(wanted), name
    assert optimizer.param_groups[0]["lr"] == 0.1  # which is logged


@pytest.mark.parametrize(
    ("rate", "kind", "said"),
    [
        ({"head_multiplier": 2.0}, GPT2LMHeadModel, "has no new head"),
        ({"layer_decay": 0.5}, T5ForConditionalGeneration, "are not one stack"),
    ],
)
def test_a_rate_of_what_a_model_lacks_is_refused(rate, kind, said):
    with torch.device("meta"):
        model = kind(kind.config_class())
    with pytest.raises(ConfigError, match=said):
        check_rates(OptimizerConfig("AdamW", 0.1, 0.0, **rate), model)


@pytest.mark.parametrize("name", ["adafactor", "adamw", "nadam", "sgd"])
def test_every_optimizer_lowers_a_loss_and_spares_biases_from_decay(name):
    from omegaconf import OmegaConf

    given = dict(OmegaConf.load(folders("conf")[-1] / "optimizer" / f"{name}.yaml"))
    assert given.pop("defaults") == ["base", "_self_"]
    config = OptimizerConfig(**{**given, "learning_rate": 0.01, "weight_decay": 0.1})
    model = torch.nn.Linear(3, 1)
    optimizer = build_optimizer(config, model, decayed=["weight"])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    before = model(torch.ones(3)).square().item()
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(3)).square().backward()
        optimizer.step()
    assert model(torch.ones(3)).square().item() < before


@pytest.mark.parametrize(
    ("config", "expected"),  # shares of the peak at steps 0, 5, 10, 50, 90 and 100 of 100
    [
        (ScheduleConfig("linear", 10), [0, 0.5, 1, 5 / 9, 1 / 9, 0]),
        (ScheduleConfig("linear", 0.1), [0, 0.5, 1, 5 / 9, 1 / 9, 0]),
        (ScheduleConfig("constant", 0), [1, 1, 1, 1, 1, 1]),
        (ScheduleConfig("cosine", 0), [1, 0.9938, 0.9755, 0.5, 0.0245, 0]),
        (ScheduleConfig("warmup_stable_decay", 0.1, 0.2), [0, 0.5, 1, 1, 0.5, 0]),
    ],
)
def test_the_rate_follows_its_schedule(config, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(config, optimizer, steps=100)
    rates = []
    for step in range(101):
        if step in (0, 5, 10, 50, 90, 100):
            rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=1e-3)


def test_a_warmup_longer_than_the_run_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=r"schedule\.warmup=100: the run has 100 steps"):
        build_schedule(ScheduleConfig("linear", 100), optimizer, steps=100)
    assert warmup_steps(ScheduleConfig("linear", 0.85), steps=10) == 9
    assert warmup_steps(ScheduleConfig("linear", 0.06), steps=1) == 0  # a share leaves a step
    with pytest.raises(ConfigError, match=r"schedule\.warmup=90: .* schedule\.decay=0\.2 .* 80\."):
        warmup_steps(ScheduleConfig("warmup_stable_decay", 90, 0.2), steps=100)


@pytest.mark.parametrize(
    ("config", "fragments"),
    [
        (OptimizerConfig("Adamw", 0.1, 0.0), ("optimizer.name=Adamw", "Did you mean AdamW?")),
        (OptimizerConfig("sgd", 0.1, 0.0), ("optimizer.name=sgd", "Did you mean SGD?")),
        (
            OptimizerConfig("SGD", 0.1, 0.0, beta1=0.9),
            ("optimizer.beta1: SGD has no such", "Valid: optimizer.learning_rate", "momentum"),
        ),
        (OptimizerConfig("AdamW", 0.1, 0.0, momentum=0.9), ("optimizer.momentum: AdamW",)),
        (OptimizerConfig("Adam", 0.1, 0.0, others={"fused": True}), ("fused", "chosen here")),
        (OptimizerConfig("SGD", 0.1, 0.0, others={"lr": 1.0}), ("optimizer.learning_rate",)),
        (OptimizerConfig("Adafactor", 0.1, 0.0, beta2=0.9), ("Did you mean beta2_decay?",)),
        (OptimizerConfig("SGD", 0.1, 0.0, nesterov=True), ("optimizer.nesterov=True", "momentum")),
        (OptimizerConfig("Adafactor", 0.1, 0.0, eps=1e-8), ("optimizer.eps=1e-08", "Adafactor")),
    ],
)
def test_an_optimizer_that_cannot_be_built_is_refused_in_the_users_words(config, fragments):
    with pytest.raises(ConfigError) as refusal:
        check_optimizer(config)
    for fragment in fragments:
        assert fragment in str(refusal.value)


def _trains(name: str) -> bool:
    """Whether a step of an optimizer moves every parameter of a model."""
    model = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(OptimizerConfig(name, 0.1, 0.0), model, ["weight"])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return all((p != old).any() for p, old in zip(model.parameters(), before, strict=True))


def test_an_optimizer_of_torch_trains_a_model_or_is_refused_by_name():
    unfit = ["LBFGS", "Muon", "Rprop", "SparseAdam"]
    every = {
        cls.__name__
        for cls in torch.optim.Optimizer.__subclasses__()
        if cls.__module__.startswith("torch.")
    }
    for name in unfit:
        with pytest.raises(ConfigError, match=f"^optimizer.name={name}: it .* Valid: Ada"):
            _trains(name)
    assert all(_trains(name) for name in sorted(every - {*unfit}))


def test_a_checkpoint_without_weights_is_refused(tiny_model, working_folder):
    folder = working_folder / "light"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match=r"light: the folder has no weights: .* config\.json"):
        find_checkpoint(model_of(folder))
    index = '{"metadata": {}, "weight_map": {"tensor": "config.json"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    assert find_checkpoint(model_of(folder)).name == str(folder)
