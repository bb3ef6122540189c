"""The schema of an experiment: one dataclass a group, every field with its meaning, unit and bound.

The YAML files under ``conf/`` hold the values and are the menu; this module says which values are
legal. It imports nothing heavy, so that a bad config is refused before torch is loaded.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
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

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.languages import code
from pipeline.config.migrations import renamed

if TYPE_CHECKING:
    from omegaconf import DictConfig

_STRICT = ConfigDict(extra="forbid")
_MOST_POINTS = 100_000  # of a run, at which it is evaluated or its state kept
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
Positive = Annotated[Number, Field(gt=0)]
Text = Annotated[str, Field(strict=True, min_length=1)]


@dataclass(config=_STRICT, frozen=True)
class EmbeddedFile:
    """A file inside an installed distribution, read as a file: the package's code never runs."""

    distribution: Text  # the name pip knows
    path: Text  # the file, relative to site-packages
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of the file's bytes


class Settings(dict[str, Any]):
    """A mapping of a library's own keys, that can be part of a frozen config."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True, default=str))


@dataclass(config=_STRICT, frozen=True)
class ModelConfig:
    """The model to start from: pre-trained, its weights safetensors, or new from a config."""

    # Hub name, local folder, or the weights file of a package; null: from_config.
    checkpoint: Text | EmbeddedFile | None
    revision: str | None  # branch, tag or commit on the hub
    trust_remote_code: Text | None = None  # the checkpoint once more, where its own code may run
    # A transformers config with its model_type: a model with random weights, of the seed.
    from_config: Annotated[Mapping[str, Any], AfterValidator(Settings)] | None = None
    # Hub name, local folder, or a file beside it in a package; null: the checkpoint's own.
    tokenizer: Text | EmbeddedFile | None = None

    @model_validator(mode="after")
    def _is_one_model(self) -> "ModelConfig":
        if (self.checkpoint is None) == (self.from_config is None):
            raise PydanticCustomError(
                _COMBINATION,
                "model.checkpoint={checkpoint}: expected a checkpoint or model.from_config, and "
                "not both",
                {"checkpoint": self.checkpoint},
            )
        if self.from_config is not None and self.tokenizer is None:
            raise PydanticCustomError(
                _COMBINATION,
                "model.tokenizer=null: a model of model.from_config has no tokenizer of its own; "
                "expected the folder or the hub name of one",
            )
        return self

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

    # Columns, by what the task reads. Classification:
    text: Text  # the text
    label: Text  # its label; several where the task is multi-label
    validation_size: Share  # share of the training rows, cut where no validation split is given
    test_size: Share  # likewise for the test split
    split_seed: Seed  # which rows the cuts take; apart from `seed`, so trials share their rows
    max_train_samples: Count | None  # rows; null: all
    max_validation_samples: Count | None
    max_test_samples: Count | None
    train_share: Annotated[Number, Field(gt=0, le=1)] = 1.0  # of the training rows that is used
    # Cross-validation: parts of the training rows, of which the one of a number is the validation
    # split, and a validation split that is given is left alone; null: none.
    folds: Annotated[int, Field(strict=True, ge=2, le=1000)] | None = None
    fold: Annotated[int, Field(strict=True, ge=0)] = 0
    text_pair: Text | None = None  # a second text that is read with the first; null: there is none
    label_separator: Text | None = None  # between the labels of one cell; null: a cell is a list
    # Summarization and translation:
    input: Text = "source"
    target: Text = "target"
    # Question answering:
    context: Text = "context"
    question: Text = "question"
    answers: Text = "answers"  # {"text": […], "answer_start": […]}; empty lists: no answer
    # Chat: a layout of docs/formats.md; auto: told by each row's keys.
    layout: Text = "auto"

    @model_validator(mode="after")
    def _fold_is_there(self) -> "SplitConfig":
        if self.fold >= (self.folds or 1):
            raise PydanticCustomError(
                _COMBINATION,
                "data.fold={fold}: data.folds={folds} has no part of that number; expected 0 to "
                "one less than data.folds",
                {"fold": self.fold, "folds": "null" if self.folds is None else self.folds},
            )
        return self


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


# Rows longer than training.max_length: cut, left out of training, or refused. They are counted.
LongRows = Literal["truncate", "drop", "error"]
LongTexts = Literal["truncate", "window", "drop", "error"]  # window: overlapping parts, each read


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class AnyTaskConfig:
    """What the model learns to do; shared by every task."""

    objective: Text  # the metric that judges a run unless evaluation.objective says otherwise
    # Of the answers, ISO 639-1: how metrics cut texts into words (zh, ja, ko: characters).
    language: Annotated[str, AfterValidator(code)] = "en"


def _weights(value: Any) -> Any:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < math.inf
        for one in value
    )
    if value not in (None, "balanced") and not (numbers and value):
        raise ValueError("Input should be balanced, or a list of positive numbers, one a label")
    return value


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ClassificationConfig(AnyTaskConfig):
    """One label, or several, for each text or pair of texts."""

    name: Literal["classification"]
    objective: Text = "val/f1_macro"
    # head: a new layer over the model; generative: the probability of the label's name as the
    # model's next words after the prompt, of a decoder or encoder-decoder.
    approach: Literal["head", "generative"] = "head"
    prompt: Text = "{text}\nLabel:"  # of the generative approach; also {text_pair} and {labels}
    multi_label: bool = False  # a row has any number of labels
    # Of each label in the loss, in the labels' sorted order, of several where a row has it;
    # balanced: as rare as it is, of one label a row.
    class_weights: Annotated[
        Literal["balanced"] | tuple[Positive, ...] | None, BeforeValidator(_weights)
    ] = None
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0  # share of the target spread evenly
    long_rows: LongTexts = "truncate"
    stride: Count = 32  # tokens that neighbouring windows share

    @model_validator(mode="after")
    def _fits(self) -> "ClassificationConfig":
        if self.multi_label and self.class_weights == "balanced":
            # It would take the rows without a label, which the counts of labels do not tell.
            raise PydanticCustomError(
                _COMBINATION,
                "task.class_weights=balanced: that is for one label a row, and "
                "task.multi_label=true reads several; expected null or a list of weights, such as "
                "the rows without each label divided by those with it",
            )
        if self.approach == "generative":
            if "{text}" not in self.prompt:
                raise PydanticCustomError(
                    _COMBINATION,
                    "task.prompt={prompt}: expected a template with {text} in it",
                    {"prompt": repr(self.prompt), "text": "{text}"},
                )
            if self.multi_label:
                raise PydanticCustomError(
                    _COMBINATION,
                    "task.multi_label=true: task.approach=generative answers with one label; "
                    "expected task.approach=head",
                )
        return self


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class QuestionAnsweringConfig(AnyTaskConfig):
    """The answer to a question is a span of its context, or there is none."""

    name: Literal["question_answering"]
    objective: Text = "val/f1"
    long_rows: LongTexts = "window"
    stride: Count = 64  # tokens of the context that neighbouring windows share
    n_best: Count = 20  # starts and ends that are looked at for spans
    max_answer_tokens: Count = 30
    # How much better than the best span "no answer" must score to be given, in logits.
    no_answer_threshold: Number = 0.0


@dataclass(config=_STRICT, frozen=True)
class GenerationConfig:
    """How a model writes: passed to transformers' generate."""

    max_new_tokens: Count = 64
    num_beams: Count = 1
    do_sample: bool = False
    temperature: Positive = 1.0  # these two with do_sample only
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Positive = 1.0
    no_repeat_ngram_size: Annotated[int, Field(strict=True, ge=0)] = 0  # 0: repeats are allowed
    length_penalty: Number = 1.0  # of beams: above 0 longer, below 0 shorter


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TextToTextConfig(AnyTaskConfig):
    """A text is written from another one, by an encoder-decoder or a decoder."""

    prefix: str = ""  # before the source; T5 was trained with "summarize: "
    # Between source and target, for decoders, which read both as one text.
    separator: str = "\n"
    max_target_length: Annotated[int, Field(strict=True, ge=4)] = 64  # tokens
    long_rows: LongRows = "truncate"
    generation: GenerationConfig = GenerationConfig()


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SummarizationConfig(TextToTextConfig):
    """A text is written shorter."""

    name: Literal["summarization"]
    objective: Text = "val/rougeL"


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TranslationConfig(TextToTextConfig):
    """A text is written in another language."""

    name: Literal["translation"]
    objective: Text = "val/chrf"


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ChatConfig(AnyTaskConfig):
    """The assistant's replies in conversations, by a decoder."""

    name: Literal["chat"]
    objective: Text = "val/loss"
    chat_template: Text | None = None  # file with a Jinja template; null: the tokenizer's own
    long_rows: LongRows = "truncate"
    generate: bool = True  # write the last reply of each conversation at evaluations, and score it
    generation: GenerationConfig = GenerationConfig()


