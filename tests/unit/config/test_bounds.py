"""Whole numbers of the schema: each has an end, so that none takes the machine's memory."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Le, Lt

from pipeline.common.errors import ConfigError
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import Experiment, validate
from pipeline.config.fields import parts
from pipeline.config.task import config_class, task_names
from pipeline.search.options import Options
from pipeline.search.space.named import NamedSweep
from pipeline.training.points import Length, evaluation_points


def _has_end(annotation: Any, said: tuple[Any, ...] = ()) -> bool:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _has_end(inner, (*said, *more))
    if annotation is int:
        limits = (limit for one in said for limit in getattr(one, "metadata", ()))
        return any(isinstance(limit, Le | Lt) for limit in limits)
    return all(map(_has_end, get_args(annotation)))


def _endless(schema: type) -> Iterator[str]:
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        if not _has_end(hints[field.name]):
            yield f"{schema.__name__}.{field.name}"
        for part in parts(hints[field.name]):
            if isinstance(part, type) and is_dataclass(part):
                yield from _endless(part)


def test_every_whole_number_of_the_schema_has_an_end():
    schemas = [Experiment, Options, NamedSweep, *map(config_class, task_names())]
    assert [place for schema in schemas for place in _endless(schema)] == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["training.threads=100000"],
            r"threads=100000: .*1024; this machine has \d+ cores",
        ),
        (["training.batch_size=1000000000"], "training.batch_size=1000000000: should be less than"),
        (["training.max_length=2000000000"], "training.max_length=2000000000: should be less than"),
        (["adapter=lora", "adapter.r=1000000"], "adapter.r=1000000: should be less than"),
        (["training.precision=" + "x" * 9000], r"x… \(9,002 characters\)"),
    ],
)
def test_absurd_value_is_refused_in_a_short_paragraph(overrides, said):
    with hydra_app("train") as hydra:
        config = without_hydra(compose(hydra, overrides))
    with pytest.raises(ConfigError, match=said) as refusal:
        validate(config)
    assert len(str(refusal.value)) < 600


def test_evaluations_at_every_step_are_counted_before_they_are_listed():
    with hydra_app("train") as hydra:
        config = without_hydra(compose(hydra, ["training.eval_every=3"]))
    training = validate(config).training
    assert len(evaluation_points(training, Length(100, 10.0, 10))) == 34
    with pytest.raises(ConfigError, match=r"training\.eval_every=3: .* so at least 40000\."):
        evaluation_points(training, Length(4 * 10**9, 4000.0, 10**6))
