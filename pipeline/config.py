"""The schema of an experiment: one dataclass a group, every field with its meaning, unit and bound.

The YAML files under ``conf/`` hold the values and are the menu; this module says which values are
legal. It imports nothing heavy, so that a bad config is refused before torch is loaded.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.errors import ConfigError, did_you_mean, listing

if TYPE_CHECKING:
    from omegaconf import DictConfig

_STRICT = ConfigDict(extra="forbid")
_COMBINATION = "combination"  # the type of our errors that are about two keys and name them


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for 0 and 1
        raise ValueError("Input should be a valid number")
    return value


Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Count = Annotated[
    int, Field(strict=True, ge=1, lt=2**31)
]  # a whole number of rows, steps or tokens
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Share = Annotated[Number, Field(gt=0, lt=1)]  # a part of the whole, both ends excluded
NonNegative = Annotated[Number, Field(ge=0)]
Text = Annotated[str, Field(strict=True, min_length=1)]


@dataclass(config=_STRICT, frozen=True)
class EmbeddedFile:
    """A file inside an installed distribution, read as a file: the package's code never runs."""

    distribution: Text  # the name pip knows
    path: Text  # the file, relative to site-packages
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of the file's bytes


@dataclass(config=_STRICT, frozen=True)
class ModelConfig:
    """The pre-trained model to start from; its weights are safetensors."""

    checkpoint: Text | EmbeddedFile  # hub name, local folder, or the weights file of a package
    revision: str | None  # branch, tag or commit on the hub
    trust_remote_code: Text | None = None  # the checkpoint once more, where its own code may run

    @model_validator(mode="after")
    def _trusts_by_name(self) -> "ModelConfig":
        if self.trust_remote_code not in (None, self.checkpoint):
            is_named = isinstance(self.checkpoint, str)
            raise PydanticCustomError(
                _COMBINATION,
                "model.trust_remote_code={trusted}: expected null or {name}",
                {
                    "trusted": self.trust_remote_code,
                    "name": f"the name in model.checkpoint, {self.checkpoint}"
                    if is_named
                    else "a model.checkpoint of that name; code of a package's model never runs",
                },
            )
        return self


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SplitConfig:
    """Which columns are read and how missing splits are cut; shared by every source."""

    text: Text  # column with the text
    label: Text  # column with the label
    validation_size: Share  # share of the training rows, cut where no validation split is given
    test_size: Share  # likewise for the test split
    split_seed: Seed  # which rows the cuts take; apart from `seed`, so trials share their rows
    max_train_samples: Count | None  # rows; null: all
    max_validation_samples: Count | None
    max_test_samples: Count | None


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class FilesConfig(SplitConfig):
    """Rows from files: csv, tsv, json, jsonl, parquet or arrow, told by the suffix."""

    source: Literal["files"]
    train: Text | EmbeddedFile  # path, relative to the working folder
    validation: Text | None
    test: Text | None
    encoding: Text  # of the text formats; a byte order mark is accepted

    @property
    def title(self) -> str:
        """What the rows are called: their training file."""
        file = self.train
        return f"{file.distribution}/{file.path}" if isinstance(file, EmbeddedFile) else file


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class HubConfig(SplitConfig):
    """Rows of a Hugging Face data set."""

    source: Literal["hub"]
    name: Text  # owner/name on the hub, or a local folder that datasets can load
    subset: str | None  # the hub calls it a config
    revision: str | None
    train: Text  # names of the hub's splits
    validation: Text | None
    test: Text | None

    @property
    def title(self) -> str:
        """What the rows are called: the data set's name, with subset and revision."""
        subset = f"/{self.subset}" if self.subset else ""
        return self.name + subset + (f"@{self.revision}" if self.revision else "")


DataConfig = FilesConfig | HubConfig


@dataclass(config=_STRICT, frozen=True)
class TaskConfig:
    """What the model learns to do."""

    name: Text  # a module of pipeline/tasks


@dataclass(config=_STRICT, frozen=True)
class OptimizerConfig:
    """A class of torch.optim and its hyperparameters; an optimizer's YAML lists those it has."""

    name: Text  # the class: AdamW, Adafactor, SGD, NAdam …
    learning_rate: Annotated[Number, Field(gt=0, le=10)]  # peak, after warm-up
    # Decoupled where the class can; never on biases and norms.
    weight_decay: Annotated[Number, Field(ge=0, le=1)]
    beta1: Annotated[Number, Field(ge=0, lt=1)] | None = None  # Adam's first-moment decay
    beta2: Annotated[Number, Field(ge=0, lt=1)] | None = None  # Adam's second-moment decay
    eps: Annotated[Number, Field(gt=0, le=1)] | None = None
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = None
    nesterov: bool | None = None
    beta2_decay: Annotated[Number, Field(ge=-1, lt=0)] | None = None  # of beta2, in Adafactor
    d: Annotated[Number, Field(gt=0)] | None = None  # Adafactor's update clipping threshold