TaskConfig = (
    ClassificationConfig
    | QuestionAnsweringConfig
    | SummarizationConfig
    | TranslationConfig
    | ChatConfig
)


@dataclass(config=_STRICT, frozen=True)
class FullConfig:
    """All weights are trained."""

    name: Literal["none"] = "none"


@dataclass(config=_STRICT, frozen=True)
class LoraConfig:
    """Low-rank updates beside frozen matrices (LoRA; DoRA splits magnitude off; QLoRA: 4 bits)."""

    name: Literal["lora", "dora", "qlora"]
    r: Count  # rank
    alpha: Positive  # the update is scaled by alpha / r
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    targets: tuple[Text, ...] | None  # names of the matrices; null: those usual for the model


@dataclass(config=_STRICT, frozen=True)
class Ia3Config:
    """Learned scales of keys, values and feed-forward activations (IA3)."""

    name: Literal["ia3"]
    targets: tuple[Text, ...] | None  # names of the matrices; null: those usual for the model


@dataclass(config=_STRICT, frozen=True)
class HeadConfig:
    """The task's new head alone is trained."""

    name: Literal["head"]


@dataclass(config=_STRICT, frozen=True)
class FreezeConfig:
    """The top layers and the head are trained, what is below is frozen."""

    name: Literal["freeze"]
    trained_layers: Count  # from the top


