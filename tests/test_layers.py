"""Who may import whom, kept by reading the imports."""

import ast
from pathlib import Path

import pytest

import pipeline

ROOT = Path(pipeline.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
STEPS = {"data", "tasks", "models", "training", "evaluation", "tracking"}
MAY_NOT = {
    **{step: {"search", "cli", "run", "job"} for step in STEPS},
    "run": {"search", "cli", "job"},
    "job": {"search", "cli"},
    "search": {"cli", "training", "models", "evaluation"},
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
    forbidden = MAY_NOT.get(layer(path), set())
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("pipeline.")}
    assert not parts & forbidden


def test_only_tracking_knows_mlflow():
    users = {layer(p) for p in MODULES if any(n.split(".")[0] == "mlflow" for n in imported(p))}
    assert users == {"tracking"}
