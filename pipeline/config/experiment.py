"""The schema of an experiment: one dataclass per group; fields with meaning, unit and bounds.

The YAML files under ``conf/`` hold the values and are the menu; this package says which values are
valid, and has no defaults of its own. It imports nothing heavy, so that a bad config is refused
before torch is loaded.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from pipeline.common.errors import ConfigError
from pipeline.config.adapter import AdapterConfig
from pipeline.config.data import DataConfig
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.explain import explain
from pipeline.config.flat import as_tree
from pipeline.config.model import ModelConfig
from pipeline.config.optimizer import OptimizerConfig, ScheduleConfig
from pipeline.config.provider import HostedConfig, ProviderConfig
from pipeline.config.task import TaskConfig
from pipeline.config.tracking import TrackingConfig
from pipeline.config.training import TrainingConfig
from pipeline.config.types import STRICT, Seed, conflict

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(config=STRICT, frozen=True)
class Experiment:
    """One composed, typed config = one run = one record."""

    model: ModelConfig
    task: TaskConfig
    data: DataConfig  # with the columns of the task, which is read first
    adapter: Annotated[AdapterConfig, Field(discriminator="name")]
    provider: ProviderConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig
    seed: Seed  # of the new head's weights, the order of rows, dropout

    @property
    def hosted(self) -> HostedConfig | None:
        """The provider whose service trains; None: this machine does."""
        return self.provider if isinstance(self.provider, HostedConfig) else None

    @model_validator(mode="after")
    def _is_judged_by_the_end_alone(self) -> "Experiment":
        rows, patience = self.evaluation.early_rows, self.training.early_stopping_patience
        means = [text for text in self.evaluation.objectives if "@mean" in text]
        others = [f"evaluation.objective={text}" for text in means]
        if patience is not None:
            others.insert(0, f"training.early_stopping_patience={patience}")
        if rows is not None and others:
            raise conflict(
                f"evaluation.early_rows={rows}: only the last evaluation is on all rows, and "
                f"{others[0]} depends on earlier ones; expected one of the two"
            )
        return self


_SCHEMA = TypeAdapter(Experiment)


def validate(config: "DictConfig") -> Experiment:
    """Turn a composed config, without the ``hydra`` node, into a checked experiment.

    Raises:
        ConfigError: naming the first wrong key, what was found and what was expected.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=…")
    try:
        tree = as_tree(config)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {str(error).splitlines()[0]}") from error
    try:
        return _SCHEMA.validate_python(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, tree, Experiment)) from error
