"""The interface of a task: from rows to token ids, from a model's outputs to scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from pipeline.common.contract import Direction, Precision
from pipeline.common.errors import DataError, ModelError
from pipeline.common.languages import cjk_language, suffix
from pipeline.config.task import AnyColumns, AnyTaskConfig
from pipeline.models.batches import LEFT
from pipeline.tasks.parts.heads import are_matched

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel

    from pipeline.data import Rows, Targets
    from pipeline.data.shapes import Shape
    from pipeline.models import Checkpoint

Array: TypeAlias = "np.ndarray[Any, Any]"
Outputs = Mapping[str, Array]  # by name; the first axis is that of the examples
Batch = dict[str, "torch.Tensor"]

C = TypeVar("C", bound=AnyTaskConfig)

_MUCH_UNKNOWN = 0.2  # of the tokens: so many that the tokenizer does not know are a warning
PADDING = -100  # pads outputs whose lengths differ


@dataclass(frozen=True, eq=False)
class Examples:
    """A split, encoded: usually one example per row, several for a long row.

    ``dataset`` holds what the model reads, unpadded, and ``row``, each example's position in
    ``rows``. Rows that were ``dropped`` have none.
    """

    rows: Rows
    dataset: Dataset
    truncated: int  # rows that were longer than the model was allowed to see
    dropped: int = 0
    notes: tuple[str, ...] = ()  # what is odd about them

    @cached_property
    def lengths(self) -> list[int]:
        """The tokens of each example, those of its longest column."""
        import numpy as np
        import pyarrow.compute as pc
        from pyarrow.types import is_list

        table = self.dataset.with_format("arrow")[:]
        lists = [column for column in table.columns if is_list(column.type)]
        lengths = [pc.list_value_length(column).to_numpy() for column in lists]
        return [int(n) for n in np.max(lengths, axis=0)]

    @property
    def token_columns(self) -> list[str]:
        """The columns of tokens that are read; what generation continues is there once more."""
        names = [name for name in self.dataset.column_names if name.endswith("input_ids")]
        return [name for name in names if not name.startswith(LEFT)]

    @cached_property
    def token_counts(self) -> Counter[int]:
        """How often each token is read."""
        import pyarrow.compute as pc

        counts = Counter[int]()
        for name in self.token_columns if len(self.dataset) else ():
            ids = pc.list_flatten(self.dataset.with_format("arrow")[:][name])
            counts.update({of["values"]: of["counts"] for of in pc.value_counts(ids).to_pylist()})
        return counts

    @cached_property
    def row(self) -> list[int]:
        """The position of each example's row."""
        return list(self.dataset["row"][:])

    def of_rows(self, positions: Sequence[int]) -> Examples:
        """Return the examples of some rows; how many of them were too long is unknown."""
        import pyarrow as pa
        from datasets import Dataset
        from datasets.table import InMemoryTable

        place = {position: new for new, position in enumerate(positions)}
        kept = [i for i, row in enumerate(self.row) if row in place]
        rows = [place[self.row[i]] for i in kept]
        # With Arrow: select and add_column of datasets would write a file next to the cached data,
        # which would then differ from what was written.
        table = self.dataset.with_format("arrow")[kept]
        at = table.column_names.index("row")
        renumbered = table.set_column(at, table.field(at), pa.array(rows, table.field(at).type))
        dataset = Dataset(InMemoryTable(renumbered), info=self.dataset.info.copy())
        return Examples(self.rows.take(positions), dataset, 0)


