"""The configs of a search's jobs: composed as Hydra's launchers do, and checked."""

from collections.abc import Callable, Sequence
from functools import partial

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from pipeline.common.errors import ConfigError, did_you_mean_key
from pipeline.config.compose import without_hydra
from pipeline.config.flat import flatten, tree
from pipeline.config.hydra_parts import reading_once
from pipeline.config.refusals import plain_errors
from pipeline.search.options import Options
from pipeline.search.samplers import CENTRE, PRIOR, sampler_name
from pipeline.search.searchable import Searchable
from pipeline.search.space.centre import centred, check_given
from pipeline.search.space.conditions import Base, enrich
from pipeline.search.space.dimension import Params
from pipeline.search.space.grammar import parse_space
from pipeline.search.space.named import space_text
from pipeline.search.space.space import Space
from pipeline.search.space.stages import StageOptions

NOTHING = (
    "no key has several values, so there is nothing to search: write key=a,b, or leave out -m to "
    "run once; hydra.sweeper.repeats=3 runs it on three seeds."
)


class Composer:
    """Reads a search's space and composes the configs of its points."""

    def __init__(self, loader: ConfigLoader, config: DictConfig, task: Searchable) -> None:
        self._files = loader
        self._loader = reading_once(loader)
        self._config = config
        self._task = task
        self._nearest: Callable[[str], str] = lambda _: ""
        self.naming = ""  # the override that names the study, once it has a name
        self.choices: dict[str, str] = {}  # the chosen file of each config group

    def space(self, arguments: list[str], options: Options) -> Space:
        """Read the space from the sweeper's options and the command line.

        Raises:
            ConfigError: for what is no space.
        """
        params = options.params or {}
        configured = [f"{key}={space_text(key, value)}" for key, value in params.items()]
        space = self.parsed([*configured, *arguments])
        base = self.base(space.fixed)
        self.choices = base.choices
        space = self.enriched(space, options, options, base)
        others = options.repeats > 1 or options.custom_search_space
        if not space.dimensions and not others:
            raise ConfigError(NOTHING)
        return space

    def enriched(
        self, space: Space, said: Options | StageOptions, options: Options, base: Base
    ) -> Space:
        """Add to a space what is said of it beyond single keys, and its centre for a prior."""
        space = enrich(space, said, base)
        if sampler_name(options.sampler, space) == PRIOR:
            given = options.sampler.get(CENTRE)
            if said is options:  # else it may be of another stage
                check_given(given, [k for d in space.dimensions for k in d.keys], space.fixed_keys)
            space = centred(space, base, self._task.decided, given or {})
        return space

    def parsed(self, overrides: list[str]) -> Space:
        """Read overrides in Hydra's grammar."""
        return parse_space(overrides, self._files)

    def base(self, overrides: Sequence[str]) -> Base:
        """Return the config of some overrides, composed when something of it is asked for."""
        return Base(self._load, overrides, self._task.check)

    def probes(self, space: Space) -> list[DictConfig]:
        """Compose and check the config with every value that must work, the base first.

        Raises:
            ConfigError: for the first that cannot work.
        """
        with plain_errors():
            fixed = tree(without_hydra(self._load(list(space.fixed)), resolve=False))
        self._nearest = partial(did_you_mean_key, valid=[*flatten(fixed), *fixed])
        return [self.composed(space, params) for params in space.probes()]

    def composed(self, space: Space, params: Params) -> DictConfig:
        """Compose and check the config of a point."""
        with plain_errors(self._nearest):
            config = without_hydra(self._load(space.overrides(params)))
        self._task.check(config)
        return config

    def _load(self, overrides: list[str]) -> DictConfig:
        named = [self.naming] if self.naming else []
        return self._loader.load_sweep_config(self._config, [*named, *overrides])