@dataclass(config=_STRICT, frozen=True)
class ScheduleConfig:
    """How the learning rate moves over the steps of the whole run."""

    name: Literal["linear", "cosine", "constant", "warmup_stable_decay"]
    warmup: int | float  # a whole number is steps; a share of all steps has a point: 0.06
    decay: Share | None = None  # share of the steps in which warmup_stable_decay falls to zero

    @field_validator("warmup", mode="before")
    @classmethod
    def _unambiguous(cls, value: Any) -> int | float:
        is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        is_share = isinstance(value, float) and 0 <= value < 1  # which NaN is not
        if not is_steps and not is_share:
            raise ValueError(
                "Input should be a whole number of steps (0, 100) or a share of all steps "
                "written with a point, at least 0.0 and below 1.0 (0.06)"
            )
        number: int | float = value
        return number

    @model_validator(mode="after")
    def _decay_fits(self) -> "ScheduleConfig":
        decays = self.name == "warmup_stable_decay"
        if decays and self.decay is None:
            raise PydanticCustomError(
                _COMBINATION,
                "schedule.decay=null: expected a share of all steps (0.2), since "
                "schedule.name=warmup_stable_decay decays; schedule=warmup_stable_decay brings one",
            )
        if not decays and self.decay is not None:
            raise PydanticCustomError(
                _COMBINATION,
                "schedule.decay={decay}: expected none, since schedule.name={name} has no decay to "
                "set; schedule=warmup_stable_decay has",
                {"decay": self.decay, "name": self.name},
            )
        if isinstance(self.warmup, float) and self.warmup + (self.decay or 0.0) > 1:
            raise PydanticCustomError(
                _COMBINATION,
                "schedule.decay={decay}: expected at most what schedule.warmup={warmup} leaves of "
                "the steps, {left}",
                {"decay": self.decay, "warmup": self.warmup, "left": round(1 - self.warmup, 6)},
            )
        return self


@dataclass(config=_STRICT, frozen=True)
class TrainingConfig:
    """The loop: how long, in what batches, how often it is judged."""

    epochs: Annotated[Number, Field(gt=0, le=10_000)]  # passes over the training split
    batch_size: Count  # rows whose mean gradient makes one optimizer step
    max_length: Annotated[
        int, Field(strict=True, ge=4)
    ]  # tokens; longer texts are cut, and counted
    max_grad_norm: NonNegative  # gradient clipping; 0: none
    # A whole number is steps between evaluations; with a point: epochs; a list: at these epochs.
    # The end is always evaluated.
    eval_every: int | float | tuple[float, ...]
    logging_steps: Count  # steps between points of train/loss
    early_stopping_patience: Count | None  # evaluations without a better objective; null: never
    precision: Literal[
        "float32", "bfloat16"
    ]  # of the matrix products (autocast); weights stay float32
    # Defaults of keys that came later: what is logged without them stays valid.
    threads: Count | None = None  # of torch; null: as many as the process was given, logged
    deterministic: bool = True  # only algorithms that give the same bits again, where there are
    # Between states on disk, to go on from after a crash: read as eval_every is; null: none.
    checkpoint_every: int | float | None = 1.0
    keep_checkpoints: Count = 1  # states; the best weights are kept beside them

    @field_validator("eval_every", mode="before")
    @classmethod
    def _unambiguous(cls, value: Any) -> int | float | tuple[float, ...]:
        is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        epochs = value if isinstance(value, list | tuple) else [value]
        are_epochs = all(isinstance(e, float) and 0 < e < math.inf for e in epochs)
        if not is_steps and not (epochs and are_epochs):
            raise ValueError(
                "Input should be a whole number of steps (50), a number of epochs written with a "
                "point (0.25, 1.0), or a list of such numbers of epochs"
            )
        every: int | float | tuple[float, ...] = tuple(value) if isinstance(value, list) else value
        return every

    @field_validator("checkpoint_every", mode="before")
    @classmethod
    def _steps_or_epochs(cls, value: Any) -> int | float | None:
        is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        are_epochs = isinstance(value, float) and 0 < value < math.inf
        if value is not None and not is_steps and not are_epochs:
            raise ValueError(
                "Input should be a whole number of steps (50), a number of epochs written with a "
                "point (0.25, 1.0), or null"
            )
        every: int | float | None = value
        return every

    @model_validator(mode="after")
    def _evaluates_within(self) -> "TrainingConfig":
        if isinstance(self.eval_every, tuple) and max(self.eval_every) > self.epochs:
            raise PydanticCustomError(
                _COMBINATION,
                "training.eval_every={every}: {last} is after the end; expected epochs up to "
                "training.epochs={epochs}",
                {
                    "every": list(self.eval_every),
                    "last": max(self.eval_every),
                    "epochs": self.epochs,
                },
            )
        return self


