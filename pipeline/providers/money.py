"""What a job is expected to cost, before anything is sent, and what it did cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.common.errors import ConfigError, listing
from pipeline.common.session import session
from pipeline.data.conversations import asked

if TYPE_CHECKING:
    from pipeline.config.provider import HostedConfig, Price
    from pipeline.data import Splits
    from pipeline.data.conversations import Conversation

Count = Callable[[str], int]

_BYTES_A_TOKEN = 4.0  # of English, by OpenAI's rule of thumb
# By the notebook Chat_finetuning_data_prep of openai/openai-cookbook: tokens that frame a message
# and an example, and the epochs that `auto` comes to.
_A_MESSAGE, _AN_EXAMPLE = 3, 3
_EPOCHS, _LEAST, _MOST, _MOST_EPOCHS = 3, 100, 25_000, 25


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to use and to cost at a service."""

    epochs: int
    trained: int  # tokens of all epochs
    read: int  # tokens of the prompts that are asked
    written: int  # tokens of the replies, at most
    usd: float
    is_estimate: bool  # the tokens are not counted by the model's own tokenizer

    def __str__(self) -> str:
        return f"{dollars(self.usd)}: {self.tokens}"

    @property
    def tokens(self) -> str:
        """The tokens as text."""
        how = "estimated" if self.is_estimate else "counted"
        return (
            f"{self.trained:,} tokens of training, at evaluations {self.read:,} read and "
            f"{self.written:,} written ({how})"
        )


def dollars(usd: float) -> str:
    """Return an amount with cents, or two digits where it is less than ten of them."""
    return f"{usd:.2f} USD" if usd >= 0.1 else f"{usd:.2g} USD"


def price_of(config: HostedConfig) -> Price:
    """Return the price of the model.

    Raises:
        ConfigError: where it is not known.
    """
    price = config.known_price
    if price is None:
        raise ConfigError(
            f"provider.model={config.model}: its price is not known; expected "
            "'provider.price={training: …, input: …, output: …}' in USD per million tokens, or a "
            f"model of provider.prices ({listing(config.prices)})."
        )
    return price


def usd(price: Price, trained: int, read: int, written: int) -> float:
    """Return what so many tokens cost."""
    millions = trained * price.training + read * price.input + written * price.output
    return millions / 1e6


def forecast(
    config: HostedConfig, splits: Splits, tokenizer: str | None, most_written: int
) -> Forecast:
    """Forecast a job on these splits, and its evaluations.

    Args:
        config: with the price and the epochs.
        splits: the rows.
        tokenizer: the encoding of the model's tokens, if it is public.
        most_written: tokens of a reply.

    Raises:
        ConfigError: where the price is not known.
    """
    key = "tokens", splits.digest, tokenizer
    a_pass, read, prompts, is_estimate = session().kept(key, lambda: _counted(splits, tokenizer))
    epochs = _auto_epochs(len(splits.train)) if config.n_epochs == "auto" else config.n_epochs
    trained, written = epochs * a_pass, most_written * prompts
    cost = usd(price_of(config), trained, read, written)
    return Forecast(epochs, trained, read, written, cost, is_estimate)


def _counted(splits: Splits, tokenizer: str | None) -> tuple[int, int, int, bool]:
    """Return the tokens of an epoch and of the prompts, the number of those, and if it is a guess.

    It takes a while for many rows, and trials share it.
    """
    count = _counter(tokenizer)
    tokens = count or _estimated
    judged = [rows for name, rows in splits.by_name.items() if name != "train"]
    prompts = [asked(one) for rows in judged for one in rows["messages"]]
    a_pass = sum(_tokens(splits.train["messages"], tokens))
    return a_pass, sum(_tokens(prompts, tokens)), len(prompts), count is None


def _tokens(conversations: Sequence[Conversation], count: Count) -> Iterator[int]:
    for conversation in conversations:
        yield _AN_EXAMPLE + sum(
            _A_MESSAGE + count(message.role) + count(message.content) for message in conversation
        )


def _estimated(text: str) -> int:
    return round(len(text.encode()) / _BYTES_A_TOKEN) or 1


def _counter(tokenizer: str | None) -> Count | None:
    """Return what counts tokens; None where the tokenizer is not public, or not to be had here."""
    if tokenizer is None:
        return None
    try:
        import tiktoken

        encoding = tiktoken.get_encoding(tokenizer)
    except Exception:  # not installed; or its table cannot be loaded, by errors of its own
        return None
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def _auto_epochs(rows: int) -> int:
    if rows * _EPOCHS < _LEAST:
        return min(_MOST_EPOCHS, _LEAST // rows)
    if rows * _EPOCHS > _MOST:
        return max(1, _MOST // rows)
    return _EPOCHS
