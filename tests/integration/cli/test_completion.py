"""What TAB proposes: verbs and options, names where a verb takes them, overrides, or files."""

from pathlib import Path

import pytest

GROUP = "more/optimizer/mine.yaml"


@pytest.fixture
def proposed(cli):
    """Ask for what may stand at the end of a line, in a folder with two studies and a group."""
    for folder in ("mlruns/studies/night-1", "elsewhere/studies/day-1"):
        Path(folder).mkdir(parents=True)
    Path(GROUP).parent.mkdir(parents=True)
    Path(GROUP).write_text("name: Adagrad\n")

    def ask(line):
        ended = cli("completion", "--line", f"tunewright {line}")
        assert ended.code == 0, ended.err
        return ended.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("comple", ["completion"]),
        ("list ex", ["experiments"]),
        ("completion z", ["zsh"]),
        ("plan de", ["demo"]),
        ("sweep de", ["demo"]),
        ("best ", ["night-1"]),
        ("compare night-1 n", ["night-1"]),
        ("ui --no-browser n", ["night-1"]),
        ("best tracking.dir=elsewhere d", ["day-1", "data.", "data="]),
        ("train optimizer=sg", ["optimizer=sgd"]),
        ("train -m seed=1,2 training.epo", ["training.epochs="]),
        ("sweep demo seed=1,2 training.epo", ["training.epochs="]),
        ("train -cd more optimizer=mi", ["optimizer=mine"]),
        ("train --config-dir=more optimizer=mi", ["optimizer=mine"]),
        ("compare night-1 --form", ["--format"]),
        ("compare night-1 --format j", ["json"]),
        ("train --cfg a", ["all"]),
        ("train --info d", ["defaults", "defaults-tree"]),
        ("train --info --config-d", ["--config-dir"]),
        ("predict RUN --input ", []),
        ("check -cd ", []),
        ("nothing of ours", []),
    ],
)
def test_what_may_stand_there_is_proposed(proposed, line, expected):
    found = proposed(line)
    assert found[: len(expected)] == expected
    assert bool(found) == bool(expected)


def test_a_second_name_and_a_value_are_not_taken_for_the_first(proposed):
    assert "night-1" not in proposed("best night-1 ")
    assert "night-1" in proposed("ui --port 5001 ")
    assert "demo" not in proposed("sweep demo ")
