"""The benchmarks are run by hand: this says when the code has moved away from under them."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").rglob("*.py"))


def imported_names(path: Path) -> list[tuple[str, str]]:
    """Return module and name of all that a script imports of ours."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline")
        for alias in node.names
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_benchmark_imports_what_exists(path):
    for module, name in imported_names(path):
        exists = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
        assert exists, f"{module} has no {name}"
