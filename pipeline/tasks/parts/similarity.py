"""Similarity by embeddings: the cosine between two texts, each read alone.

Reimers and Gurevych, 2019: Sentence-BERT, sentence embeddings using Siamese BERT networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pipeline.common.errors import ConfigError, ModelError
from pipeline.data import Rows
from pipeline.tasks.base import Batch, Examples, Outputs
from pipeline.tasks.parts.long_rows import length_of, read_texts
from pipeline.tasks.parts.numbers import NumberTask
from pipeline.tasks.parts.rated import NumberColumns, Rated

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.data.shapes import Shape
    from pipeline.tasks.regression import RegressionConfig

_OTHER = "pair_"  # prefix of the columns of the second text


class Similarity(NumberTask):
    """The cosine between the mean embeddings of the tokens of two texts.

    0 stands for the lowest number of training, 1 for the highest. Where a record has no second
    text, the prediction is the embedding of the first.
    """

    auto_class = "AutoModel"
    reads_once = False
    answers_untrained = True

    @classmethod
    def shape(cls, config: RegressionConfig, columns: NumberColumns) -> Shape:
        """Return two texts and a number.

        Raises:
            ConfigError: for one text, or several numbers.
        """
        del config
        if columns.text_pair is None:
            raise ConfigError(
                "data.text_pair=null: task.approach=embedding compares two texts; expected the "
                "column of the second, or task.approach=head."
            )
        if len(columns.label) > 1:
            raise ConfigError(
                f"data.label={list(columns.label)}: task.approach=embedding predicts one number; "
                "expected one column, or task.approach=head."
            )
        return Rated(columns, one_will_do=True)

    @property
    def head(self) -> Mapping[str, Any]:
        """No head: the embeddings are the model's own."""
        return {}

    def check(self) -> None:
        """Refuse an encoder-decoder, which has no embedding of a text.

        Raises:
            ModelError: for such a model.
        """
        super().check()
        if self.checkpoint.config.is_encoder_decoder:
            raise ModelError(
                f"model.checkpoint={self.checkpoint.name} is an encoder-decoder; expected an "
                "encoder or a decoder for task.approach=embedding, or task.approach=head."
            )

    @override
    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn each text into token ids of its own, at most ``max_length``."""
        tokenizer = self.checkpoint.tokenizer
        names = [name for name in ("text", "text_pair") if name in rows.columns]
        texts = [list(rows[name]) for name in names]
        first, *others = (
            read_texts(
                tokenizer, [of], self.max_length, truncation=True, return_token_type_ids=False
            )
            for of in texts
        )
        columns = dict(first.columns)
        for other in others:
            columns |= {
                f"{_OTHER}{name}": values for name, values in other.columns.items() if name != "row"
            }
        return self.examples(
            rows,
            columns,
            sorted({i for read in (first, *others) for i in read.cut}),
            lambda i: max(length_of(tokenizer, of[i]) for of in texts),
            training=training,
        )

    @override
    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the same as with a head, or embeddings where there is no second text."""
        if f"{_OTHER}input_ids" not in batch:
            return {"embedding": _embeddings(model, batch, "")}
        return super().forward(model, batch)

    @override
    def scaled(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        from torch.nn import functional

        first, second = (_embeddings(model, batch, prefix) for prefix in ("", _OTHER))
        (of,) = self.targets.moments.values()
        number = of.low + functional.cosine_similarity(first, second) * (of.high - of.low)
        return ((number - of.mean) / of.deviation)[:, None]

    @override
    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the number of each row, or its embedding."""
        if "embedding" in outputs:
            return {"embedding": outputs["embedding"].astype("float64").round(6).tolist()}
        return super().decode(examples, outputs)


def _embeddings(model: PreTrainedModel, batch: Batch, prefix: str) -> torch.Tensor:
    """Return the mean of the last layer over the tokens of each text, [examples, width]."""
    mask = batch[f"{prefix}attention_mask"]
    hidden = model(input_ids=batch[f"{prefix}input_ids"], attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    means: torch.Tensor = (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)
    return means
