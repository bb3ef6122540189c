"""The code MLflow runs for a kept model: copied next to its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model

from pipeline.common.errors import TunewrightError
from pipeline.serving.predictor import Predictor

if TYPE_CHECKING:

    class PythonModel:
        """MLflow's, which has no types."""

else:
    from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    """A kept model as MLflow calls it."""

    def load_context(self, context: Any) -> None:
        """Load the model of the folder that this file is in."""
        del context
        self._predictor = Predictor.load(Path(__file__).parent)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return a prediction a row of a table with the model's input columns.

        Raises:
            MlflowException: naming a row that cannot be read.
        """
        del context, params
        names = self._predictor.inputs
        columns = [[_plain(value) for value in model_input[name]] for name in names]
        records = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        try:
            return self._predictor.predict(records)
        except TunewrightError as error:  # which a server would hide below a trace
            raise MlflowException.invalid_parameter_value(str(error)) from error


def _plain(value: Any) -> Any:
    """Return a conversation as a list: MLflow may make it an array."""
    return value.tolist() if hasattr(value, "tolist") else value


set_model(Served())