@dataclass(config=_STRICT, frozen=True)
class EvaluationConfig:
    """How a run is judged."""

    # The metric that judges a run (val/f1_macro, val/f1_macro@last …), or several for a search.
    objective: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    constraints: tuple[Text, ...]  # limits on metrics: val/recall/positive >= 0.9
    batch_size: Count  # rows at once; no influence on the scores
    test: bool  # read the test split once, with the best weights, at the end of the run

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives, also where there is one."""
        return (self.objective,) if isinstance(self.objective, str) else self.objective


@dataclass(config=_STRICT, frozen=True)
class TrackingConfig:
    """Where the record goes."""

    dir: Text  # folder of the local store: database, artifacts, studies, outputs
    uri: Text | None  # any MLflow tracking URI; null: the local store's sqlite database
    experiment: Text  # MLflow experiment


@dataclass(config=_STRICT, frozen=True)
class Experiment:
    """One composed, typed config = one run = one record."""

    model: ModelConfig
    data: Annotated[DataConfig, Field(discriminator="source")]
    task: TaskConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig
    seed: Seed  # of the new head's weights, the order of rows, dropout


_SCHEMA = TypeAdapter(Experiment)


def validate(config: "DictConfig") -> Experiment:
    """Turn a composed config into a checked experiment.

    Args:
        config: the composed tree, without the ``hydra`` node.

    Raises:
        ConfigError: naming the first wrong key, what was found and what was expected.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=…")
    try:
        tree = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {str(error).splitlines()[0]}") from error
    assert isinstance(tree, dict)
    tree = _without_search_blocks(tree)
    try:
        experiment: Experiment = _SCHEMA.validate_python(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, tree)) from error
    return experiment


def as_tree(config: "DictConfig") -> dict[str, Any]:
    """Return a composed config as the experiment that it is: plain values, resolved."""
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(config, resolve=True)
    assert isinstance(tree, dict)
    return _without_search_blocks(tree)


def flat(config: "DictConfig") -> dict[str, Any]:
    """Return a composed config's values by dotted key, interpolations resolved."""
    return flatten(as_tree(config))


def settings(flat: Mapping[str, Any], *, with_threads: bool = True) -> dict[str, Any]:
    """Return what has a part in a result: not where it is recorded.

    Args:
        flat: values by dotted key.
        with_threads: whether the threads count, which the machine may decide and which have a part
            in the last bits only.
    """
    apart = ("tracking.",) if with_threads else ("tracking.", "training.threads")
    return {key: value for key, value in flat.items() if not key.startswith(apart)}


def _without_search_blocks(tree: Mapping[Any, Any]) -> dict[Any, Any]:
    """Leave out what a group's file may say of its own search; it is no part of an experiment."""
    return {
        group: {key: value for key, value in node.items() if key != "search"}
        if isinstance(node, Mapping)
        else node
        for group, node in tree.items()
    }


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"optimizer.learning_rate": 5e-5, …}``: the leaves of a tree by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _explain(error: ValidationError, tree: Mapping[Any, Any]) -> str:
    """Say the first of pydantic's findings in our words: place, found, expected, nearest name."""
    found = error.errors()[0]
    if found["type"] == _COMBINATION:
        return f"{found['msg']}."
    # Drop the tags that pydantic adds for the branches of a union: they are no keys of the config.
    place: list[str] = []
    here: Any = tree
    for part in found["loc"]:
        if isinstance(here, Mapping) and (part in here or found["type"] == "missing"):
            here = here.get(part)
            place.append(str(part))
    key = ".".join(place) or "config"
    if found["type"] == "unexpected_keyword_argument":
        parent = ".".join(place[:-1])
        valid = [f"{parent}.{name}".lstrip(".") for name in _fields_at(tree, place[:-1])]
        return f"{key} is no key of the config.{did_you_mean(key, valid)} Valid: {listing(valid)}."
    if found["type"] == "missing":
        return f"{key} must be given: {key}=…"
    expected = found["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return f"{key}={here!r}: {expected}."


def _fields_at(tree: Mapping[Any, Any], place: list[str]) -> list[str]:
    """List the names that the schema knows at a place of the config."""
    schema: Any = Experiment
    for part in place:
        annotation = schema.__dataclass_fields__[part].type
        if part == "data":
            data = tree["data"]
            annotation = HubConfig if data.get("source") == "hub" else FilesConfig
        if not hasattr(annotation, "__dataclass_fields__"):
            return list(EmbeddedFile.__dataclass_fields__)
        schema = annotation
    return list(schema.__dataclass_fields__)
