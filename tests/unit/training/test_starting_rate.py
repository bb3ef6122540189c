"""The rule for where a learning rate begins, and how it follows the batch size."""

import math
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoConfig

from pipeline.common.errors import ConfigError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.training import starting_rate as rule
from pipeline.training.starting_rate import optimizer_of, rate_notes, said_of_rates

ROOT = Path(__file__).resolve().parents[3]
AUTO = "optimizer.learning_rate=auto"


@cache
def composed(*overrides):
    """Return an experiment; nothing of its model is looked for."""
    with hydra_app("train") as hydra:
        return validate(without_hydra(compose(hydra, overrides)))


@pytest.fixture
def made(monkeypatch):
    """Make an experiment on a model of a family and a width, which is never looked for."""

    def make(family, width, *overrides, layers=None, is_new=False):
        config = AutoConfig.for_model(family)
        config.hidden_size = width
        config.num_hidden_layers = layers or config.num_hidden_layers
        found = SimpleNamespace(config=config, is_new=is_new)
        monkeypatch.setattr(rule, "find_checkpoint", lambda _: found)
        return composed(AUTO, *overrides)

    return make


@pytest.mark.parametrize(
    ("family", "width", "layers", "adapter", "batch", "rate"),
    [
        ("bert", 768, 12, "none", 16, 4.5e-5),
        ("bert", 384, 6, "none", 16, 4.5e-5 * 8**0.7),  # an eighth of the layers' parameters
        ("bert", 384, 6, "none", 64, 4.5e-5 * 8**0.7 * 2),
        ("bert", 384, 6, "lora", 16, 4.5e-4 * 8**0.7),
        ("distilbert", 768, 6, "dora", 16, 4.5e-4 * 2**0.7),
        ("roberta", 1024, 24, "none", 16, 1.9e-5 * (9 / 32) ** 0.7),
        # 5e-5 × 10 for LoRA × (2000 / width)^p at batch 128, as published
        ("llama", 4096, None, "lora", 128, 5e-4 * (2000 / 4096) ** 0.781),
        ("llama", 8192, None, "none", 128, 5e-5 * (2000 / 8192) ** 0.781),
        ("qwen3", 4096, None, "qlora", 128, 5e-4 * (2000 / 4096) ** 0.0775),
        ("qwen2", 2048, None, "lora", 32, 5e-4 * (2000 / 2048) ** 0.0775 / 2),
    ],
)
def test_rate_is_that_of_the_formula(made, family, width, layers, adapter, batch, rate):
    own = [f"adapter={adapter}", f"training.batch_size={batch}"]
    experiment = made(family, width, *own, layers=layers)
    assert optimizer_of(experiment).learning_rate == pytest.approx(rate, rel=0.05)  # two digits


@pytest.mark.parametrize("family", sorted(rule._FAMILIES))
def test_wider_models_begin_lower_and_larger_batches_higher(made, family):
    least, most = rule._FAMILIES[family].widths
    widths = (least, (least + most) // 2, most)
    rates = [optimizer_of(made(family, width)).learning_rate for width in widths]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]
    batches = (4, 16, 64, 256)
    by_batch = [
        optimizer_of(made(family, most, f"training.batch_size={b}")).learning_rate for b in batches
    ]
    assert np.diff(np.log2(by_batch)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("family", "width", "overrides", "said"),
    [
        ("t5", 512, [], "for the architecture t5 there is no rule, but for bert, distilbert, "),
        ("gpt2", 768, [], "for the architecture gpt2 there is no rule"),
        ("bert", 128, [], "bert has hidden size 128, and the rule is known for 256 to 1536 only"),
        ("llama", 576, ["adapter=lora"], "hidden size 576, and the rule is known for 2048 to 8192"),
        ("bert", 768, ["adapter=ia3"], "for adapter.name=ia3 there is no rule"),
        ("bert", 768, ["adapter=head"], "for adapter.name=head there is no rule"),
        ("bert", 768, ["optimizer=sgd", AUTO], "optimizer.name=SGD is not of Adam's kind"),
        ("bert", 768, ["optimizer=adafactor", AUTO], "optimizer.name=Adafactor is not"),
    ],
)
def test_what_no_source_speaks_of_is_refused(made, family, width, overrides, said):
    with pytest.raises(ConfigError) as error:
        optimizer_of(made(family, width, *overrides))
    assert said in str(error.value)
    assert str(error.value).startswith(f"{AUTO}: ")
    assert "expected a number (optimizer=adamw has 5e-5)" in str(error.value)


@pytest.mark.parametrize("layers", [4, 49])
def test_a_depth_that_was_not_seen_is_refused(made, layers):
    seen = f"bert has {layers} layers, and the rule is known for 6 to 48 only"
    with pytest.raises(ConfigError, match=seen):
        optimizer_of(made("bert", 768, layers=layers))


def test_new_weights_are_refused(made):
    with pytest.raises(ConfigError, match="the rule is for pre-trained ones"):
        optimizer_of(made("bert", 768, is_new=True))


