"""The schema read as data: the keys that a place of a config may have, and what is said of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pipeline.config.provider import PROVIDERS, HostedConfig, provider_class
from pipeline.config.task import AnyColumns, AnyTaskConfig, columns_class, config_class, task_names

_TELLING = ("name", "source")  # keys whose value says which class of a union a node is of


def keys_at(schema: type, tree: Mapping[Any, Any], place: Sequence[str]) -> dict[str, list[Any]]:
    """Return the keys that the schema knows at a place of a config, each with its annotations.

    Where a node does not say which of several classes it is of, the keys of all count.
    """
    classes, here = [schema], tree
    for part in place:
        here = here[part]
        classes = [c for a in _merged(classes)[part] for c in classes_at(a, here, tree)]
    return _merged(classes)


def classes_at(annotation: Any, node: Any, tree: Mapping[Any, Any]) -> list[type]:
    """Return the dataclasses that a node may be of, those with the keys of a task's columns first.

    Args:
        annotation: of the node's key in the schema.
        node: a part of a config, valid or not.
        tree: the whole config.
    """
    found = [part for part in parts(annotation) if isinstance(part, type) and is_dataclass(part)]
    if AnyTaskConfig in found:
        return [config_class(name) for name in _tasks(node)]
    if HostedConfig in found:
        return [provider_class(name) for name in _named(node, ["none", *PROVIDERS.names()])]
    chosen = [one for one in found if _is_named(one, node)] or found
    # The keys of the columns stand among those of the source.
    with_columns = any("columns" in one.__dataclass_fields__ for one in chosen)
    columns = [columns_class(name) for name in _tasks(_get(tree, "task")) if with_columns]
    return [*columns, *chosen]


def parts(annotation: Any) -> Iterator[Any]:
    """Yield what an annotation is made of: the types of a union or a list, and their metadata."""
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        yield from inner[1:]
        inner = inner[:1]
    elif not inner:
        yield annotation
    for one in inner:
        yield from parts(one)


def _merged(classes: Sequence[type]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in classes:
        hints = get_type_hints(one, include_extras=True)
        for field in fields(one):
            if AnyColumns not in parts(hints[field.name]):
                found.setdefault(field.name, []).append(hints[field.name])
    return found


def _tasks(node: Any) -> Sequence[str]:
    """Return the task that a group names, or all of them."""
    return _named(node, task_names())


def _named(node: Any, every: Sequence[str]) -> Sequence[str]:
    return [name for name in every if name == _get(node, "name")] or every


def _is_named(one: type, node: Any) -> bool:
    hints = get_type_hints(one)
    names = {key: get_args(hints[key]) for key in _TELLING if key in hints}
    said = [_get(node, key) in values for key, values in names.items() if values]
    return bool(said) and all(said)


def _get(node: Any, key: str) -> Any:
    return node.get(key) if isinstance(node, Mapping) else None
