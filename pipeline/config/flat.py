"""A config as plain values: a tree, or flat by dotted key; which of them affect a result."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def as_tree(config: "DictConfig") -> dict[Any, Any]:
    """Return a composed config's experiment, resolved: all but what a group's file has besides."""
    return {
        group: {k: v for k, v in node.items() if not _is_aside(f"{group}.{k}")}
        if isinstance(node, dict)
        else node
        for group, node in tree(config, resolve=True).items()
    }


def _is_aside(key: str) -> bool:
    return key in MESSAGES or key.endswith(f".{_SEARCH}")


def tree(config: "DictConfig", *, resolve: bool = False) -> dict[str, Any]:
    """Return a config as plain values."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=resolve)
    return {str(key): value for key, value in plain.items()}


def flat(config: "DictConfig") -> dict[str, Any]:
    """Return a composed config's values by dotted key, interpolations resolved."""
    return flatten(as_tree(config))


def read_params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run reads, of values by dotted key.

    Where a service trains, it is told nothing of the groups that say how this machine does.
    """
    unread = _UNREAD if values.get("provider.name", "none") != "none" else ()
    return {key: value for key, value in values.items() if not key.startswith(unread)}


def check_read(keys: Iterable[str], provider: str) -> None:
    """Refuse keys, or choices of groups, that a service is not told of.

    Raises:
        ConfigError: naming the first one.
    """
    for key in keys:
        if f"{key}.".startswith(_OF_THIS_MACHINE):
            raise ConfigError(
                f"{key}: provider={provider} trains, and is told nothing of it; expected a key of "
                "the provider, such as provider.n_epochs."
            )


_OF_THIS_MACHINE = ("model.", "adapter.", "optimizer.", "schedule.", "training.")
_UNREAD = (*_OF_THIS_MACHINE, "provider.prices.")  # of the prices one is read, see `cost/usd`
_SEARCH = "search"  # of a group's file: its own search
MESSAGES = ("model.architecture",)  # keys that nothing but messages reads

RATE = "optimizer.learning_rate"
AUTO = "auto"  # what leaves a value open

# What the machine decides unless the user does; a run logs the decision.
OPEN: Mapping[str, Any] = {"training.threads": None, "training.precision": AUTO}


def settings(flat: Mapping[str, Any], *, with_threads: bool = True) -> dict[str, Any]:
    """Return what affects a result, of values by dotted key: not where it is recorded.

    The threads, which the machine may decide, affect only the last bits.
    """
    apart = ("tracking.",) if with_threads else ("tracking.", "training.threads")
    return {key: value for key, value in flat.items() if not key.startswith(apart)}


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"optimizer.learning_rate": 5e-5, …}``: the leaves of a tree by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
