"""Who writes to MLflow: tracking alone, in the code and when it runs."""

import ast
import inspect
import threading
from pathlib import Path

import pipeline

ROOT = Path(pipeline.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


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
