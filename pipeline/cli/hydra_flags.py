"""Hydra's own flags: where the config is read, and what it looks like."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_FLAGS = (  # where the config is read
    ("-cn", "--config-name", "NAME"),
    ("-cp", "--config-path", "DIR"),
    ("-cd", "--config-dir", "DIR"),
)
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def add_config_flags(verb: argparse.ArgumentParser, *, shown: bool = False) -> None:
    """Give a verb Hydra's flags for where the config is read, in its help where they are shown."""
    texts = (
        "config to compose; default: train",
        "folder of it and of your groups; default: ./conf",
        "groups before all others; repeatable",
    )
    for (short, long, metavar), text in zip(CONFIG_FLAGS, texts, strict=True):
        action = "append" if short == "-cd" else "store"
        text = text if shown else argparse.SUPPRESS
        verb.add_argument(short, long, action=action, metavar=metavar, help=text)


def config_flags(options: argparse.Namespace) -> list[str]:
    """Return where the config is read, as the command line says, a word a flag."""
    given = vars(options)
    return [
        *(f"--config-name={name}" for name in [given.get("config_name")] if name),
        *(f"--config-path={folder}" for folder in [given.get("config_path")] if folder),
        *(f"--config-dir={folder}" for folder in given.get("config_dir") or ()),
    ]


def add_shown(verb: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Give a verb what only shows a config; return the group of what excludes each other."""
    verb.add_argument("-p", "--package", metavar="KEY", help="with --cfg: only this part of it")
    verb.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    way = verb.add_mutually_exclusive_group()
    way.add_argument(
        "-c", "--cfg", choices=("job", "hydra", "all"), help="print the composed config and exit"
    )
    way.add_argument(
        "-i",
        "--info",
        nargs="?",
        const="all",
        choices=INFO,
        help="print what Hydra composes from and exit; default: all",
    )
    return way


def show(options: argparse.Namespace) -> None:
    """Print the composed config, or what it is composed of, as Hydra's flags do.

    Raises:
        ConfigError: for what cannot be composed, a part that the config has not, and, once it is
            printed, for values that cannot be. One with values to be given (???) is only printed.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from pipeline.config.compose import compose, hydra_app, without_hydra
    from pipeline.config.experiment import validate
    from pipeline.config.flags import config_name
    from pipeline.config.refusals import plain_errors

    with hydra_app("train") as hydra:
        config = compose(hydra, options.overrides)
        if options.info:
            hydra.show_info(options.info, config_name(), options.overrides)
            return
        HydraConfig.instance().set_config(config)  # of which interpolations of hydra.* speak
        OmegaConf.set_readonly(config.hydra, None)
        with plain_errors():
            print(_shown(config, options.cfg, options.package, resolve=options.resolve), end="")
        if options.cfg != "hydra" and not _is_open(config):
            validate(without_hydra(config))


def check_shown(options: argparse.Namespace) -> None:
    """Refuse flags that need ``--cfg``.

    Raises:
        ConfigError: naming the flag.
    """
    if not options.cfg and (options.resolve or options.package):
        flag = "--resolve" if options.resolve else "--package"
        raise ConfigError(f"{flag}: expected with --cfg, which shows a config.")


def _shown(config: DictConfig, kind: str, package: str | None, *, resolve: bool) -> str:
    """Return a config, or a part of it, as YAML; a single value as it is."""
    from omegaconf import OmegaConf

    every = list(map(str, config))
    job = [key for key in every if key != "hydra"]
    keys = {"job": job, "hydra": ["hydra"], "all": every}[kind]
    if package is None or package == "_global_":
        if resolve:
            for key in keys:
                _resolve(config, key)
        return OmegaConf.to_yaml(OmegaConf.masked_copy(config, keys))
    group, _, name = package.rpartition(".")
    parent = OmegaConf.select(config, group)
    if (
        not OmegaConf.is_dict(parent)
        or name not in set(parent)
        or package.split(".")[0] not in keys
    ):
        raise ConfigError(f"--package {package}: the config has no such part.")
    if OmegaConf.is_missing(parent, name):
        return "???\n"
    part = parent[name]
    if not OmegaConf.is_config(part):
        return f"{'null' if part is None else part}\n"
    if resolve:
        OmegaConf.resolve(part)
    return f"# @package {package}\n{OmegaConf.to_yaml(part)}"


def _resolve(config: DictConfig, key: Any) -> None:
    """Resolve what is under a key: the rest of the config may be wrong."""
    from omegaconf import OmegaConf

    value: Any = None if OmegaConf.is_missing(config, key) else config[key]
    if OmegaConf.is_config(value):
        OmegaConf.resolve(value)
    elif value is not None:
        config[key] = value


def _is_open(config: DictConfig) -> bool:
    """Whether a value is still to be given."""
    from pipeline.config.flat import flatten, tree

    values = flatten(tree(config))
    return any(v == "???" for key, v in values.items() if not key.startswith("hydra."))