AdapterConfig = FullConfig | LoraConfig | Ia3Config | HeadConfig | FreezeConfig


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
    # Of the matrix products (autocast); weights stay float32. auto: the faster, where the losses
    # agree; a run logs what it took.
    precision: Literal["auto", "float32", "bfloat16"]
    # Defaults of keys that came later: what is logged without them stays valid.
    # Tokens, padding included, that are computed at once: a batch is cut by length to keep within
    # them, and its gradient stays the same; null: a batch is computed whole.
    micro_batch_tokens: Count | None = None
    active_vocabulary: bool = False  # leave out embeddings that the data cannot reach; exact
    unpadding: bool = False  # layers compute no padding, on a CPU, where the model can
    frozen_layer_cache: bool = False  # compute frozen layers once for all trials; exact
    threads: Count | None = None  # of torch; null: as many as the process was given, logged
    deterministic: bool = True  # only algorithms that give the same bits again, where there are
    # Between states on disk, to go on from after a crash: read as eval_every is; null: none.
    checkpoint_every: int | float | None = 1.0
    checkpoint_seconds: NonNegative = 0.0  # of training that must have passed since the last one
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
    def _points_are_few(self) -> "TrainingConfig":
        least = self.epochs / _MOST_POINTS
        for key in ("eval_every", "checkpoint_every"):
            every = getattr(self, key)
            if isinstance(every, float) and every < least:
                raise PydanticCustomError(
                    _COMBINATION,
                    "training.{key}={every}: too often in training.epochs={epochs}; expected at "
                    "least {least}",
                    {"key": key, "every": every, "epochs": self.epochs, "least": least},
                )
        return self

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


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


