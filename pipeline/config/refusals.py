"""Hydra's refusals in our words: place, found, expected, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pipeline.common.errors import ConfigError, did_you_mean, listing
from pipeline.common.text import cut
from pipeline.config.flags import config_name, folders, short
from pipeline.config.foreign import other_name


@contextmanager
def plain_errors(nearest: Callable[[str], str] = lambda _: "") -> Iterator[None]:
    """Turn Hydra's refusals into a `ConfigError`; ``nearest`` suggests a valid key."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    # ValueError: Hydra's own for an empty key; also raised by a file that is not text.
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(_explain(error, nearest)) from error


def _explain(error: Exception, nearest: Callable[[str], str]) -> str:
    from hydra.errors import OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    text = str(error) or str(error.__cause__)
    if isinstance(error, OverrideParseException):
        remedy = _remedy(error.override, text)
        return f"{cut(error.override)}: {cut(remedy, 1_000)}"
    if missing := re.match(r"In '([^']+)': Could not load '([^']+)'", text):
        group = missing[1].rpartition("/")[0]
        return f"{group}.defaults: {_nowhere(missing[2])}".lstrip(".")
    if missing := re.match(r"Cannot find primary config '([^']+)'", text):
        return f"--config-name {missing[1]}: {_nowhere(missing[1])}"
    if twice := re.match(r"Multiple values for (\S+)\.", text):
        return (
            f"{twice[1]} is in the defaults already: choose by {twice[1]}=NAME, without +; in a "
            f"file by `- override {twice[1]}: NAME`."
        )
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    unknown = re.search(r"Could not (?:override|find) '([^']+)'", text)
    if unknown and (now := other_name(unknown[1])):
        return now
    if isinstance(cause, OmegaConfBaseException) and unknown:
        return f"{unknown[1]} is not a key of the config.{nearest(unknown[1])}"
    if unknown and "Available options in" in text:
        group, _, name = unknown[1].rpartition("/")
        options = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        package = _LAUNCHERS.get(name) if group == "hydra/launcher" else None
        hint = f" Install {package}." if package else did_you_mean(name, options)
        return f"{group}={name}: there is no such option.{hint} Valid: {listing(options)}."
    addable = re.search(r"To append to your default list use \+(([^=@]+)\S*)", text)
    if addable and any((folder / addable[2]).is_dir() for folder in folders("conf")):
        return f"{addable[2]} is not in the defaults of {config_name()}.yaml: write +{addable[1]}"
    if unknown:
        name = unknown[1].split("/")[0]
        return f"{name} is not a key or group of the config.{nearest(name)}"
    if "add --multirun" in text:
        override = re.search(r"argument '([^']+)'", text)
        key, _, value = (override[1] if override else "key=a,b").partition("=")
        return (
            f"{key}={cut(value)}: several values mean a search: add -m. "
            f"For a list write {key}=[{cut(value)}], for a text \"{key}='{cut(value)}'\"."
        )
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _nowhere(name: str) -> str:
    """Say that there is no such file of a config, and which is the nearest."""
    *own, packaged = folders("conf")
    group, _, last = name.rpartition("/")
    files = (file for folder in (*own, packaged) for file in (folder / group).glob("*.yaml"))
    places = [*(f"{short(folder)}/" for folder in own), "the packaged conf/"]
    near = did_you_mean(last, [file.stem for file in files])
    return f"there is no {name}.yaml in {' or '.join(places)}.{near}"


_LAUNCHERS = {  # of Hydra's own, the packages
    "joblib": "hydra-joblib-launcher",
    "ray": "hydra-ray-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}


def in_shell(override: str) -> str:
    """Return an override as a shell takes it, for messages."""
    return f'"{override}"' if "'" in override else override


def _remedy(override: str, said: str) -> str:
    """Say what is wrong with an override that cannot be parsed, and what to write instead."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    if not equals:
        return "expected key=value."
    bare = re.fullmatch(r"choice\((.*)\)", value)
    quoted = f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}"
    for instead, why in (
        (f"{key}={bare[1]}" if bare else "", "choice() takes no null"),
        ("" if _CALL.search(value) else quoted, "a text with such signs needs quotes"),
    ):
        with suppress(HydraException):
            if instead and OverridesParser.create().parse_override(instead):
                return f"{why}; write {in_shell(instead)}."
    if ends := re.fullmatch(r"(?:tag\(.*, *)?((?:interval|range)\([^()]*\))\)?", value):
        return f"{ends[1]}: expected numbers as its ends."
    what = said.splitlines()[0].rstrip(".")
    return f"not in Hydra's override grammar: {what}."


_CALL = re.compile(r"\b(choice|range|interval|tag|glob|sort|shuffle|extend_list)\(")