class Task(ABC, Generic[C]):
    """One kind of supervised problem, with its settings, on one data set, for one model.

    `pipeline.tasks.classification` is the example to follow.

    Args:
        config: the task's settings.
        checkpoint: its model.
        max_length: tokens that the model may see of an example.
        targets: of the training rows.
    """

    config_class: ClassVar[type[AnyTaskConfig]]  # of the settings that the config names
    columns_class: ClassVar[type[AnyColumns]]  # of the keys of `data` that say what is read
    shape_class: ClassVar[type[Shape]]  # of what is read of a record
    baseline_name: ClassVar[str]  # of the baseline, which needs no model
    needs_offsets: ClassVar[bool] = False  # whether it reads where in a text each token is
    # Whether the model reads the tokens of an example once, and no others, such as those it wrote:
    # what its frozen layers make of them can be stored.
    reads_once: ClassVar[bool] = True
    sequences: ClassVar[int] = 1  # computed at once per example, each as long as its longest column
    answers_untrained: ClassVar[bool] = False  # whether a pre-trained model needs no training
    # Metrics of a tokenizer's own tokens: models that read other tokens cannot be compared by them.
    per_token: ClassVar[frozenset[str]] = frozenset()
    # Settings that affect neither tokens nor baseline: trials that differ in them share both.
    after_encoding: ClassVar[frozenset[str]] = frozenset({"objective"})

    def __init__(
        self, config: C, checkpoint: Checkpoint, max_length: int, targets: Targets
    ) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.max_length = max_length
        self.targets = targets

    @classmethod
    def variant(cls, config: C) -> type[Task[C]]:
        """Return the class for these settings."""
        del config  # a task that has variants overrides this
        return cls

    @classmethod
    @abstractmethod
    def metrics(cls, config: C) -> Mapping[str, Direction]:
        """Return metrics by name, without the split, with the direction in which each improves.

        A name that ends in "/" stands for one metric per label: "f1/" for "f1/positive".
        """

    @classmethod
    def shape(cls, config: C, columns: Any) -> Shape:
        """Return what is read of a record, from which columns: an object of `columns_class`."""
        del config  # a task whose settings have a part in it overrides this
        return cls.shape_class(columns)

    @property
    def is_ready(self) -> bool:
        """Whether the model answers without training: the head that it needs, if any, is there."""
        if self.checkpoint.is_new:
            return False
        if self.answers_untrained:
            return True
        needed = self.auto_class.removeprefix("AutoModel")
        names = list(self.head.get("id2label", {}).values())
        has_head = any(needed in one for one in self.checkpoint.config.architectures or ())
        own = self.checkpoint.own_labels(self.auto_class)
        return has_head and len(own) == len(names) and are_matched(own, names)

    @property
    @abstractmethod
    def auto_class(self) -> str:
        """The class of transformers that loads a model for this task."""

    @classmethod
    def uncut(cls, config: C) -> C:
        """Return settings that cut, drop or refuse no row if ``max_length`` exceeds all."""
        return replace(config, long_rows="truncate")

    @classmethod
    def for_prediction(cls, config: C) -> C:
        """Return settings for prediction: each row is answered; none is left out or refused."""
        return replace(config, long_rows="truncate") if config.long_rows != "window" else config

    def check(self) -> None:
        """Refuse a model that cannot do the task, before its weights are read.

        Raises:
            ModelError: naming families that can; also for a tokenizer without offsets, if the task
                needs them.
        """
        self.checkpoint.check_head(self.auto_class, self.config.name)
        if self.needs_offsets and not self.checkpoint.tokenizer.is_fast:
            raise ModelError(
                f"model.checkpoint={self.checkpoint.name}: its tokenizer is written in Python and "
                "does not give the positions of tokens in a text, which "
                f"task={self.config.name} needs."
            )

    @property
    def encoding_refuses(self) -> bool:
        """Whether rows can be refused for their tokens, so that all are encoded early."""
        return self.config.long_rows in ("error", "drop")  # which may leave none

    def kept_rows(
        self, rows: Rows, longer: Sequence[int], length_of: Callable[[int], int], *, training: bool
    ) -> list[int]:
        """Return the positions of the rows that ``task.long_rows`` keeps.

        Args:
            rows: a split.
            longer: positions of those that are too long.
            length_of: returns the number of tokens of a row.
            training: whether this is the training split; others keep all rows, which are cut, so
                that every run is judged on the same ones.

        Raises:
            DataError: for a long row if none is allowed, or if no row is left.
        """
        policy, most = self.config.long_rows, self.max_length
        dropped = set(longer) if policy == "drop" and training else set()
        if longer and (policy == "error" or len(dropped) == len(rows)):
            first = longer[0]
            raise DataError(
                f"row {rows.ids[first]}: {length_of(first)} tokens, and {len(longer)} of "
                f"{len(rows)} rows of its split are longer than training.max_length={most}; "
                f"expected fewer, since task.long_rows={policy}."
            )
        return [i for i in range(len(rows)) if i not in dropped]

    @abstractmethod
    def encode(self, rows: Rows, *, training: bool = False) -> Examples:
        """Turn rows into token ids, and targets if the rows have them.

        Raises:
            DataError: for rows that cannot be learned from.
        """

    @property
    def head(self) -> Mapping[str, Any]:
        """Return what transformers must know of the head that this task needs."""
        return {}

    def load_model(self, **options: Any) -> PreTrainedModel:
        """Load the checkpoint with the head this task needs, in float32."""
        import transformers

        return self.checkpoint.load(getattr(transformers, self.auto_class), **self.head, **options)

    def check_weights(self) -> None:
        """Refuse weights that are not those of the model, see `Checkpoint.check_loads`."""
        import transformers

        self.checkpoint.check_loads(getattr(transformers, self.auto_class), **self.head)

    def begin(self, model: PreTrainedModel) -> None:
        """Take notice of the model, with its adapter, before it is trained."""

    def to_answer(self, rows: Rows) -> Rows:
        """Return rows as a kept model is asked about them, to see that it answers as this one."""
        return rows

    def teach_end(self, model: PreTrainedModel) -> None:
        """Have a model's own settings say where generated text ends; nothing if it has none."""

    def outline(self) -> PreTrainedModel:
        """Build the model that `load_model` loads, without any weights."""
        import transformers

        return self.checkpoint.outline(getattr(transformers, self.auto_class), **self.head)

    def count_parameters(self) -> int:
        """Count parameters in the model's files, else in the model as it would be built."""
        stored = self.checkpoint.count_stored()
        if stored is not None:
            return stored
        return sum(p.numel() for p in self.outline().parameters())

    @abstractmethod
    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return a batch's outputs, each with one entry per example.

        With targets, they include ``loss``, the sum over each example, and ``weight``, what it
        counts: the batch's loss is the sum of the losses divided by the sum of the weights. In
        training mode it is the loss that is minimised, else the plain one, so that trials can be
        compared.
        """

    def generate(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return further outputs, which only evaluations and predictions need."""
        del model, batch
        return {}

    @abstractmethod
    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score outputs by all metrics except the loss."""

    @abstractmethod
    def baseline(self, train: Rows, rows: Rows) -> dict[str, float]:
        """Score the baseline, the best answer that needs no model, by the same metrics."""

    @abstractmethod
    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the predictions, one per row, as columns of a table."""

    def example(self, prediction: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a prediction that shows what all are like, by which a served model is described.

        One that is a list may be empty, of which nothing is seen.
        """
        return prediction

    def answers(self, rows: Rows) -> Sequence[str]:
        """Return the texts of the answers, if answers are texts in a language."""
        del rows
        return ()

    def warnings(self, rows: Rows) -> list[str]:
        """Return what is odd about rows in the light of the task's settings."""
        import transformers

        odd = self.checkpoint.warnings(getattr(transformers, self.auto_class), **self.head)
        given, found = self.config.language, cjk_language(self.answers(rows))
        if found is None or suffix(given):
            return odd
        return [
            *odd,
            f"the answers look like task.language={found}, but it is {given}: word metrics "
            "mean little without spaces between words",
        ]

    def notes(self, examples: Examples) -> list[str]:
        """Return what is odd about examples; also a tokenizer that knows few of their words."""
        tokenizer = self.checkpoint.tokenizer
        unknown, special = tokenizer.unk_token_id, set(tokenizer.all_special_ids)
        ends = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        if unknown is None or unknown in ends:  # as of tokenizers of bytes, which know all words
            return list(examples.notes)
        counts = examples.token_counts
        read = sum(n for token, n in counts.items() if token == unknown or token not in special)
        share = counts.get(unknown, 0) / max(1, read)
        if share < _MUCH_UNKNOWN:
            return list(examples.notes)
        return [
            *examples.notes,
            f"{share:.0%} of the tokens are {tokenizer.unk_token}, unknown to the tokenizer: check "
            "that it is the model's, and of the language of the texts",
        ]

    def counts(self, examples: Examples, outputs: Outputs) -> dict[str, dict[str, int]]:
        """Return numbers of rows by label: those that have it, and what is predicted of them."""
        del examples, outputs
        return {}

    def figures(self, examples: Examples, outputs: Outputs) -> dict[str, Figure]:
        """Return figures of the result by file name."""
        del examples, outputs
        return {}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label names, sorted: the order of the model's outputs."""
        return tuple(self.targets.counts)

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """Build a batch of encoded examples, padded to the longest."""
        from pipeline.models.batches import collate

        return collate(examples, self.checkpoint.tokenizer.pad_token_id)

    def predictions(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the rows with their ids and predictions, column by column."""
        rows = examples.rows
        columns = {name: list(values) for name, values in rows.columns.items()}
        return {"id": list(rows.ids), **columns, **self.decode(examples, outputs)}

    def infer(
        self,
        model: PreTrainedModel,
        examples: Examples,
        batch_size: int | None = None,
        tokens: int | None = None,
        *,
        precision: Precision = "float32",
    ) -> Outputs:
        """Run the model over a split, in order of length, with dropout off.

        Args:
            model: on any device.
            examples: encoded by this task.
            batch_size: most examples at once; None: no limit.
            tokens: most tokens at once, padding included; None: no limit.
            precision: of the matrix products.

        Returns:
            Outputs in the examples' order, those of `forward` and `generate`.
        """
        import torch

        from pipeline.models.batches import autocast, call_tokens, cut, join

        model.eval()
        device = model.device
        lengths = [self.sequences * length for length in examples.lengths]
        cuts = cut(lengths, tokens, call_tokens(model), batch_size)
        parts: list[dict[str, Array]] = []
        with torch.no_grad(), autocast(device, precision):
            for some in cuts:
                rows = examples.dataset.__getitems__(some)
                batch = {name: value.to(device) for name, value in self.collate(rows).items()}
                found = {**self.forward(model, batch), **self.generate(model, batch)}
                parts.append({name: _to_numpy(value) for name, value in found.items()})
        return join(parts, list(chain.from_iterable(cuts)), PADDING)


def _to_numpy(value: torch.Tensor) -> Array:
    value = value.detach().cpu()
    array: Array = (value.float() if value.is_floating_point() else value).numpy()
    return array
