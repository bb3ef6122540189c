"""The data group: where rows come from, which columns are read, how splits are cut."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass

from pipeline.common.errors import listing
from pipeline.common.text_format import check_delimiter
from pipeline.config.task import AnyColumns, columns_class, split_columns
from pipeline.config.types import (
    STRICT,
    Access,
    Count,
    EmbeddedFile,
    FolderOrName,
    Number,
    Revision,
    Seed,
    Share,
    Text,
    conflict,
)


def _paths(value: Any) -> Any:
    several = value if isinstance(value, list | tuple) else [value]
    if not several or not all(isinstance(path, str) and path for path in several):
        raise ValueError("Input should be a path, or a list of paths")
    return value


# One file, a folder or a pattern (`data/*.csv`), or several of them.
Files = Annotated[str | tuple[str, ...], BeforeValidator(_paths), Access.FILES]
SplitName = Annotated[Text, Access.SPLIT]
Delimiter = Annotated[str, BeforeValidator(check_delimiter)]


@dataclass(config=STRICT, frozen=True, kw_only=True)
class SplitConfig:
    """How missing splits are cut, and how many rows are read; shared by every source."""

    columns: InstanceOf[AnyColumns]  # what the task reads of a record, by the task's own keys
    validation_size: Share  # share of the training rows, cut if no validation split is given
    test_size: Share  # likewise for the test split
    split_seed: Seed  # which rows the cuts take; independent of `seed`, so trials share their rows
    max_train_samples: Count | None  # rows; null: all
    max_validation_samples: Count | None
    max_test_samples: Count | None
    train_share: Annotated[Number, Field(gt=0, le=1)]  # share of the training rows to use
    # Cross-validation: number of parts of the training rows, one of which is the validation split;
    # a given validation split is not used; null: none.
    folds: Annotated[int, Field(strict=True, ge=2, le=1000)] | None
    fold: Annotated[int, Field(strict=True, ge=0, lt=1000)]

    @model_validator(mode="after")
    def _fold_is_there(self) -> "SplitConfig":
        if self.fold >= (self.folds or 1):
            folds = "null" if self.folds is None else self.folds
            raise conflict(
                f"data.fold={self.fold}: data.folds={folds} has no part of that number; expected 0 "
                "to one less than data.folds"
            )
        return self


@dataclass(config=STRICT, frozen=True, kw_only=True)
class FilesConfig(SplitConfig):
    """Rows from files: csv, tsv, json, jsonl, parquet or arrow, recognized by the suffix.

    The text formats may be compressed: ``rows.csv.gz``.
    """

    source: Literal["files"]
    train: Files | EmbeddedFile  # paths, relative to the working folder
    validation: Files | None
    test: Files | None
    encoding: Text  # of the text formats; a byte order mark goes before it
    delimiter: Delimiter | None  # of csv and tsv; null: the suffix's
    quoting: Literal["minimal", "none"]  # of csv and tsv

    @property
    def title(self) -> str:
        """The name of the rows: their training files."""
        files = self.train
        if isinstance(files, EmbeddedFile):
            return f"{files.distribution}/{files.path}"
        return files if isinstance(files, str) else listing(files, most=3)


@dataclass(config=STRICT, frozen=True, kw_only=True)
class HubConfig(SplitConfig):
    """Rows of a Hugging Face data set."""

    source: Literal["hub"]
    name: FolderOrName  # owner/name on the hub, or a local folder that datasets can load
    subset: str | None  # the hub calls it a config
    revision: Revision | None
    train: SplitName  # names of the hub's splits
    validation: SplitName | None
    test: SplitName | None

    @property
    def title(self) -> str:
        """The name of the rows: the data set's, with subset and revision."""
        subset = f"/{self.subset}" if self.subset else ""
        return self.name + subset + (f"@{self.revision}" if self.revision else "")


_SOURCE: TypeAdapter[FilesConfig | HubConfig] = TypeAdapter(
    Annotated[FilesConfig | HubConfig, Field(discriminator="source")]
)


def _with_columns(value: Any, info: ValidationInfo) -> Any:
    """Check a source, and its columns against the class of the task that was read before it."""
    task = info.data.get("task")
    if task is None or isinstance(value, SplitConfig):
        return value  # without a task all is refused anyway
    if not isinstance(value, Mapping):
        return _SOURCE.validate_python(value)
    given, others = split_columns(value, task.name)
    source = _SOURCE.validate_python({"columns": AnyColumns(), **others})
    columns = TypeAdapter(columns_class(task.name)).validate_python(given)
    return replace(source, columns=columns)


DataConfig = Annotated[FilesConfig | HubConfig, PlainValidator(_with_columns)]
