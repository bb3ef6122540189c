"""The rules of the house, read from the code: who may import whom, and how long things are.

`python tests/unit/test_house.py` prints the figures.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median, quantiles

from pipeline.tracking import mlmodel

# Top floor first: a room imports from the rooms below it and from itself, never from above.
ROOMS = (
    "cli",
    "hosting",
    "api",
    "jobs",
    "run",
    "analysis",
    "providers",
    "search",
    "tracking",
    "serving",
    "training",
    "tasks",
    "models",
    "data",
    "evaluation",
    "config",
    "common",
)
# Rooms that may import only some of those below: the engine serves any Hydra program.
ONLY = {"search": {"search", "config", "common"}}
# Private parts of libraries, and the one file that may touch them.
PRIVATE = {
    r"hydra\._internal": "config/hydra_parts.py",
    r"\._storage\b|\._trial_id\b|\._study_id\b|_find_sample_id": "search/optuna_parts.py",
    r"from optuna\S*\._|fixed_params": "search/optuna_parts.py",
    r"\._forkserver\b": "search/workers/fork_server.py",
    r"_model_mapping|_is_hf_initialized|_commit_hash": "models/transformers_parts.py",
    r"\b_attn_implementation": "models/transformers_parts.py",
    r"\b_\w+_hooks\b|[\"']_hooks\b|torch\._\w+\(|[\"']_extra_state": "models/torch_parts.py",
    r"_tr_loss|_globalstep_last_logged|_n_gpu\b": "training/trainer.py",
    r"omegaconf\._": "config/untrusted.py",
    r"logging\._handler": "api/guest.py",
}
# What may be kept outside of `pipeline.common.session`: it is the same whatever the process does.
CONSTANT = {
    "pipeline.common.process.identity": "the process itself",
    "pipeline.common.secrets._is_secret": "a pattern's answer on a key",
    "pipeline.common.token_shapes._known": "the patterns of detect-secrets",
    "pipeline.analysis.data_check.texts._script": "Unicode's name of a character",
    "pipeline.search.samplers._warn": "a warning is given once a process",
    "pipeline.search.space.filters._parse": "the syntax tree of an expression",
    "pipeline.tasks.encoded_cache._code": "a digest of our own code",
    "pipeline.tracking.provenance._packages": "the installed packages",
}
# Who names modules of ours in a text, so that no import shows it, and why.
BY_NAME = {
    "pipeline.cli.ui": "another process opens the browser: this one becomes the server",
    "pipeline.config.provider": "a service is found by its name, as a task is",
    "pipeline.config.task": "a task is found by its name: the room knows none of them",
    "pipeline.jobs.warm_up": "the fork server imports them, not this process",
    "pipeline.search.workers.fork_server": "the fork server imports it, not this process",
}
CACHES = {"cache", "lru_cache"}  # of functools
LOGGERS = {"getLogger"}  # a logger's name is no import
TESTS = Path(__file__).resolve().parents[1]
TIERS = ("unit", "integration", "system")
ENTRANCES = {"__init__.py", "__main__.py"}
ROOT = Path(__file__).resolve().parents[2] / "pipeline"
MOST_LINES = 60  # of a function
MOST_OF_FILES = {"median": 130, "90 %": 300}  # lines


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax trees by dotted name."""
    return {
        name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))
    }


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(name: str) -> Iterator[str]:
    """Yield the modules of pipeline that a module imports when it runs, inside functions too."""
    for node in _executed(trees()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in trees())
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found = below if below in trees() else node.module
                if found in trees():
                    yield found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one that run: what is for type checkers alone does not."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _executed(child)


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def arrows() -> Iterator[tuple[str, str]]:
    """Yield who imports whom."""
    for name in trees():
        yield from ((name, other) for other in imported(name) if other != name)


def upwards() -> list[str]:
    """Return the imports from a room into one above it."""
    floor = {name: ROOMS.index(room(name)) for name in trees() if room(name) in ROOMS}
    return [f"{a} -> {b}" for a, b in arrows() if a in floor and floor.get(b, 99) < floor[a]]


def not_allowed() -> list[str]:
    """Return the imports of a room that keeps to few others into one it does not know."""
    return [f"{a} -> {b}" for a, b in arrows() if room(b) not in ONLY.get(room(a), {room(b)})]


