"""The model group: which checkpoint, or which new model, a run starts from."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator
from pydantic.dataclasses import dataclass

from pipeline.config.types import (
    STRICT,
    Access,
    EmbeddedFile,
    FolderOrName,
    Revision,
    Settings,
    Text,
    conflict,
)


@dataclass(config=STRICT, frozen=True)
class ModelConfig:
    """The model to start from: pre-trained, its weights safetensors, or new from a config."""

    # Hub name, local folder, or the weights file of a package; null: from_config.
    checkpoint: FolderOrName | EmbeddedFile | None
    revision: Revision | None  # branch, tag or commit on the hub
    trust_remote_code: Text | None  # the checkpoint's name again, to allow its own code to run
    # A transformers config with its model_type: a model with random weights, drawn by seed.
    from_config: Annotated[Mapping[str, Any], AfterValidator(Settings), Access.FILE] | None
    # Hub name, local folder, or a file of a package; null: the checkpoint's own. A name of
    # conf/model is composed into that model's checkpoint.
    tokenizer: FolderOrName | EmbeddedFile | None

    @model_validator(mode="after")
    def _is_one_model(self) -> "ModelConfig":
        if (self.checkpoint is None) == (self.from_config is None):
            raise conflict(
                f"model.checkpoint={self.checkpoint}: expected a checkpoint or model.from_config, "
                "and not both"
            )
        if self.from_config is not None and self.tokenizer is None:
            raise conflict(
                "model.tokenizer=null: a model of model.from_config has no tokenizer of its own; "
                "expected a model of conf/model, the folder or the hub name of one"
            )
        return self

    @model_validator(mode="after")
    def _trusts_by_name(self) -> "ModelConfig":
        if self.trust_remote_code not in (None, self.checkpoint):
            name = "a model.checkpoint of that name; code of a package's model never runs"
            if isinstance(self.checkpoint, str):
                name = f"the name in model.checkpoint, {self.checkpoint}"
            raise conflict(
                f"model.trust_remote_code={self.trust_remote_code}: expected null or {name}"
            )
        return self
