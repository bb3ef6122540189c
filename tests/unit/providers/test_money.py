"""What a job costs: tokens counted twice over, epochs by the notebook's own rule, prices."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from pipeline.config.flags import folders
from pipeline.data.splits import load_splits
from pipeline.providers.money import _auto_epochs, dollars, forecast, usd
from pipeline.providers.openai import OpenAIConfig
from pipeline.tasks.parts.conversing import Chats
from tests.support.chats import chats, write_chats
from tests.support.configs import columns_for, files


def settings(**changes):
    file = folders("conf")[-1] / "provider/openai.yaml"
    tree = {**OmegaConf.to_container(OmegaConf.load(file)), **changes}
    return TypeAdapter(OpenAIConfig).validate_python(tree)


@pytest.mark.parametrize("name", settings().prices)
def test_the_table_has_a_price_of_each_of_its_models(name):
    price = settings(model=name).known_price
    assert price.training >= price.output > price.input > 0


@given(st.lists(st.integers(0, 10**7), min_size=3, max_size=3))
def test_dollars_are_tokens_by_the_million(tokens):
    price = settings(model="gpt-4.1-nano-2025-04-14").known_price
    trained, read, written = tokens
    exact = (1_500_000 * trained + 200_000 * read + 800_000 * written) / 1e12
    assert usd(price, trained, read, written) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(2, 25), (10, 10), (33, 3), (1000, 3), (8334, 2), (12_501, 1), (10**6, 1)]
)
def test_auto_epochs_are_those_of_the_notebook(rows, epochs):
    assert _auto_epochs(rows) == epochs


def test_a_forecast_counts_the_rows_as_they_are_sent():
    rows = chats(40)
    config = files("chat", train=str(write_chats(Path("chat.jsonl"), rows)))
    splits = load_splits(config, Chats(columns_for("chat")), with_test=False)
    found = forecast(settings(n_epochs=2), splits, None, most_written=8)
    train = {row_id.rpartition(":")[2] for row_id in splits.train.ids}
    lines = Path("chat.jsonl").read_text().splitlines()
    texts = [json.loads(lines[int(n) - 1])["messages"] for n in train]
    every = [3 + 3 * len(row) for row in texts]
    said = [
        round(len(m[key]) / 4) or 1 for row in texts for m in row for key in ("role", "content")
    ]
    assert found.trained == 2 * (sum(every) + sum(said))
    assert found.written == 8 * len(splits.validation)
    assert found.is_estimate
    price = settings().known_price
    assert found.usd == pytest.approx(usd(price, found.trained, found.read, found.written))
    assert "estimated" in str(found)


@pytest.mark.parametrize(("amount", "text"), [(12.345, "12.35 USD"), (0.0072, "0.0072 USD")])
def test_small_amounts_keep_two_digits(amount, text):
    assert dollars(amount) == text