def private_parts() -> list[str]:
    """Return where private parts of a library are touched outside their one file."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        for pattern, home in PRIVATE.items()
        if path != ROOT / home and re.search(pattern, line)
    ]


def kept_apart() -> list[str]:
    """Return the functions with a cache of their own; another use is named by its line."""
    found = []
    for name, tree in trees().items():
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        of = {used: f.name for f in functions for d in f.decorator_list for used in ast.walk(d)}
        found += [f"{name}.{of.get(node, node.lineno)}" for node in _caches(tree)]
    return sorted(found)


def _caches(tree: ast.Module) -> Iterator[ast.Name | ast.Attribute]:
    """Yield where a file uses a cache of functools."""
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "functools"]
    names = {a.asname or a.name for n in froms for a in n.names if a.name in CACHES}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in names:
                yield node
            case ast.Attribute(value=ast.Name(id="functools"), attr=name) if name in CACHES:
                yield node


def named_in_texts() -> set[str]:
    """Return the modules that name a module of ours in a text, as `import_module` takes it."""
    found = set()
    for name, tree in trees().items():
        logged = {
            text
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in LOGGERS
            for text in call.args
        }
        texts = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in logged)
        if any(isinstance(n.value, str) and _is_ours(n.value) for n in texts):
            found.add(name)
    return found


def _is_ours(text: str) -> bool:
    return text.startswith("pipeline.") and text.rstrip(".") in trees()


def circle() -> list[str]:
    """Return the files of a circle of imports; empty where there is none."""
    graph = TopologicalSorter({name: set(imported(name)) - {name} for name in trees()})
    try:
        graph.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def loose() -> list[str]:
    """Return what is at the top of pipeline/ and is no room."""
    names = {path.name for path in ROOT.iterdir()} - ENTRANCES - {"__pycache__"}
    return sorted(names - {*ROOMS, "run.py"})


def long_functions() -> list[str]:
    """Return the functions of more lines than a reader holds in mind."""
    functions = (
        (name, node)
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    lines = ((f"{n}.{f.name}", (f.end_lineno or 0) - f.lineno + 1) for n, f in functions)
    return [f"{name}: {count} lines" for name, count in lines if count > MOST_LINES]


def file_lengths() -> dict[str, float]:
    """Return how many lines a file has: the median, and what nine of ten keep within."""
    lengths = [len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")]
    return {"median": median(lengths), "90 %": quantiles(lengths, n=10)[-1]}


def test_no_import_goes_upwards():
    assert upwards() == []


def test_the_engine_knows_nothing_of_fine_tuning():
    assert not_allowed() == []


def test_what_a_kept_model_runs_is_copied_with_it():
    copied = {"", *mlmodel._MODULES}  # rooms
    served = [(a, b) for a, b in arrows() if room(a) in copied or a == "pipeline.tracking.served"]
    assert "pipeline.tracking.served" in dict(served)
    assert [f"{a} -> {b}" for a, b in served if room(b) not in copied] == []


def test_private_parts_of_a_library_are_touched_in_one_file():
    assert private_parts() == []


def test_what_runs_share_is_kept_by_the_session():
    apart = [name for name in kept_apart() if not name.startswith("pipeline.common.session.")]
    assert apart == sorted(CONSTANT)


def test_modules_named_in_texts_are_few():
    assert named_in_texts() == set(BY_NAME)


def test_no_circle_between_files():
    assert circle() == []


def test_no_loose_module():
    assert loose() == []


def test_no_long_function():
    assert long_functions() == []


def test_files_are_short():
    found = file_lengths()
    assert {name: most for name, most in MOST_OF_FILES.items() if found[name] > most} == {}, found


def test_run_is_short():
    assert len((ROOT / "run.py").read_text("utf-8").splitlines()) < 100


def test_no_test_file_imports_another():
    found = [
        f"{path.relative_to(TESTS)}: {module}"
        for path in TESTS.rglob("*.py")
        for module in _modules_named(ast.parse(path.read_text("utf-8")))
        if module.startswith(("tests.", "conftest", "test_"))
        and not module.startswith("tests.support")
    ]
    assert found == []


def test_every_test_file_says_what_it_alone_is_about():
    about: dict[str | None, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        about.setdefault(docstring, []).append(str(path.relative_to(TESTS)))
    assert None not in about, about[None]
    assert [paths for paths in about.values() if len(paths) > 1] == []


def test_tests_lie_in_tiers_that_mirror_the_rooms():
    files = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    assert {path.parts[0] for path in files} == {*TIERS}
    assert {path.parts[1] for path in files if len(path.parts) > 2} <= {*ROOMS}


def _modules_named(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a file imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


if __name__ == "__main__":
    print(f"files {len(trees())}; lines: {file_lengths()}")
    print(f"circles {len(circle()) and 1}, imports upwards {len(upwards())}")
    print(f"functions over {MOST_LINES} lines {len(long_functions())}, loose {len(loose())}")
