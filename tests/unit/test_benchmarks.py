"""The benchmarks are run by hand: this says when the code has moved away from under them."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.rglob("*.py"))


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


def test_grid_is_projected_from_one_trial_of_each_batch_size(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / "rivals")
    hf_search = import_module("hf_search")
    grid = {"learning_rate": [1, 2, 3, 4], "batch_size": [8, 16], "warmup": [0.0, 0.1]}
    sample = hf_search.sampled(grid, 2)
    assert sample == {"learning_rate": [3], "batch_size": [8, 16], "warmup": [0.0]}
    trials = [  # after a start of five seconds; a trial lasts until the next one's beginning
        {"params": {"batch_size": 8}, "seconds": 10, "ended": 15},
        {"params": {"batch_size": 16}, "seconds": 2, "ended": 18},
    ]
    assert hf_search.projected(trials, grid) == 5 + 4 * 2 * (10 + 3)


def test_rivals_give_the_trainer_the_searched_keys_alone(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / "rivals")
    common = import_module("common")
    rays = {"learning_rate": 1e-4, "batch_size": 8, "fixed": {"rows": "rows"}}
    names = {"learning_rate": 1e-4, "per_device_train_batch_size": 8}
    assert common.trainer_names(rays) == names
    every = {key for grid in common.GRIDS.values() for key in grid}
    assert every == set(common.NAMES)
