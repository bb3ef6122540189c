"""From a command line to a composed config: Hydra's loader, our folders and error messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, did_you_mean_key
from pipeline.common.private import make_folder
from pipeline.common.secrets import masked_value
from pipeline.config.flags import config_name, folders
from pipeline.config.flat import AUTO, OPEN, RATE, flatten
from pipeline.config.own_files import naming
from pipeline.config.refusals import plain_errors

if TYPE_CHECKING:
    from hydra.types import HydraContext
    from omegaconf import DictConfig

    from pipeline.config.hydra_parts import Hydra


@contextmanager
def hydra_app(job_name: str) -> Iterator[Hydra]:
    """Yield Hydra, set up for our ``conf`` folders; afterwards its global state is as it was."""
    from hydra import version
    from hydra.core.global_hydra import GlobalHydra

    from pipeline.config.hydra_parts import make_hydra, own_files

    known, base = GlobalHydra.instance(), version.VersionBase.instance()
    before = known.hydra, base.version_base
    version.setbase("1.3")
    known.clear()
    try:
        hydra = make_hydra(job_name, folders("conf"))
        with naming(own_files(hydra).file_of):
            yield hydra
    finally:
        known.hydra, base.version_base = before


def compose(hydra: Hydra, overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
    """Compose the complete config, ``hydra`` node included.

    Raises:
        ConfigError: for an unknown key or option, or an invalid override.
    """
    from hydra.types import RunMode

    from pipeline.config.hydra_parts import own_files

    own_files(hydra).given |= {key_of(override) for override in overrides}
    with plain_errors(partial(_nearest_key, hydra, overrides)):
        config: DictConfig = hydra.compose_config(
            config_name=config_name(),
            overrides=list(overrides),
            run_mode=RunMode.MULTIRUN if multirun else RunMode.RUN,
        )
    if "training" not in config:
        raise ConfigError(
            f"{config_name()}.yaml: it has no training group; expected `- base` first in its "
            "defaults, which gives every key (docs/config.md)."
        )
    return config


def run_job(
    context: HydraContext,
    config: DictConfig,
    task: Callable[[DictConfig], Any],
    job_dir_key: str,
    job_subdir_key: str | None = None,
) -> Any:
    """Run a task as a Hydra job, with its output folder and log file, and return what it returns.

    Hydra hides a job's exception behind a property that prints before it raises; here it is raised
    unchanged. Hydra sees, and writes into the job's folder, a config without secrets.
    """
    from hydra.core.utils import env_override
    from hydra.core.utils import run_job as hydra_run_job

    ended: list[tuple[Any, BaseException | None]] = []
    shown = without_secrets(config)

    def noted(task_config: DictConfig) -> Any:
        try:
            if shown is config:
                returned = task(task_config)
            else:
                with env_override(config.hydra.job.env_set):
                    returned = task(without_hydra(config, resolve=False))
        except BaseException as error:
            ended.append((None, error))
            raise
        ended.append((returned, None))
        return returned

    _make_output(shown, job_dir_key, job_subdir_key)
    hydra_run_job(
        hydra_context=context,
        task_function=noted,
        config=shown,
        job_dir_key=job_dir_key,
        job_subdir_key=job_subdir_key,
    )
    returned, error = ended[0]
    if error is not None:
        raise error
    return returned


def _make_output(config: DictConfig, *keys: str | None) -> None:
    """Make a job's folder, which Hydra would open to all accounts, and that of its config."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    known = HydraConfig.instance()
    before = known.cfg
    known.set_config(config)  # the folders' names may refer to it
    try:
        parts = [str(OmegaConf.select(config, key)) for key in keys if key is not None]
        make_folder(Path(*parts, config.hydra.output_subdir or ""))
    finally:
        known.cfg = before


def run_single(hydra: Hydra, config: DictConfig, task: Callable[[DictConfig], Any]) -> Any:
    """Run a task as a job of its own, outside any sweep, and return what it returns."""
    from hydra.types import RunMode

    from pipeline.config.hydra_parts import context_of

    with changing(config.hydra):
        config.hydra.mode = RunMode.RUN
    return run_job(context_of(hydra, config), config, task, "hydra.run.dir")


