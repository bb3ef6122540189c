"""Counterfactual texts: the same text with a term of identity swapped for another one.

After Garg et al., 2019: Counterfactual fairness in text classification through robustness.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipeline.common.errors import ConfigError

DEFAULT = "default"  # names the list that comes with the package
KEY = "evaluation.counterfactual"


@dataclass(frozen=True)
class Terms:
    """By category the terms, in lower case, each with the one that takes its place."""

    swaps: Mapping[str, Mapping[str, str]]

    @cached_property
    def _patterns(self) -> Mapping[str, re.Pattern[str]]:
        # The longest first: "chinese people" before "chinese".
        words = {c: sorted(swaps, key=len, reverse=True) for c, swaps in self.swaps.items()}
        return {
            category: re.compile(rf"\b(?:{'|'.join(map(re.escape, every))})\b", re.IGNORECASE)
            for category, every in words.items()
        }

    def swapped(self, text: str) -> dict[str, str]:
        """Return by category the text with all its terms of that category swapped."""
        found = {}
        for category, pattern in self._patterns.items():
            swaps = self.swaps[category]
            new = pattern.sub(partial(_swap, swaps), text)
            if new != text:
                found[category] = new
        return found


def read_terms(name: str, folders: Sequence[Path]) -> Terms:
    """Read a list of terms.

    Args:
        name: a YAML file, or `DEFAULT`.
        folders: where the default list may lie, the first that has it counts.

    Raises:
        ConfigError: for a file that is not there, or holds no such list.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(name)
    if name == DEFAULT:
        found = [folder / "identity_terms.yaml" for folder in folders]
        path = next(file for file in found if file.is_file())
    elif not path.is_file():
        raise ConfigError(f"{KEY}={name}: there is no such file; expected one, or {DEFAULT}.")
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{KEY}={name}: not YAML: {reason}") from error
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{KEY}={name}: found no categories; expected gender: [[he, she], …] …")
    return Terms({str(category): _swaps(name, category, sets) for category, sets in tree.items()})


def _swaps(name: str, category: Any, sets: Any) -> dict[str, str]:
    swaps: dict[str, str] = {}
    for terms in sets if isinstance(sets, list) else [sets]:
        words = terms if isinstance(terms, list) else []
        if len(words) < 2 or not all(isinstance(word, str) and word.strip() for word in words):
            raise ConfigError(
                f"{KEY}={name}: {category}: found {terms!r}; expected lists of two terms or more "
                "that may stand for each other, such as [he, she] (quote yes, no, on and off)."
            )
        lower = [word.strip().lower() for word in words]
        for term, following in zip(lower, [*lower[1:], lower[0]], strict=True):
            swaps.setdefault(term, following)
    return swaps


def _swap(swaps: Mapping[str, str], found: re.Match[str]) -> str:
    """Return what takes a term's place, in its case."""
    given, term = found[0], swaps[found[0].lower()]
    if given.isupper() and len(given) > 1:
        return term.upper()
    return term[:1].upper() + term[1:] if given[:1].isupper() else term