def test_a_given_rate_follows_the_batch_only_if_it_is_to(made):
    given = ["optimizer.learning_rate=1e-4", "training.batch_size=64"]
    assert optimizer_of(made("t5", 512, *given)).learning_rate == 1e-4
    scaled = made("t5", 512, *given, "optimizer.scale_with_batch=sqrt")
    assert optimizer_of(scaled).learning_rate == 2e-4
    exact = made("t5", 512, "optimizer.learning_rate=1.2345e-4", "optimizer.scale_with_batch=sqrt")
    assert "(0.00012345 × √(16 / 16))" in str(rate_notes(exact)[0])
    with pytest.raises(ConfigError, match=r"scale_with_batch=sqrt: .*found optimizer\.name=SGD"):
        optimizer_of(made("bert", 768, "optimizer=sgd", *given, "optimizer.scale_with_batch=sqrt"))


def test_auto_and_the_scale_count_the_batch_once(made):
    batch = "training.batch_size=64"
    auto, scaled = (
        made("bert", 384, batch, layers=6),
        made("bert", 384, batch, "optimizer.scale_with_batch=sqrt", layers=6),
    )
    assert [str(note) for note in rate_notes(scaled)] == [
        f"{AUTO}: 0.00019 (full fine-tuning, bert, hidden size 384, 6 layers, batch 16)",
        "optimizer.scale_with_batch=sqrt: 0.00038 (0.00019 × √(64 / 16))",
    ]
    assert optimizer_of(scaled).learning_rate == 3.8e-4
    assert optimizer_of(auto).learning_rate == 3.9e-4  # rounded once, after the batch


def test_plan_says_the_first_rate_and_whether_others_differ(made):
    sizes = ("training.batch_size=16", "training.batch_size=64")
    one, other = (made("bert", 384, size, layers=6) for size in sizes)
    said = f"  {AUTO}: 0.00019 (full fine-tuning, bert, hidden size 384, 6 layers, batch 16)"
    assert said_of_rates([one, one]) == [said]
    assert said_of_rates([one, other]) == [f"{said}; in other trials by what they train"]


SEEN = re.compile(
    r"^\| ([^|]+) \| (\S+)([^|]*) \| (\d+) to (\d+) \| (?:(\d+) to (\d+)|any) \|$", re.M
)


def test_rates_and_sizes_in_the_docs_are_the_rules():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    found = {}
    for names, rate, formula, *sizes in SEEN.findall(text):
        seen = [int(size) for size in sizes if size]
        power = re.search(r"\^([\d.]+)", formula)
        for name in re.findall(r"`([\w-]+)`", names):
            found[name] = (float(rate), float(power[1]) if power else 0.7, seen)
    assert found == {
        name: (one.rate, one.exponent, [*one.widths, *(one.depths or ())])
        for name, one in rule._FAMILIES.items()
    }


ROW = re.compile(
    r"^\| [^|]+ \| `([\w-]+)` \| (\d+) \| (\d+) \| (\S+) \| (\d+) \| (\S+) \| (\S+) \|$", re.M
)


def test_settings_in_the_docs_are_fitted_as_they_say():
    """The table's figures are those of the rule, and the exponent is the settings' own."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    offs, rates, places = [], [], []
    for family, width, layers, rate, batch, said, off in ROW.findall(text):
        own = rule._FAMILIES[family].full(int(width), int(layers), int(batch))
        assert (f"{own:.1e}", f"{float(rate) / own:.1f}") == (said, off)
        offs.append(np.log(float(rate) / own))
        rates.append(np.log(float(rate) / np.sqrt(int(batch) / 16)))
        size = int(layers) * int(width) ** 2
        places.append((rule._FAMILIES[family].rate, np.log(size / (12 * 768**2))))
    families = sorted({family for family, _ in places})
    design = np.array([[*(f == one for one in families), size] for f, size in places], float)
    *levels, slope = np.linalg.lstsq(design, np.array(rates), rcond=None)[0]
    assert [f"{math.exp(level):.1e}" for level in levels] == [f"{one:.1e}" for one in families]
    assert {round(-slope, 2)} == {one.exponent for one in rule._FAMILIES.values() if one.depths}
    error, worst = np.exp([np.sqrt(np.mean(np.square(offs))), np.abs(offs).max()])
    fit = f"{len(offs)} settings with a rate for each of the five families: {-slope:.2f}"
    assert fit in " ".join(text.split())
    assert f"by a factor of {error:.1f} (root mean square), at most {worst:.1f}" in text
    apart = [*_left_out(design, np.array(rates))]
    assert len(apart) == len(rates) - 1  # a family's only setting
    left_out = np.exp(np.sqrt(np.mean(np.square(apart))))
    assert f"by {left_out:.1f} where a setting is left out of the fit" in " ".join(text.split())


def _left_out(design, rates):
    """Return how far off each setting is by a fit to the others, where these have its family."""
    for i in range(len(rates)):
        others = np.delete(design, i, axis=0)
        if (others[:, design[i] == 1] == 1).any():
            fit = np.linalg.lstsq(others, np.delete(rates, i), rcond=None)[0]
            yield rates[i] - design[i] @ fit
