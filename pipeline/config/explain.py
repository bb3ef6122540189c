"""The first of pydantic's findings as our message: place, found, expected, nearest name."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.common.errors import did_you_mean, did_you_mean_key, listing
from pipeline.common.text import cut
from pipeline.config.compose import literal
from pipeline.config.fields import keys_at, parts
from pipeline.config.foreign import other_name
from pipeline.config.refusals import in_shell
from pipeline.config.types import COMBINATION


def explain(error: ValidationError, tree: Mapping[Any, Any], schema: type) -> str:
    """Return what is wrong with a config that must fit a schema, a dataclass."""
    found = first(error)
    if found["type"] == COMBINATION:
        return f"{found['msg']}."
    # Drop the tags that pydantic adds for the branches of a union: they are not keys of the config.
    place: list[str] = []
    here: Any = tree
    for part in found["loc"]:
        is_last = part == found["loc"][-1]
        if isinstance(here, Mapping) and (part in here or (is_last and found["type"] == "missing")):
            here = here.get(part)
            place.append(str(part))
    key = ".".join(place) or "config"
    if now := other_name(key):
        return now
    if found["type"] == "unexpected_keyword_argument":
        parent = ".".join(place[:-1])
        valid = [f"{parent}.{name}".lstrip(".") for name in keys_at(schema, tree, place[:-1])]
        near = did_you_mean_key(key, valid)
        return f"{key} is not a key of the config.{near} Valid: {listing(valid)}."
    if found["type"] == "missing":
        return f"{key} must be given: {key}=…"
    if found["type"] == "union_tag_not_found":
        key += f".{found['ctx']['discriminator'].strip(chr(39))}"
        return f"{key} must be given: {key}=…"
    if found["type"] == "union_tag_invalid":
        field, name = found["ctx"]["discriminator"].strip("'"), found["ctx"]["tag"]
        valid = [tag.strip("' ") for tag in found["ctx"]["expected_tags"].split(",")]
        return (
            f"{key}.{field}={cut(name)}: there is no such {key}.{did_you_mean(name, valid)} "
            f"Valid: {listing(valid)}."
        )
    if found["type"] == "tuple_type":
        listed = in_shell(f"{key}=[{cut(literal(here))}]")
        return f"{key}={cut(repr(here))}: expected a list: {listed}."
    expected = found["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    is_limit = found["type"] == "less_than_equal"
    hint = _said_of_limit(keys_at(schema, tree, place[:-1])[place[-1]]) if is_limit else ""
    return f"{key}={cut(repr(here))}: {expected}{hint}."


def _said_of_limit(annotations: Sequence[Any]) -> str:
    """Return what the schema says of a limit that a value is beyond: a field's description."""
    every = (part for annotation in annotations for part in parts(annotation))
    said = [d for d in (getattr(part, "description", None) for part in every) if d]
    return f"; {said[0]}" if said else ""


def first(error: ValidationError) -> Any:
    """Return the finding to report: an unknown key before the missing one that it stands for."""
    return min(error.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
