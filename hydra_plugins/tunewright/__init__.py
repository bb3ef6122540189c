"""Makes the sweeper known to Hydra: ``hydra/sweeper=optuna`` in any Hydra program.

Hydra imports this module at every start, so it imports nothing heavy itself.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Delegates to `pipeline.search.sweeper.Sweep`, which holds the options and does the work."""

    def __init__(self, **_: Any) -> None:
        # The options are read from the config that `setup` gets.
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self._function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives."""
        self.hydra_context = hydra_context
        self.config = config
        self._function = task_function

    def sweep(self, arguments: list[str]) -> Any:
        """Search; see `pipeline.search.sweeper.Sweep.run`.

        In a user's own program, an error that the user can fix is printed as a paragraph, without
        Hydra's traceback; HYDRA_FULL_ERROR=1 shows it.
        """
        from pipeline.common.errors import TunewrightError
        from pipeline.search.searchable import Searchable

        if isinstance(self._function, Searchable) or "HYDRA_FULL_ERROR" in os.environ:
            return self._search(arguments)
        try:
            return self._search(arguments)
        except TunewrightError as error:
            print(f"tunewright: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print("tunewright: stopped. Run the same command to resume.", file=sys.stderr)
            sys.exit(130)

    def _search(self, arguments: list[str]) -> Any:
        from pipeline.search.sweeper import Sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self._function is not None
        return Sweep(self.hydra_context, self._function, self.config).run(arguments)


class ProcessLauncher(Launcher):
    """Delegates to `pipeline.search.workers.launcher.Launcher`, which does the work."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self._function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives."""
        self.hydra_context = hydra_context
        self.config = config
        self._function = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run each job in a process of its own."""
        from pipeline.search.workers.launcher import Launcher as Processes

        assert self.hydra_context is not None
        assert self.config is not None
        assert self._function is not None
        launcher = Processes(**self._options)
        return launcher.launch(
            self.hydra_context, self._function, self.config, job_overrides, initial_job_idx
        )


class TunewrightSearchPath(SearchPathPlugin):
    """Offers the sweeper's and the samplers' configs to every Hydra program."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append our folder, so that a program's own configs come first."""
        search_path.append("tunewright", f"file://{Path(__file__).parent / 'conf'}")