@contextmanager
def changing(node: DictConfig) -> Iterator[None]:
    """Let a part of a composed config be changed; from 1.4 on, Hydra's own is read-only."""
    from omegaconf import flag_override

    with flag_override(node, ["struct", "readonly"], [False, False]):
        yield


def without_secrets(config: DictConfig) -> DictConfig:
    """Return a composed config without secrets; the same one if it has none."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=False)
    shown = masked_value("", plain)
    if shown == plain:
        return config
    copied = config.copy()
    with changing(copied):
        for key, value in shown.items():
            _replace(copied, key, plain[key], value)
    return copied


def _replace(node: DictConfig, key: str, plain: Any, shown: Any) -> None:
    if isinstance(shown, dict):
        for name, value in shown.items():
            if value != plain[name]:
                _replace(node[key], name, plain[name], value)
    elif shown != plain:
        with changing(node):
            node[key] = shown


def without_hydra(config: DictConfig, *, resolve: bool = True) -> DictConfig:
    """Return a copy of the composed config without Hydra's own node, interpolations resolved."""
    from omegaconf import OmegaConf

    task = config.copy()
    with changing(task):
        task.pop("hydra", None)
    if resolve:
        with plain_errors():
            OmegaConf.resolve(task)
    return task


def key_of(override: str) -> str:
    """Return the key or the group that an override sets."""
    return override.partition("=")[0].lstrip("+~")


def chosen(overrides: Iterable[str]) -> dict[str, str]:
    """Return what overrides set, as text by key or group."""
    return {key_of(override): override.partition("=")[2] for override in overrides}


def as_run(overrides: Sequence[str], decided: Mapping[str, Any]) -> list[str]:
    """Return a command line with what was decided for it: it reproduces a run to the last bit."""
    every, said = {**OPEN, RATE: AUTO}, chosen(overrides)
    undecided = [key for key in decided if said.get(key) == literal(every[key])]
    asked = [o for o in overrides if key_of(o) not in undecided]
    given = {key_of(override) for override in asked}
    return [*asked, *(f"{key}={value}" for key, value in decided.items() if key not in given)]


def left_open(*, by_rule: bool) -> list[str]:
    """Return the keys that the machine decided for a run, and the rule if it made the rate."""
    return [*OPEN, *([RATE] if by_rule else [])]


def literal(value: Any) -> str:
    """Return a value of a YAML file as an override writes it, quoted if the grammar requires it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(literal(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        from hydra.core.override_parser.types import Quote, QuotedString

        return QuotedString(text=value, quote=Quote.single).with_quotes()
    return str(value)


# Text that the grammar reads unchanged: not a number, true or null, without special characters.
_PLAIN = re.compile(
    r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_/][\w/.@-]*", re.IGNORECASE | re.ASCII
)


def choice(values: Iterable[Any]) -> str:
    """Return a YAML list as a choice in the grammar."""
    texts = [literal(value) for value in values]
    # Hydra's choice(…) does not take null, a comma does; one value without a comma is not a choice.
    return f"choice({texts[0]})" if len(texts) == 1 and texts != ["null"] else ",".join(texts)


def _nearest_key(hydra: Hydra, overrides: Sequence[str], key: str) -> str:
    """Look the key up in the config that the command line's group choices alone compose."""
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    choices = [o for o in overrides if "." not in o.partition("=")[0] and not o.startswith(key)]
    for attempt in (choices, []):
        try:
            config = hydra.compose_config(config_name(), attempt, run_mode=RunMode.MULTIRUN)
        except HydraException:
            continue
        tree = OmegaConf.to_container(config, resolve=False)
        assert isinstance(tree, dict)
        own = {"hydra": tree.pop("hydra")}
        tree = own if key.startswith("hydra.") else tree
        return did_you_mean_key(key, [name for name in (*flatten(tree), *tree) if name != key])
    return ""