@dataclass(config=_STRICT, frozen=True)
class EvaluationConfig:
    """How a run is judged."""

    # The metric that judges a run (val/f1_macro, val/f1_macro@last …), or several for a search.
    objective: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    constraints: tuple[Text, ...]  # limits on metrics: val/recall/positive >= 0.9
    # Rows at once, at most; null: only training.micro_batch_tokens counts. No influence on the
    # scores but of sampled texts.
    batch_size: Count | None
    test: bool  # read the test split once, with the best weights, at the end of the run
    # Validation rows of every evaluation but the last, which judges the run alone; null: all rows.
    early_rows: Count | None = None
    # Columns of the data whose values are groups that are compared; one may stand alone.
    slices: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    # List of terms of identity that are swapped to see whether answers change: a YAML file, or
    # default; null: none are.
    counterfactual: Text | None = None

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
    task: Annotated[TaskConfig, Field(discriminator="name")]
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig
    seed: Seed  # of the new head's weights, the order of rows, dropout
    # Later than the others: what was logged without it trained all weights.
    adapter: Annotated[AdapterConfig, Field(discriminator="name")] = FullConfig()

    @model_validator(mode="after")
    def _is_judged_by_the_end_alone(self) -> "Experiment":
        rows, patience = self.evaluation.early_rows, self.training.early_stopping_patience
        means = [text for text in self.evaluation.objectives if "@mean" in text]
        others = [f"evaluation.objective={text}" for text in means]
        if patience is not None:
            others.insert(0, f"training.early_stopping_patience={patience}")
        if rows is not None and others:
            raise PydanticCustomError(
                _COMBINATION,
                "evaluation.early_rows={rows}: only the last evaluation is of all rows, and "
                "{other} goes by those before; expected one of the two",
                {"rows": rows, "other": others[0]},
            )
        return self


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


# What the machine decides where nobody else does; a run logs what it took.
OPEN: Mapping[str, Any] = {"training.threads": None, "training.precision": "auto"}


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
    if now := renamed(key):
        return now
    if found["type"] == "unexpected_keyword_argument":
        parent = ".".join(place[:-1])
        valid = [f"{parent}.{name}".lstrip(".") for name in _fields_at(tree, place[:-1])]
        return f"{key} is no key of the config.{did_you_mean(key, valid)} Valid: {listing(valid)}."
    if found["type"] == "missing":
        return f"{key} must be given: {key}=…"
    if found["type"] == "union_tag_invalid":
        field, name = found["ctx"]["discriminator"].strip("'"), found["ctx"]["tag"]
        valid = [tag.strip("' ") for tag in found["ctx"]["expected_tags"].split(",")]
        return (
            f"{key}.{field}={name}: there is no such {key}.{did_you_mean(name, valid)} "
            f"Valid: {listing(valid)}."
        )
    expected = found["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return f"{key}={here!r}: {expected}."


def _fields_at(tree: Mapping[Any, Any], place: list[str]) -> list[str]:
    """List the names that the schema knows at a place of the config."""
    schema: Any = Experiment
    here: Any = tree
    for part in place:
        here = here[part]
        schema = _chosen(schema.__dataclass_fields__[part].type, here)
    return list(schema.__dataclass_fields__)


def _chosen(annotation: Any, node: Mapping[str, Any]) -> Any:
    """Return the class of a node; of several it is the one whose name or source the node has."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    classes = [c for c in (get_args(annotation) or [annotation]) if hasattr(c, _FIELDS)]
    for chosen in classes:
        for key in ("name", "source"):
            field = getattr(chosen, _FIELDS).get(key)
            if field is not None and node.get(key) in get_args(field.type):
                return chosen
    return classes[0]


_FIELDS = "__dataclass_fields__"
