"""Classification: one label, or several, for each text or pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, DataError, ModelError, listing
from pipeline.config.schema import ClassificationConfig, DataConfig
from pipeline.data.labelled import Labelled
from pipeline.models.batches import reads_types
from pipeline.tasks.base import Batch, Examples, Outputs, Task
from pipeline.tasks.parts.long_rows import Read, chosen, length_of, read_texts, texts_beside

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.data import Rows
    from pipeline.data.shapes import Shape


MOST_SHOWN = 50  # labels whose probabilities are logged, each with each row
_ROOM = 4  # tokens that a second text must leave for the windows of the first


class Classification(Task[ClassificationConfig]):
    """Cross-entropy over the label names by a new head; scored on decoded labels."""

    baseline_name = "majority"
    after_encoding = Task.after_encoding | {"class_weights", "label_smoothing"}

    @classmethod
    def variant(cls, config: ClassificationConfig) -> type[Task[ClassificationConfig]]:
        """Return the generative approach where it is asked for."""
        if config.approach == "generative":
            from pipeline.tasks.parts.generative import GenerativeClassification

            return GenerativeClassification
        return cls

    @classmethod
    def metrics(cls, config: ClassificationConfig) -> Mapping[str, Direction]:
        """Return loss, accuracy, and F1, precision and recall by label and on average."""
        averages = ("macro", "weighted", "micro") if config.multi_label else ("macro", "weighted")
        names: dict[str, Direction] = {"loss": "minimize", "accuracy": "maximize"}
        for kind in ("f1", "precision", "recall"):
            # Of several labels the micro average is a figure of its own, for F1 alone.
            kinds = averages if kind == "f1" else averages[:2]
            names |= dict.fromkeys([*(f"{kind}_{a}" for a in kinds), f"{kind}/"], "maximize")
        return names | ({"hamming_loss": "minimize"} if config.multi_label else {})

    @classmethod
    def shape(cls, config: ClassificationConfig, data: DataConfig) -> Shape:
        """Return text, second text and label.

        Raises:
            ConfigError: where one label is read of cells that are said to hold several.
        """
        if data.label_separator is not None and not config.multi_label:
            raise ConfigError(
                f"data.label_separator={data.label_separator!r}: expected null, since "
                "task.multi_label=false reads one label a row; task.multi_label=true reads several."
            )
        return Labelled(data, many=config.multi_label)

    @property
    def auto_class(self) -> str:
        """A model with a new head."""
        return "AutoModelForSequenceClassification"

    def check(self) -> None:
        """Refuse a model that has no such head, and weights that are not one a label.

        Raises:
            ConfigError: for another number of class weights than of labels.
            ModelError: naming families that can; and for a tokenizer that cannot make windows.
        """
        super().check()
        if self._windows and not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"task.long_rows=window: the tokenizer of {self.checkpoint.name} is written in "
                "Python and makes no windows; expected truncate, drop or error."
            )
        given = self.config.class_weights
        if isinstance(given, tuple) and len(given) != len(self.labels):
            raise ConfigError(
                f"task.class_weights={list(given)}: {len(given)} weights; expected "
                f"{len(self.labels)}, one a label, in the order {listing(self.labels)}."
            )

    @property
    def encoding_refuses(self) -> bool:
        """Windows of a first text need room beside the second."""
        return super().encoding_refuses or self._windows

    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn texts into unpadded token ids, at most ``max_length``, and labels into positions.

        With ``task.long_rows=window`` a long text makes several examples; of a pair it is the
        first that has windows, each read with the whole second. Special tokens that a text spells
        out are plain characters.

        Raises:
            DataError: for long rows that are to be refused; in training for a second text that
                leaves windows of the first no room, which is cut elsewhere.
        """
        tokenizer = self.checkpoint.tokenizer
        texts = [list(rows[name]) for name in ("text", "text_pair") if name in rows.columns]
        read = self._read_windows(rows, texts, training) if self._windows else self._read(texts)
        return self._examples(
            rows,
            read.columns,
            read.cut,
            lambda i: length_of(tokenizer, *(column[i] for column in texts)),
            training=training,
        )

    @property
    def head(self) -> Mapping[str, Any]:
        """One whose outputs are named by the labels."""
        kind = "multi" if self.config.multi_label else "single"
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": f"{kind}_label_classification",
        }

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return logits of shape [examples, labels], and the loss where there are labels."""
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "row")}
        logits = self.logits(model, inputs)
        targets = batch.get("labels")
        if targets is None:
            return {"logits": logits}
        loss, weight = self._losses(logits, targets, training=model.training)
        return {"logits": logits, "loss": loss, "weight": weight}

    def logits(self, model: PreTrainedModel, inputs: Batch) -> torch.Tensor:
        """Return what is highest for the predicted label, of shape [examples, labels]."""
        logits: torch.Tensor = model(**inputs).logits.float()
        return logits

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the labels that the logits mean."""
        return self.scores(self.predicted(examples, outputs), examples.rows["label"])

    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the answer that is always training's most frequent label, or labels."""
        counts = Counter(train["label"])
        majority = max(sorted(counts), key=lambda label: counts[label])
        return self.scores([majority] * len(rows), rows["label"])

    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the prediction and its probability; of several labels that of each label."""
        predicted = self.predicted(examples, outputs)
        shares = _round(self.probabilities(examples, outputs))
        columns: dict[str, list[Any]] = {"prediction": predicted}
        if self.config.multi_label:
            columns["probability"] = [dict(zip(self.labels, p, strict=True)) for p in shares]
        else:
            columns["probability"] = [max(p) for p in shares]
        if "label" in examples.rows.columns:
            pairs = zip(predicted, examples.rows["label"], strict=True)
            columns["correct"] = [a == b for a, b in pairs]
        return columns

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows with their predictions, and the probability of each label."""
        columns = super().predictions(examples, outputs)
        if self.config.multi_label or len(self.labels) > MOST_SHOWN:
            return columns
        shares = _round(self.probabilities(examples, outputs))
        columns["probabilities"] = [dict(zip(self.labels, row, strict=True)) for row in shares]
        return columns

    def figures(self, examples: Examples, outputs: Outputs) -> dict[str, Figure]:
        """Return the confusion matrix, where a row has one label."""
        if self.config.multi_label:
            return {}
        from pipeline.evaluation.figures import confusion_matrix_figure

        predicted = self.predicted(examples, outputs)
        figure = confusion_matrix_figure(predicted, examples.rows["label"], self.labels)
        return {"confusion_matrix.png": figure}

    def _targets(self, labels: Sequence[Any]) -> list[Any]:
        """Return positions of labels; of several, 1.0 where a row has the label."""
        position = {label: i for i, label in enumerate(self.labels)}
        if not self.config.multi_label:
            return [position[label] for label in labels]
        return [[float(name in names) for name in self.labels] for names in labels]

    def _losses(
        self, logits: torch.Tensor, targets: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each example's loss and weight, both of shape [examples]."""
        import torch
        from torch.nn import functional

        smoothing = self.config.label_smoothing if training else 0.0
        weights = logits.new_tensor(self._weights if training else [1.0] * len(self.labels))
        if self.config.multi_label:
            smooth = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            # A weight counts where the label is there: else a rare one would stay rarely predicted.
            each = functional.binary_cross_entropy_with_logits(
                logits, smooth, reduction="none", pos_weight=weights
            )
            return each.mean(dim=-1), torch.ones_like(each[:, 0])
        loss = functional.cross_entropy(
            logits, targets, weights, reduction="none", label_smoothing=smoothing
        )
        return loss, weights[targets]

    @property
    def _windows(self) -> bool:
        return self.config.long_rows == "window"

    def _read(self, texts: Sequence[list[str]]) -> Read:
        """Return an example a row; of a pair the longer text is cut."""
        tokenizer, read = self.checkpoint.tokenizer, texts
        if len(texts) > 1:
            read = [_capped(column, tokenizer, self.max_length) for column in texts]
        return read_texts(
            tokenizer,
            read,
            self.max_length,
            truncation=True,
            return_token_type_ids=self._reads_types(texts),
        )

    def _read_windows(self, rows: Rows, texts: Sequence[list[str]], training: bool) -> Read:
        """Return as many examples a row as its first text has windows."""
        tokenizer, (first, *others) = self.checkpoint.tokenizer, texts
        room: int = self.max_length - tokenizer.num_special_tokens_to_add(pair=bool(others))
        rooms, cut = [room] * len(first), set[int]()
        if others:
            most = room - _ROOM
            second = texts_beside(tokenizer, others[0], most)
            if second.cut and (training or most < 1):
                raise self._no_room(rows, second.cut, room)
            others, cut = [second.texts], set(second.cut)
            rooms = [room - length for length in second.lengths]
        read = read_texts(
            tokenizer,
            [first, *others],
            self.max_length,
            [min(self.config.stride, room // 2) for room in rooms],
            truncation="only_first",
            return_token_type_ids=self._reads_types(texts),
        )
        return Read(read.columns, sorted(cut.union(read.cut)))

    def _no_room(self, rows: Rows, lengths: Mapping[int, int], room: int) -> DataError:
        longest = max(lengths, key=lengths.__getitem__)
        return DataError(
            f"row {rows.ids[longest]}: its second text has {lengths[longest]} tokens and leaves "
            f"{max(0, room - lengths[longest])} of training.max_length={self.max_length} for "
            f"windows of the first; expected at least {_ROOM}, or task.long_rows=truncate, which "
            "cuts the longer one."
        )

    def _reads_types(self, texts: Sequence[list[str]]) -> bool:
        return len(texts) > 1 and reads_types(self.checkpoint)

    def _examples(
        self,
        rows: Rows,
        columns: Mapping[str, list[Any]],
        longer: Sequence[int],
        length_of: Callable[[int], int],
        *,
        training: bool,
    ) -> Examples:
        """Return examples of the rows that stay, with targets where the rows have labels."""
        from datasets import Dataset

        kept = self.kept_rows(rows, longer, length_of, training=training)
        found = chosen(columns, kept)
        if "label" in rows.columns:
            targets = self._targets(rows["label"])
            found["labels"] = [targets[i] for i in found["row"]]
        return Examples(rows, Dataset.from_dict(found), len(longer), len(rows) - len(kept))

    @cached_property
    def _weights(self) -> list[float]:
        """What each label counts in the loss; "balanced" as scikit-learn has it."""
        given = self.config.class_weights
        if given is None:
            return [1.0] * len(self.labels)
        if given == "balanced":
            mean = sum(self.label_counts.values()) / len(self.labels)
            return [mean / count for count in self.label_counts.values()]
        return list(given)

    def probabilities(self, examples: Examples, outputs: Outputs) -> np.ndarray[Any, Any]:
        """Return probabilities of shape [rows, labels]."""
        from scipy.special import expit, softmax

        logits = self._by_row(examples, outputs)
        shares: np.ndarray[Any, Any] = (
            expit(logits) if self.config.multi_label else softmax(logits, axis=-1)
        )
        return shares

    def predicted(self, examples: Examples, outputs: Outputs) -> list[Any]:
        """Return the label of each row, or its labels."""
        logits = self._by_row(examples, outputs)
        if not self.config.multi_label:
            return [self.labels[i] for i in logits.argmax(axis=-1)]
        named = [zip(self.labels, row, strict=True) for row in logits]
        return [tuple(label for label, logit in row if logit > 0) for row in named]

    def _by_row(self, examples: Examples, outputs: Outputs) -> np.ndarray[Any, Any]:
        """Return logits of shape [rows, labels]: the mean of those of a row's windows."""
        import numpy as np

        logits = outputs["logits"].astype("float64")
        counts = np.bincount(examples.row, minlength=len(examples.rows))
        sums = np.zeros((len(examples.rows), logits.shape[1]))
        np.add.at(sums, examples.row, logits)
        means: np.ndarray[Any, Any] = sums / counts[:, None]
        return means

    def scores(self, predicted: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Score predictions of rows by all metrics but the loss."""
        from pipeline.evaluation.metrics import classification_scores, multilabel_scores

        scores = multilabel_scores if self.config.multi_label else classification_scores
        return scores(predicted, labels, self.labels)


def _capped(texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[str]:
    """Return texts of a pair without what follows so many tokens, which no example can hold.

    Else a tokenizer would make every combination of what it cuts off the one and the other.
    """
    if not tokenizer.is_fast:
        return texts
    encoded = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
    )
    pairs = zip(texts, encoded.encodings, strict=True)
    return [text[: of.offsets[-1][1]] if of.overflowing else text for text, of in pairs]


def _round(probabilities: np.ndarray[Any, Any]) -> list[list[float]]:
    return [[round(float(p), 6) for p in row] for row in probabilities]


TASK = Classification
