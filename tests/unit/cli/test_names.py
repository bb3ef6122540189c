"""Names and overrides are told apart in a command line."""

import pytest

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
