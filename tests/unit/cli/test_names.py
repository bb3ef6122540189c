"""Names and overrides of a command line: how they are told apart, and which are required."""

from contextlib import suppress

import pytest

from pipeline.cli import VERBS, main
from pipeline.cli.common import names_and_overrides


@pytest.mark.parametrize(
    ("words", "keys", "names", "overrides"),
    [
        (["a", "tracking.dir=x", "b"], "", ["a", "b"], ["tracking.dir=x"]),
        (["seed=1", "study"], "", ["study"], ["seed=1"]),
        (
            ["params.seed = '1'", "tracking=x"],
            ("tracking=",),
            ["params.seed = '1'"],
            ["tracking=x"],
        ),
        ([], "", [], []),
    ],
)
def test_names_and_overrides_stand_in_any_order(words, keys, names, overrides):
    assert names_and_overrides(words, keys) == (names, overrides)


@pytest.mark.parametrize("verb", [verb.__name__.rpartition(".")[2] for verb in VERBS])
def test_only_what_is_required_is_missed(verb, capsys, monkeypatch):
    monkeypatch.setattr(f"pipeline.cli.{verb}._run", lambda _: 0)
    with suppress(SystemExit):
        assert main([verb.replace("_", "-")]) == 0
    assert "overrides" not in capsys.readouterr().err.rpartition("required: ")[2]


def test_a_study_is_missed_by_its_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["best"])
    assert capsys.readouterr().err.endswith("required: study\n")


def test_an_unknown_option_shows_its_verbs_usage_and_how_overrides_are_written(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--learning_rate=3"])
    said = capsys.readouterr().err
    assert said.startswith("usage: tunewright train ")
    assert "unrecognized arguments: --learning_rate=3. Overrides have no dashes" in said


def test_a_mistyped_option_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["best", "mine", "--config-nme=night"])
    assert "--config-nme=night. Did you mean --config-name?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "said"), [("ui", "latest"), ("doctor", "all"), ("plan", "sweeps/"), ("runs", "quotes")]
)
def test_several_names_where_one_is_expected_are_refused(verb, said, capsys):
    assert main([verb, "a", "b"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tunewright: a b: expected one ")
    assert said in error
