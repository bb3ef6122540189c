"""Spaces beyond single keys: conditions, pairs, filters, first points, warm starts."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.common.errors import ConfigError
from pipeline.search.progress import summary_lines
from pipeline.search.searchable import PriorTrials
from pipeline.search.space.dimension import Condition
from pipeline.search.space.filters import MOST_BITS, Filter, read_filter
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.space import DRAWS, Space
from pipeline.search.study import queue
from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.queue import claim, is_done, queue_first, queue_grid
from pipeline.search.study.trials import counted, params_of
from pipeline.search.study.warm_start import warm_start
from tests.support.studies import points, spec


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("a * b.c <= 8", True),
        ("a * b.c <= 7", False),
        ("a + 1 == 3 and b.c // 3 == 1 and b.c % 3 == 1 and a ** 2 == 4 and b.c / a == 2", True),
        ("-a < 0 < a", True),
        ("not (a > 1 or b.c > 5)", False),
        ("a in [1, 2, 3] and name not in ('adam', 'sgd')", False),
        ("name == 'sgd' and flag and not false", True),
        ("lacking > 3", True),
        ("not lacking > 3", True),
        ("lacking > 3 and a == 1", False),
        ("lacking > 3 or a == 1", True),
        ("b.c == 0 or 8 / b.c == 2", True),
        ("name == 'sgd' or 1 / 0 > 1", True),
    ],
)
def test_filter_expressions_evaluate_as_python(text, passes):
    settings = {"a": 2, "b.c": 4, "name": "sgd", "flag": True}
    assert read_filter(text).allows(settings) is passes


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.b()",
        "(lambda: 1)() == 1",
        "[x for x in [1]] == a",
        "a if b else c",
        "'x'.join == 1",
        "a[0] == 1",
        "f'{a}' == 'x'",
        "(a := 1) == 1",
        "a <=",
        "a == None",
        "a @ b > 1",
        "a is b",
        "",
    ],
)
def test_invalid_filter_is_refused_by_name(text):
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.filter") as error:
        read_filter(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a", "a and true", "'x' < a", "1 / (a - 2) > 1", "'x' * a == a"])
def test_filter_error_names_the_point(text):
    with pytest.raises(ConfigError, match="a=2"):
        read_filter(text).allows({"a": 2})


class _Watched(int):
    """A number that no work on large ones is done with."""

    def _work(name, grow):
        def work(self, other):
            assert not isinstance(other, int) or grow(self, other) <= 4 * MOST_BITS
            result = getattr(int, name)(self, other)
            return _Watched(result) if type(result) is int else result

        return work

    __add__ = _work("__add__", lambda a, b: max(a.bit_length(), b.bit_length()))
    __mul__ = _work("__mul__", lambda a, b: a.bit_length() + b.bit_length())
    __pow__ = _work("__pow__", lambda a, b: a.bit_length() * b)


_GROWING = st.recursive(
    st.sampled_from(["a", "9", "64", "'x'", "[1, 2]"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "*", "**"]), inner).map(
        lambda parts: f"({' '.join(parts)})"
    ),
    max_leaves=20,
)


@given(_GROWING)
@example("((((a ** 64) ** 64) ** 64) ** 64)")
@example("a" + " * a" * 90)
def test_filter_never_works_with_huge_numbers(text):
    with suppress(ConfigError):
        read_filter(f"{text} > 1").allows({"a": _Watched(9)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a > 1 or " * 1000 + "a > 2", "9,005 characters; expected at most 2,000"),
        ("1+" * 400 + "a > 2", "803 keys, values and operations; expected at most 200"),
        ("not " * 150 + "a > 2", "levels of operations in operations; expected at most 100"),
        ("$" * 1900, "not an expression"),
        (f"f('{'x' * 1900}')", "has no place in a filter"),
    ],
)
def test_long_filter_is_refused_and_quoted_in_part(text, said):
    with pytest.raises(ConfigError, match=said) as refusal:
        read_filter(text)
    assert len(str(refusal.value)) < 600


def test_checking_values_of_a_filtered_space_is_bounded_work(monkeypatch):
    """However many values a space has that no point may have."""
    asked = []
    monkeypatch.setattr(Filter, "allows", lambda *_, **__: asked.append(1) or len(asked) < 2)
    wide = f"x=choice({','.join(map(str, range(900)))})"
    space = replace(parse_space([wide, "y=interval(0.0,1.0)"]), filter=Filter("x < 0"))
    assert len(list(space.probes())) == 1
    assert len(asked) < 3 * DRAWS


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(["<=", "==", ">"]))
def test_a_part_of_a_point_is_refused_only_where_every_whole_one_is(a, b, sign):
    read = read_filter(f"not a * 2 {sign} b or a == 1 and b < 3")
    whole = [read.allows({"a": a, "b": other}) for other in range(-5, 6)]
    if not read.allows({"a": a}, pending={"b"}):
        assert not any(whole)
    assert read.allows({"a": a, "b": b}) is (
        (not eval(f"{a} * 2 {sign} {b}")) or (a == 1 and b < 3)
    )


def test_interrupted_filtered_search_proposes_as_an_uninterrupted_one(working_folder):
    space = replace(
        parse_space(["x=interval(-5.0,5.0)", "y=interval(-5.0,5.0)"]), filter=Filter("x < y")
    )

    def search(folder: str, n_trials: int) -> list[dict]:
        one = replace(spec(working_folder / folder, "TPESampler", n_trials), space=space)
        study = one.open()
        while (trial := claim(study, one, Heartbeat(study))) is not None:
            study.tell(trial, trial.params["x"] ** 2 + trial.params["y"] ** 2)
        return points(study)

    uncut = search("uncut", 12)
    search("cut", 5)
    assert search("cut", 12) == uncut


def test_scores_of_another_direction_are_refused(working_folder):
    old, new = (spec(working_folder / name / "f", "TPESampler", 2) for name in ("old", "new"))
    old.open()
    study = replace(new, directions=("maximize",)).open()
    sources, unrecorded = [f"{old.storage}#sphere"], PriorTrials([], 0)
    with pytest.raises(ConfigError, match="its direction is"):
        warm_start(
            study,
            new.space,
            sources,
            new.storage,
            {},
            lambda *_: unrecorded,
            lambda settings, _=(): dict(settings),
        )


@pytest.mark.parametrize("text", ["range(1,8,3)", "range(5,0,-2)", "range(0.1,0.4,0.1)",
                                  "range(0.9,0.2,-0.2)", "range(-1.5,1.5,0.5)"])  # fmt: skip
@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler"])
def test_no_sampler_leaves_a_range(working_folder, text, sampler):
    space = parse_space([f"x={text}"])
    one = replace(spec(working_folder, sampler, 40), space=space)
    one = replace(one, sampler={"_target_": f"optuna.samplers.{sampler}"})
    study = one.open()
    while (trial := claim(study, one, Heartbeat(study))) is not None:
        study.tell(trial, trial.params["x"] ** 2)
    grid = {round(p["x"], 9) for p in space.grid()}
    drawn = {round(p["x"], 9) for p in points(study)}
    chance = random.Random(0)
    own = {round(space.dimensions[0].draw(chance), 9) for _ in range(200)}
    assert own == grid
    assert drawn <= grid
    assert sampler != "RandomSampler" or drawn == grid


def test_every_part_of_a_space_makes_another_study():
    plain = parse_space(["a=choice(x,y)", "b=1,2"])
    others = [
        replace(plain, filter=Filter("b < 2")),
        replace(plain, first=({"b": 2},)),
        Space((plain.dimensions[0], replace(plain.dimensions[1], when=Condition("a", ("x",)))), ()),
    ]
    described = [str(space.describe()) for space in (plain, *others)]
    assert len(set(described)) == len(described)


def test_each_point_of_a_conditional_grid_is_claimed_once(working_folder):
    plain = parse_space(["a=choice(x,y)", "b=1,2"])
    space = Space(
        (plain.dimensions[0], replace(plain.dimensions[1], when=Condition("a", ("x",)))), ()
    )
    one = replace(spec(working_folder, "GridSampler", space.size), space=space, sampler={})
    study = one.open()
    queue_first(study, one)
    queue_grid(study, one)
    heartbeat = Heartbeat(study)
    study.tell(claim(study, one, heartbeat), 1.0)
    claim(study, one, heartbeat)  # is running
    queue_grid(study, one)
    while (trial := claim(study, one, heartbeat)) is not None:
        study.tell(trial, 1.0)
    assert [t.params for t in counted(study)] == [
        {"a": "x", "b": 1},
        {"a": "x", "b": 2},
        {"a": "y"},
    ]
    assert not is_done(study, one)


def test_a_first_point_that_two_workers_queue_at_once_is_begun_once(working_folder, monkeypatch):
    one = spec(working_folder, "TPESampler", 3)
    one = replace(one, space=replace(one.space, first=({"x": 2.0},)), stage=1)
    study, heartbeat = one.open(), Heartbeat(one.open())
    held, begun = queue._held, []

    def slow(*given):
        found = held(*given)
        if not begun:  # another worker queues the point meanwhile, and takes it
            begun.append(None)
            queue_first(study, one)
            begun.append(claim(study, one, heartbeat))
        return found

    monkeypatch.setattr(queue, "_held", slow)
    queue_first(study, one)
    begun += [claim(study, one, heartbeat), claim(study, one, heartbeat)]
    assert [trial.params["x"] == 2.0 for trial in begun[1:]] == [True, False, False]
    # The one that came too late ran nothing: no process died at it.
    assert summary_lines(study, one) == ["sphere: 0 of 3 trials done, 0 failed."]


def test_a_first_point_given_in_part_is_run_once_when_the_space_changes(working_folder):
    one = spec(working_folder, "RandomSampler", 3)
    one = replace(one, space=replace(one.space, first=({"x": 2.0}, {"x": 3.0})), sampler={})
    study, heartbeat = one.open(), Heartbeat(one.open())
    queue_first(study, one)
    study.tell(claim(study, one, heartbeat), 1.0)
    study.set_user_attr(queue.FIRST, None)  # as where the space has changed
    one = replace(one, space=replace(one.space, first=({"x": 4.0}, *one.space.first)))
    queue_first(study, one)
    assert [params_of(t).get("x") for t in study.trials] == [2.0, 3.0, 4.0]


def test_a_space_without_choices_has_one_point_to_check():
    assert len(list(parse_space(["seed=1"]).probes())) == 1
