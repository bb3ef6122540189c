"""The space: Hydra's grammar means the same to every sampler, and goes there and back."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.common.errors import ConfigError
from pipeline.config.compose import choice, literal
from pipeline.search.space.grammar import parse_space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,c", CategoricalDistribution(["a", "b", "c"])),
        ("1,2.5,true,null", CategoricalDistribution([1, 2.5, True, "null"])),
        ("1,1,2", CategoricalDistribution([1, 2])),
        ("range(1,4)", IntDistribution(1, 3)),
        ("range(0,10,4)", IntDistribution(0, 8, step=4)),
        ("range(5,0,-2)", IntDistribution(1, 5, step=2)),
        ("range(0.1,0.4,0.1)", FloatDistribution(0.1, 0.3, step=0.1)),
        ("interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
        ("int(interval(1.0,8.0))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
    ],
)
def test_the_grammar_as_distributions(text, expected):
    assert parse_space([f"key={text}"]).distributions == {"key": expected}


def test_grid_equals_hydras_own_multirun():
    given_ = ["a=1,2", "b=range(1,4)", "c=x", "d=true,null", "e=range(0.0,1.0,0.25)"]
    overrides = OverridesParser.create().parse_overrides(given_)
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    space = parse_space(given_)
    ours = [sorted(space.overrides(point)) for point in space.grid()]
    assert ours == [sorted(o.replace("=True", "=true") for o in job) for job in batch]
    assert space.size == len(batch)


words = st.text("abcxyz", min_size=1, max_size=5).filter(lambda s: s not in ("inf", "nan"))
values = st.one_of(st.integers(-9, 9), st.floats(-1e6, 1e6), st.booleans(), words)


@given(st.lists(values, min_size=1, max_size=5))
def test_a_choice_comes_back_from_the_override_it_became(choices):
    def text(value):
        return str(value).lower() if isinstance(value, bool) else str(value)

    space = parse_space([f"key=choice({','.join(text(v) for v in choices)})"])
    for point in space.grid():
        (override,) = OverridesParser.create().parse_overrides(space.overrides(point))
        assert override.value() == point["key"]


@example(["\\0", "a\\", "it's", "A¹", "\\'"])
@given(st.lists(st.one_of(st.none(), values, st.text(max_size=8)), min_size=1, max_size=4))
def test_yaml_space_survives_the_override_grammar(given_):
    for value in given_:
        (override,) = OverridesParser.create().parse_overrides([f"key={literal(value)}"])
        assert override.value() == value
    if given_ != [None]:
        (override,) = OverridesParser.create().parse_overrides([f"key={choice(given_)}"])
        assert len(list(override.sweep_iterator())) == len(given_)


def test_a_wide_range_is_counted_not_listed():
    assert parse_space(["key=int(interval(0,2e15))"]).size == 2 * 10**15 + 1


def test_of_two_overrides_for_a_key_the_later_counts():
    space = parse_space(["a=1,2", "b=1", "a=3", "+b=1,2"])
    assert space.fixed == ("a=3",)
    assert space.overrides({"b": 2}) == ["a=3", "+b=2"]


@pytest.mark.parametrize(
    ("space", "refused"),
    [
        ("x=interval(nan,1)", "found nan; expected numbers from"),
        ("x=interval(0,inf)", "found inf"),
        ("x=interval(-1e308,1e308)", r"found -1e\+308"),
        ("x=range(0,inf)", "found inf"),
        ("x=range(0,1,0)", "the step is 0"),
        ("x=range(0,1,1e-300)", "more than 9007199254740992 values; expected a larger step"),
        (f"x=range(1,{10**400})", r"found 10+… \(401 characters\)"),
        (f"x=choice({','.join(map(str, range(1200)))})", r"1,200 values, .* at most 1,000"),
        (f"x=choice({','.join(map(str, range(1200)))}", r"… \(\d,\d+ characters\): not in Hydra's"),
    ],
)
def test_range_that_no_sampler_can_draw_from_is_refused_in_a_short_paragraph(space, refused):
    with pytest.raises(ConfigError, match=refused) as refusal:
        parse_space([space])
    assert len(str(refusal.value)) < 1_500
