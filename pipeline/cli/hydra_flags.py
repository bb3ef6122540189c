"""Hydra's own flags: where the config is read, and what it looks like."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.common.errors import ConfigError

KINDS = ("job", "hydra", "all")
ABSENT = object()
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def add_config_flags(verb: argparse.ArgumentParser, *, shown: bool = False) -> None:
    """Give a verb Hydra's flags for where the config is read, which `train` shows for all."""
    for short, long, metavar, action, text in (
        ("-cn", "--config-name", "NAME", "store", "config to compose; default: train"),
        ("-cp", "--config-path", "DIR", "store", "folder of it and your groups; default: ./conf"),
        (
            "-cd",
            "--config-dir",
            "DIR",
            "append",
            "groups before all others; repeatable",
        ),
    ):
        text = text if shown else argparse.SUPPRESS
        verb.add_argument(short, long, action=action, metavar=metavar, help=text)


def add_shown(verb: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Give a verb what only shows a config; return the group of what excludes each other."""
    verb.add_argument("-p", "--package", metavar="KEY", help="with --cfg: only this part of it")
    verb.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    way = verb.add_mutually_exclusive_group()
    way.add_argument(
        "-c",
        "--cfg",
        nargs="?",
        const="job",
        metavar="|".join(KINDS),
        help="print the composed config and exit; default: job",
    )
    way.add_argument(
        "-i",
        "--info",
        nargs="?",
        const="all",
        metavar="|".join(INFO[1:]),
        help="print what Hydra composes from and exit",
    )
    return way


def read_shown(options: argparse.Namespace) -> None:
    """Give back an override that stands after ``--cfg`` or ``--info``, which need no value.

    Raises:
        ConfigError: for a value that they cannot have, and flags that need ``--cfg``.
    """
    for flag, kinds in (("cfg", KINDS), ("info", INFO)):
        given = getattr(options, flag)
        if given and given not in kinds:
            if "=" not in given:
                raise ConfigError(f"--{flag} {given}: expected {', '.join(kinds)}.")
            options.overrides.insert(0, given)
            setattr(options, flag, kinds[0])
    if not options.cfg and (options.resolve or options.package):
        flag = "--resolve" if options.resolve else "--package"
        raise ConfigError(f"{flag}: expected with --cfg, which shows a config.")


def config_flags(options: argparse.Namespace) -> list[str]:
    """Return where the config is read, as the command line says, a word a flag."""
    given = vars(options)
    return [
        *(f"--config-name={name}" for name in [given.get("config_name")] if name),
        *(f"--config-path={folder}" for folder in [given.get("config_path")] if folder),
        *(f"--config-dir={folder}" for folder in given.get("config_dir") or ()),
    ]


def show(options: argparse.Namespace) -> None:
    """Print the composed config, or what it is composed of, as Hydra's flags do.

    Raises:
        ConfigError: for what cannot be composed, and a package that the config has not.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, ListConfig, OmegaConf

    from pipeline.config.compose import compose, hydra_app
    from pipeline.config.flags import config_name
    from pipeline.config.refusals import plain_errors

    with hydra_app("train") as hydra:
        config = compose(hydra, options.overrides)
        if options.info:
            hydra.show_info(options.info, config_name(), options.overrides)
            return
    HydraConfig.instance().set_config(config)  # of which interpolations of hydra.* speak
    OmegaConf.set_readonly(config.hydra, None)
    wanted = {"job": set(config) - {"hydra"}, "hydra": {"hydra"}, "all": set(config)}[options.cfg]
    if options.resolve:
        with plain_errors():
            OmegaConf.resolve(config)
    shown = OmegaConf.masked_copy(config, [str(key) for key in config if key in wanted])
    part: Any = OmegaConf.select(shown, options.package or "", default=ABSENT)
    if part is ABSENT:
        raise ConfigError(f"--package {options.package}: the config has no such part.")
    if not isinstance(part, DictConfig | ListConfig):
        print("null" if part is None else part)
        return
    if options.package:
        print(f"# @package {options.package}")
    print(OmegaConf.to_yaml(part), end="")
