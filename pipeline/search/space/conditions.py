"""What a space has beyond its keys: pairs, conditional keys, a filter, first points."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution

from pipeline.common.errors import (
    ConfigError,
    TunewrightError,
    did_you_mean,
    did_you_mean_key,
    listing,
)
from pipeline.common.text import cut
from pipeline.config.compose import literal, without_hydra
from pipeline.config.flat import flatten, tree
from pipeline.config.refusals import plain_errors
from pipeline.search.options import Options
from pipeline.search.space.dimension import Condition, Dimension, Params, encode, text_of
from pipeline.search.space.filters import Filter, read_filter
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.named import check_few, space_text
from pipeline.search.space.space import Space
from pipeline.search.space.stages import StageOptions

HISTORY, MOST_HISTORY = "history", 100  # points that former studies recommend: how, how many
SEARCH = "search"  # the key of a group's file that holds what to search where the file is chosen


@dataclass(frozen=True)
class _Block:
    """Keys that are searched where a condition holds."""

    place: str  # where it is written, to name it
    when: Condition | None  # None: in every trial
    keys: Mapping[str, Any]

    def opens(self, key: str) -> bool:
        return any(str(k).lstrip("+~") == key for k in self.keys)


class Base:
    """The config that stays the same, composed when something of it is asked for."""

    def __init__(
        self,
        load: Callable[[list[str]], DictConfig],
        overrides: Sequence[str],
        check: Callable[[DictConfig], None],
    ) -> None:
        self._load = load
        self._overrides = overrides
        self._check = check

    @cached_property
    def _whole(self) -> DictConfig:
        with plain_errors():
            return self._load(list(self._overrides))

    @cached_property
    def _tree(self) -> dict[str, Any]:
        return tree(without_hydra(self._whole, resolve=False))

    @cached_property
    def groups(self) -> dict[str, str | None]:
        """The chosen file of each config group, None where none is."""
        chosen = self._whole.hydra.runtime.choices
        return {str(key): None if name is None else str(name) for key, name in chosen.items()}

    @cached_property
    def choices(self) -> dict[str, str]:
        """The chosen file of each config group that has one."""
        return {group: name for group, name in self.groups.items() if name is not None}

    @cached_property
    def values(self) -> dict[str, Any]:
        """Every value by its key."""
        return flatten(self._tree)

    @cached_property
    def keys(self) -> list[str]:
        """Every key that has a value, groups included."""
        return [*self.values, *self.groups]

    def value(self, key: str) -> Any:
        """Return the value of a key, or the choice of a group; None where there is none."""
        if key in self.choices:
            return self.choices[key]
        with plain_errors():
            value = OmegaConf.select(without_hydra(self._whole, resolve=False), key)
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    def decided(self, key: str, decide: Callable[[DictConfig, str], Any]) -> Any:
        """Return what a run makes of a key that has a text in place of a value."""
        return decide(without_hydra(self._whole), key)

    def depends_on(self, key: str, searched: Sequence[str]) -> str | None:
        """Return the searched key that a key's value is written in terms of, if there is one."""
        written = str(self.values.get(key))
        return next((s for s in searched if re.search(rf"\$\{{\s*{re.escape(s)}\b", written)), None)

    def chosen(self, overrides: Sequence[str]) -> "Base":
        """Return what further overrides make of it."""
        return self.alone([*self._overrides, *overrides])

    def alone(self, overrides: Sequence[str]) -> "Base":
        """Return what these overrides make, without those that are fixed."""
        return Base(self._load, overrides, self._check)

    def refusal(self, key: str, value: str) -> str:
        """Say why a key cannot have a value, or nothing."""
        try:
            with plain_errors():
                self._check(without_hydra(self._load([*self._overrides, f"{key}={value}"])))
        except TunewrightError as error:
            return str(error) if str(error).startswith(f"{key}=") else ""
        return ""

    def search_blocks(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the group and the ``search`` block of each file that is chosen and has one."""
        for group in self.choices:
            node = self._tree
            for part in group.partition("@")[0].split("/"):
                inner = node.get(part)
                node = inner if isinstance(inner, dict) else {}
            block = node.get(SEARCH)
            if isinstance(block, dict):
                yield group, block


def enrich(space: Space, options: Options | StageOptions, base: Base) -> Space:
    """Add to a space what the sweeper's options, or a stage's, say of it beyond single keys.

    Raises:
        ConfigError: for blocks that do not go together with each other or with the space.
    """
    space = _with_pairs(space, options.zip)
    space = _with_conditions(space, _blocks(space, options.when, base), base)
    keys = [key for d in space.dimensions for key in d.keys if d.when is None]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        is_zipped = any(d.pairs and twice[0] in d.keys for d in space.dimensions)
        place = "hydra.sweeper.zip: " if is_zipped else ""
        raise ConfigError(f"{place}{twice[0]} is searched twice; expected once.")
    if options.filter is not None:
        space = replace(space, filter=_filter(space, read_filter(options.filter), base))
    space = replace(space, elsewhere=frozenset(_elsewhere(space, base)))
    return _with_first(space, options.first)


def _elsewhere(space: Space, base: Base) -> Iterator[str]:
    """Yield the keys that files of searched groups set outside of a node of the group's name."""
    for d in space.dimensions:
        own = tuple(f"{key.replace('/', '.')}." for key in d.keys if key in base.groups)
        if not own or any(key.startswith(own) for key in base.values):
            continue
        for value in d.extremes():
            made = base.chosen(d.overrides(value)).values
            yield from (k for k in made if k not in base.values or made[k] != base.values[k])


def _with_pairs(space: Space, blocks: Any) -> Space:
    """Add a dimension for each block of lists; a key that is fixed leaves its block."""
    pairs = []
    for block in [blocks] if isinstance(blocks, Mapping) else blocks or []:
        if not isinstance(block, Mapping) or not all(isinstance(v, list) for v in block.values()):
            raise ConfigError(
                f"hydra.sweeper.zip={cut(block)}: expected keys with a list of values each."
            )
        for key, values in block.items():
            check_few(f"hydra.sweeper.zip: {key}", values)
        lengths = {str(key): len(values) for key, values in block.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            found = listing(f"{key} has {length}" for key, length in lengths.items())
            raise ConfigError(f"hydra.sweeper.zip: {found}; expected lists of one length, from 1.")
        kept = {str(k): v for k, v in block.items() if str(k).lstrip("+~") not in space.fixed_keys}
        if kept:
            pairs.append(_pair(kept))
    return replace(space, dimensions=(*space.dimensions, *pairs))


def _pair(block: Mapping[str, list[Any]]) -> Dimension:
    # Optuna keeps plain values only, so each pair has a text for a name.
    points = [dict(zip(block, values, strict=True)) for values in zip(*block.values(), strict=True)]
    named = {" with ".join(_shown(v) for v in point.values()): point for point in points}
    key = " with ".join(key.lstrip("+~") for key in block)
    return Dimension(key, key, CategoricalDistribution(list(named)), pairs=named)


def _shown(value: Any) -> str:
    return encode(value) if isinstance(value, str | int | float | bool | None) else literal(value)


def _blocks(space: Space, given: Any, base: Base) -> list[_Block]:
    """Return the blocks of the options, then those that the files of config groups bring.

    A file that is chosen for every trial opens its keys in every trial.
    """
    blocks: list[_Block] = []
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"hydra.sweeper.when={cut(given)}: expected blocks 'key=value: {{…}}'.")
    for text, block in (given or {}).items():
        key, sign, values = str(text).partition("=")
        names = tuple(value.strip() for value in values.split(","))
        if not sign or not all(names) or not isinstance(block, Mapping):
            raise ConfigError(
                f"hydra.sweeper.when: {text}: expected key=value or key=value,value, and under it "
                "the keys that this opens."
            )
        blocks.append(_Block(f"hydra.sweeper.when: {text}", Condition(key.strip(), names), block))
    searched = {key: d for d in space.dimensions for key in d.keys if d.when is None}
    for group, block in base.search_blocks():
        if group not in searched:
            blocks.append(_Block(f"{group}={base.choices[group]}: {SEARCH}", None, block))
    for group in base.choices.keys() & searched.keys():
        dimension = searched[group]
        for value in dimension.extremes():
            name = text_of(dimension.settings(value)[group])
            for owner, block in base.chosen(dimension.overrides(value)).search_blocks():
                if owner == group:
                    place = f"{group}={name}: {SEARCH}"
                    blocks.append(_Block(place, Condition(group, (name,)), block))
    return blocks


def _with_conditions(space: Space, blocks: list[_Block], base: Base) -> Space:
    """Add the keys of blocks; a block comes after all that may open it."""
    dimensions = list(space.dimensions)
    waiting = list(blocks)
    while waiting:
        ready = [
            block
            for block in waiting
            if block.when is None or not any(other.opens(block.when.key) for other in waiting)
        ]
        if not ready:
            raise ConfigError(f"{waiting[0].place}: it opens itself, or two blocks each other.")
        for block in ready:
            waiting.remove(block)
            when = _condition(block, dimensions, base)
            if when is not False:
                dimensions += _opened(block, when, dimensions, space.fixed_keys)
    return replace(space, dimensions=tuple(_named_apart(dimensions)))


def _condition(
    block: _Block, dimensions: Sequence[Dimension], base: Base
) -> Condition | Literal[False] | None:
    """Return a block's condition: None where it always holds, False where it never does."""
    when = block.when
    if when is None:
        return None
    setting = [d for d in dimensions if when.key in d.keys]
    if not setting:  # the same in every trial
        if when.key not in base.keys:
            hint = did_you_mean_key(when.key, base.keys)
            raise ConfigError(f"{block.place}: {when.key} is not a key of the config.{hint}")
        if when.holds({when.key: base.value(when.key)}):
            return None
        _check_closed(block, when, base)
        return False
    if not all(isinstance(d.distribution, CategoricalDistribution) for d in setting):
        raise ConfigError(
            f"{block.place}: only a choice opens keys, and {when.key} is a range of numbers."
        )
    valid = [text_of(d.settings(choice)[when.key]) for d in setting for choice in d.extremes()]
    for value in when.values:
        if value not in valid:
            raise ConfigError(
                f"{block.place}: {value} is none of the values of {when.key}."
                f"{did_you_mean(value, valid)} Valid: {listing(valid)}."
            )
    return when


def _check_closed(block: _Block, when: Condition, base: Base) -> None:
    """Refuse what is written wrongly in a block that no trial opens: nothing else would."""
    known = set(base.keys)
    for value in when.values:
        if refusal := base.refusal(when.key, value):
            raise ConfigError(f"{block.place}: {refusal}")
        if when.key in base.choices:
            known |= {*base.alone([f"{when.key}={value}"]).keys}
    for key in block.keys:
        if str(key) not in known and not str(key).startswith("+"):
            hint = did_you_mean_key(str(key), sorted(known))
            raise ConfigError(f"{block.place}: {key} is not a key of the config.{hint}")


def _opened(
    block: _Block, when: Condition | None, dimensions: Sequence[Dimension], fixed: Collection[str]
) -> list[Dimension]:
    """Return a block's dimensions; what is fixed stays so."""
    opened = []
    for key, value in block.keys.items():
        name = str(key).lstrip("+~")
        if name in fixed:
            continue
        for other in (d for d in dimensions if name in d.keys):
            if when is None and block.when is None and other.when is None:
                break  # a file's suggestion; the command line or the sweep has its own
            if not _apart(when, other.when):
                raise ConfigError(
                    f"{block.place}: {name} is searched already"
                    f"{f' where {other.when}' if other.when else ' in every trial'}; expected one "
                    "place for it, or a block for each choice."
                )
        else:
            text = space_text(str(key), value)
            if not parse_space([f"key={text}"]).dimensions:  # a single value
                text = f"choice({text})"
            space = parse_space([f"{key}={text}"])
            opened += [replace(d, when=when) for d in space.dimensions]
    return opened


def _apart(one: Condition | None, other: Condition | None) -> bool:
    """Whether two conditions never hold both."""
    if one is None or other is None:
        return False
    return one.key == other.key and not set(one.values) & set(other.values)


def _named_apart(dimensions: Sequence[Dimension]) -> Iterator[Dimension]:
    """Name the dimensions of one key after their conditions: samplers take them for two."""
    count = Counter(d.key for d in dimensions)
    for d in dimensions:
        if d.when and count[d.key] > 1:
            d = replace(d, key=f"{d.key} for {' or '.join(d.when.values)}")
        yield d


def _filter(space: Space, read: Filter, base: Base) -> Filter:
    """Give a filter the values of the keys that no parameter sets."""
    groups = {
        key: d for d in space.dimensions for key in d.keys if key in base.choices and not d.when
    }
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for group, dimension in groups.items():
        wanted = [key for key in read.keys if key.startswith(f"{group.replace('/', '.')}.")]
        for value in dimension.extremes() if wanted else ():
            config = base.chosen(dimension.overrides(value))
            values = {key: config.value(key) for key in wanted if key in config.keys}
            chosen[group, text_of(dimension.settings(value)[group])] = values
    own = {key for d in space.dimensions for key in d.keys}
    inside = tuple(f"{group.replace('/', '.')}." for group in groups)
    steady = {key for key in base.keys if not key.startswith(inside)}
    valid = own | steady | {key for values in chosen.values() for key in values}
    for key in read.keys:
        if key not in valid:
            raise ConfigError(
                f"{read}: {key} is not a key of the config."
                f"{did_you_mean_key(key, sorted(valid))} A text needs quotes."
            )
        parent = base.depends_on(key, sorted(own))
        if key not in own and parent:
            raise ConfigError(
                f"{read}: {key} follows {parent}, which is searched; "
                f"write the filter in terms of {parent}."
            )
    known = {key: base.value(key) for key in read.keys if key in steady}
    return replace(read, known=known, chosen=chosen)


def _with_first(space: Space, option: Any) -> Space:
    """Add the points to begin with; what is fixed on the command line leaves them."""
    items = option if isinstance(option, list) else [] if option is None else [option]
    asked = [count for count in map(_history, items) if count is not None]
    points = [item for item in items if _history(item) is None]
    is_list = isinstance(option, list) or not points
    if not is_list or not all(isinstance(p, Mapping) for p in points) or len(asked) > 1:
        raise ConfigError(
            f"hydra.sweeper.first={cut(option)}: expected a list of points, key: value; or "
            f"{HISTORY}, or {{{HISTORY}: 4}} for at most 4 points; or such a list with it."
            f"{did_you_mean(option, [HISTORY]) if isinstance(option, str) else ''}"
        )
    first = []
    for number, point in enumerate(points, start=1):
        given = {str(key).lstrip("+~"): value for key, value in point.items()}
        try:
            params = check_point(space, {k: given[k] for k in given if k not in space.fixed_keys})
        except ValueError as error:
            raise ConfigError(f"hydra.sweeper.first: point {number}: {error}") from error
        if params and params not in first:
            first.append(params)
    return replace(space, first=tuple(first), history=asked[0] if asked else None)


def _history(item: Any) -> int | None:
    """Return how many points of former studies are asked for, 0 for as many as suit; or None."""
    if item == HISTORY:
        return 0
    count = item.get(HISTORY) if isinstance(item, Mapping) and len(item) == 1 else None
    is_count = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_HISTORY
    return count if is_count else None


def check_point(space: Space, settings: Mapping[str, Any]) -> Params:
    """Return the parameters of a point that is given whole or in part.

    Raises:
        ValueError: for a key or value that the space does not have, or what its filter refuses.
    """
    params = space.match(settings)
    if space.find(params) is None:
        assert space.filter is not None
        raise ValueError(f"it does not pass the filter {space.filter.text}")
    return params
