"""A saved model's folder as an MLflow model: a pyfunc from code, with nothing pickled in it."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.types import DataType, Schema
    from mlflow.types.schema import Array, Object

    from pipeline.serving.predictor import Interface

_PACKAGE = Path(__file__).parent.parent
_CODE = "code"  # folder of the modules that prediction needs
_MODULES = ("__init__.py", "common", "config", "data", "evaluation", "models", "serving", "tasks")
_SERVED = Path(__file__).with_name("served.py")
# What MLflow writes next to the code; more where it finds a project of uv in the working folder.
_FILES = (
    "MLmodel",
    "conda.yaml",
    "input_example.json",
    "python_env.yaml",
    "requirements.txt",
    "serving_input_example.json",
    _SERVED.name,
)
# What the modules above import to predict; MLflow adds itself.
_REQUIREMENTS = (
    "datasets",
    "jinja2",
    "numpy",
    "pandas",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "sentencepiece",
    "torch",
    "transformers",
    "typing_extensions",
)


def write(folder: Path, interface: Interface, run_id: str, model_id: str) -> None:
    """Make the folder of a saved model an MLflow model as well, that of a run.

    The weights stay where they are, next to the code that MLflow runs.
    """
    import mlflow.pyfunc
    import pandas as pd
    import yaml
    from mlflow.models import Model, ModelSignature

    with tempfile.TemporaryDirectory() as made_in, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints on how to write the class
        made = Path(made_in, "model")
        mlflow.pyfunc.save_model(
            made,
            python_model=str(_SERVED),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            signature=ModelSignature(_schema(interface.record), _schema(interface.prediction)),
            input_example=pd.DataFrame([dict(interface.record)]),
            # Without the mark of a build, which no index has.
            pip_requirements=[f"{n}=={version(n).partition('+')[0]}" for n in _REQUIREMENTS],
        )
        for name in _FILES:
            shutil.copy(made / name, folder / name)
    _copy_code(folder / _CODE / _PACKAGE.name)
    # Not by Model.load, which takes a folder for a URL and unescapes its name.
    model = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")))
    pyfunc = model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    pyfunc.pop("cloudpickle_version")  # nothing is pickled
    pyfunc |= {mlflow.pyfunc.CODE: _CODE, "model_code_path": _SERVED.name}
    model.model_size_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    model.save(folder / "MLmodel")


def weights_of(folder: Path) -> list[Path]:
    """Return what a kept model's folder has besides what MLflow needs: all of transformers'.

    The example of an input is a row of the data, and left out as well.
    """
    return sorted(path for path in folder.iterdir() if path.name not in (*_FILES, _CODE))


def _copy_code(place: Path) -> None:
    place.mkdir(parents=True)
    for name in _MODULES:
        source = _PACKAGE / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)


def _schema(example: Mapping[str, Any]) -> Schema:
    from mlflow.types import ColSpec, Schema

    return Schema([ColSpec(_type(value), name) for name, value in example.items()])


def _type(value: Any) -> DataType | Array | Object:
    from mlflow.types import DataType
    from mlflow.types.schema import Array, Object, Property

    if isinstance(value, Mapping):
        return Object([Property(name, _type(one)) for name, one in value.items()])
    if isinstance(value, list):  # of label names where it is empty
        return Array(_type(value[0]) if value else DataType.string)
    kinds = {bool: DataType.boolean, int: DataType.long, float: DataType.double}
    return kinds.get(type(value), DataType.string)
