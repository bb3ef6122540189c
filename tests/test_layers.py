"""Who may import whom, kept by reading the imports."""

import ast
import inspect
import threading
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
STEPS = {"data", "tasks", "models", "training", "evaluation", "tracking", "serving"}
BASE = {
    "compose",
    "config",
    "embedded",
    "entries",
    "errors",
    "garbage",
    "html",
    "languages",
    "learning_curve",
    "ledger",
    "machine",
    "masking",
    "outfile",
    "process",
    "states",
    "untrusted",
}
UPPER = {
    "search",
    "cli",
    "console",
    "run",
    "probe",
    "prepared",
    "fairness",
    "winner",
    "label_doubts",
    "job",
    "rerun",
    "resume",
    "predict",
}
MAY_NOT = {
    **dict.fromkeys(BASE, UPPER | STEPS),
    "objective": UPPER | (STEPS - {"tasks", "evaluation"}),
    "terminal": UPPER | (STEPS - {"tracking"}),
    "trial": UPPER | (STEPS - {"training"}),
    **dict.fromkeys(STEPS, UPPER),
    "serving": UPPER | {"training", "tracking"},  # a copy of it lies beside each kept model
    "encoded": UPPER | {"training", "tracking", "serving", "evaluation"},
    "prepared": UPPER - {"prepared"} | {"training", "tracking", "serving"},
    "run": UPPER - {"run", "prepared", "fairness"},
    "probe": UPPER - {"probe", "prepared"} | {"data", "tracking", "serving", "evaluation"},
    "job": UPPER - {"run", "probe", "job"},
    "check": UPPER - {"run", "prepared"} | {"training"},
    "fairness": UPPER - {"prepared"} | {"training", "models", "serving", "tracking"},
    "label_doubts": UPPER - {"winner"} | {"data", "models", "tasks", "training", "serving"},
    "winner": UPPER - {"winner", "fairness", "prepared"} | {"training", "serving", "models"},
    "predict": UPPER - {"predict"},
    "convert": UPPER | (STEPS - {"data"}),
    "rerun": {"search", "cli", "console", "resume"},
    "resume": {"search", "cli", "console"},
    "console": UPPER - {"console"},
    "search": {"cli", "console", "training", "models", "evaluation"},
    "cli": {"data", "tasks", "models", "training", "evaluation", "serving"},
    "__main__": (UPPER | STEPS) - {"cli"},
    "__init__": UPPER | STEPS,
}


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def layer(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_imports_upwards(path):
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("pipeline.")}
    assert not parts & MAY_NOT[layer(path)]


def mentions_mlflow(path: Path) -> bool:
    """Whether a module imports MLflow, or reaches for the store's client."""
    attributes = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    return "client" in attributes or any(n.split(".")[0] == "mlflow" for n in imported(path))


def test_only_tracking_knows_mlflow():
    plugin = sorted((ROOT.parent / "hydra_plugins").rglob("*.py"))
    users = {layer(p) for p in MODULES if mentions_mlflow(p)}
    assert users == {"tracking"}
    assert not [path for path in plugin if mentions_mlflow(path)]


def test_whatever_is_written_to_mlflow_is_written_by_tracking(cli, tiny, monkeypatch):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    writers = set()

    def caller() -> str:
        """Name the layer that the nearest of our functions on the stack is in."""
        if threading.current_thread().name.startswith("mlflow"):
            return "tracking"  # a record's writing thread
        frame = inspect.currentframe()
        while frame and not Path(frame.f_code.co_filename).is_relative_to(ROOT):
            frame = frame.f_back
        return layer(Path(frame.f_code.co_filename)) if frame else "nobody of ours"

    def watched(write):
        def call(*args, **kwargs):
            writers.add((write.__name__, caller()))
            return write(*args, **kwargs)

        return call

    for store in (SqlAlchemyStore, LocalArtifactRepository):
        for name in vars(store):
            if name.startswith(("create_", "log_", "set_", "update_", "delete_")):
                monkeypatch.setattr(store, name, watched(getattr(store, name)))
    assert cli("train", "-m", *tiny, "seed=1,2").code == 0
    assert cli("train", *tiny, "seed=1").code == 0
    assert {writer for _, writer in writers} == {"tracking"}
    assert {"create_run", "log_batch", "set_tag", "log_artifacts"} <= {n for n, _ in writers}
