"""What an earlier search tried, as a point of this one's space, where it is one."""

from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from optuna import Study

from pipeline.common.contract import NO_KEYS
from pipeline.search.space.dimension import Params, plain, text_of
from pipeline.search.space.space import Space
from pipeline.search.study.study import FINGERPRINT, SPACE

Migrate = Callable[..., dict[str, Any]]  # `Searchable.migrated`


def fingerprint_of(study: Study, base: Mapping[str, Any], migrate: Migrate) -> dict[str, Any]:
    """Return a study's fingerprint as it would be recorded today; empty where it has none."""
    recorded: dict[str, Any] = dict(study.user_attrs.get(FINGERPRINT, {}))
    if SPACE not in recorded:
        return migrate(recorded, base)
    space = migrate(recorded.pop(SPACE))
    searched = prefixes(space)
    unsearched = [key for key in base if not f"{key}.".startswith(searched)]
    return {**migrate(recorded, unsearched), SPACE: space}


def prefixes(space: Mapping[str, str]) -> tuple[str, ...]:
    """Return how the keys begin that a described space searches, with a dot after them."""
    return tuple(f"{key.replace('/', '.')}." for key in space if key not in NO_KEYS)


def translated(
    settings: Mapping[str, Any], fixed: Mapping[str, Any], space: Space, base: Mapping[str, Any]
) -> Params | None:
    """Return an earlier trial's parameters in this space, or None where it does not fit.

    What was fixed there and is searched here has its value of then; what was searched there and is
    fixed here must have this search's value.

    Args:
        settings: what the trial's parameters set, by the keys of the config.
        fixed: values that its study kept fixed, by the keys of the config.
        space: this search's.
        base: values of what this search keeps fixed.
    """
    own = {key for d in space.dimensions for key in d.keys}
    for key in settings.keys() - own:
        if key not in base or text_of(base[key]) != text_of(settings[key]):
            return None
    try:
        point = space.match({key: value for key, value in settings.items() if key in own})
        while dimension := space.opened(point):
            given = {key: fixed[key] for key in dimension.keys if key in fixed}
            if len(given) < len(dimension.keys):
                return None
            point[dimension.key] = dimension.match(given)
    except ValueError:
        return None
    return point if space.allows(point) else None


def read(text: str) -> Any:
    """Return what a text means as an override's value: a number, true, false or null, else itself.

    A logged parameter has Python's ``None``.
    """
    if text == "None":
        return None
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text
    return value if isinstance(value, int | float | bool | None) else text


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what parameters of another study set; pairs and conditional keys show in names."""
    settings: dict[str, Any] = {}
    for name, value in params.items():
        if " with " in name:
            texts = str(value).split(" with ")
            settings |= dict(zip(name.split(" with "), map(read, texts), strict=False))
        else:
            settings[name.partition(" for ")[0]] = plain(value)
    return settings
