"""A kept model that predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, cast

from pipeline.api.guest import as_guest
from pipeline.api.overrides import Overrides, as_texts
from pipeline.common.errors import DataError, listing

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.serving.predictor import Predictor


@dataclass(frozen=True)
class Model:
    """A trained model in memory, on a GPU where there is one."""

    source: str  # what it was loaded by
    _predictor: Predictor = field(repr=False)
    _folder: ExitStack = field(repr=False)  # which goes with it, where it was fetched

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read of a record."""
        return self._predictor.inputs

    def predict(
        self,
        records: str | Sequence[str | Mapping[str, Any]] | pd.DataFrame,
        batch_size: int = 64,
    ) -> pd.DataFrame:
        """Return a row of predictions for each text or record.

        Args:
            records: a table or mappings with the model's `inputs`; other columns are not read.
                Texts will do where it reads one column.
            batch_size: records at once.

        Raises:
            DataError: naming the record that cannot be read.
        """
        import pandas as pd

        if isinstance(records, pd.DataFrame):
            index: pd.Index[Any] | None = records.index
            read = cast("list[Mapping[str, Any]]", records.to_dict("records"))
        else:
            index, given = None, [records] if isinstance(records, str) else records
            read = [self._record(one) for one in given]
        with as_guest():
            return pd.DataFrame(self._predictor.predict(read, batch_size=batch_size), index=index)

    def _record(self, given: str | Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(given, Mapping):
            return given
        if not isinstance(given, str):
            raise DataError(
                f"{given!r}: expected a text, or a mapping with {listing(self.inputs)}."
            )
        if len(self.inputs) > 1:
            raise DataError(
                f"{given[:80]!r}: this model reads several columns, {listing(self.inputs)}; "
                "expected a mapping or a table with them."
            )
        return {self.inputs[0]: given}


def load(source: str | PathLike[str], overrides: Overrides = ()) -> Model:
    """Load a kept model.

    Args:
        source: a run's id, a name in MLflow's registry, ``models:/NAME/VERSION``, or a folder.
        overrides: where the store is: ``tracking.dir=…``, ``tracking.uri=…``.

    Raises:
        TunewrightError: where there is no such model, or it is not whole.
    """
    from pipeline.jobs.place import store_at
    from pipeline.serving.predictor import Predictor
    from pipeline.tracking.registry import model_folder

    name, folder = fspath(source), ExitStack()
    with as_guest():
        path = folder.enter_context(model_folder(store_at(as_texts(overrides)), name))
        return Model(name, Predictor.load(path), folder)
