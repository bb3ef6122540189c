"""Things that a config names, each a module of a package: this room knows none of them."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from pipeline.common.errors import did_you_mean, listing
from pipeline.config.types import conflict


@dataclass(frozen=True)
class ByName:
    """Looks up what the module of a name defines."""

    group: str  # of the config: its key ``name`` is a module
    package: str
    attribute: str  # what a module defines

    def find(self, name: Any) -> Any:
        """Return what the module of this name defines.

        Raises:
            PydanticCustomError: for another name, saying which there are.
        """
        is_name = isinstance(name, str) and name.isidentifier()
        found = self._of(name) if is_name and find_spec(f"{self.package}.{name}") else None
        if found is None:
            valid = self.names()
            raise conflict(
                f"{self.group}.name={name}: there is no such {self.group}."
                f"{did_you_mean(str(name), valid)} Valid: {listing(valid)}"
            )
        return found

    def names(self) -> list[str]:
        """Return the names of all modules of the package that define one."""
        found = iter_modules(import_module(self.package).__path__)
        return sorted(one.name for one in found if not one.ispkg and self._of(one.name) is not None)

    def _of(self, name: str) -> Any:
        return getattr(import_module(f"{self.package}.{name}"), self.attribute, None)
