"""Bitwise repeatability: threads and algorithms as configured, and a note if that fails."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from pipeline.config.training import TrainingConfig

# One message names the operation; cuBLAS and attention have their own.
_SAYS = re.compile(
    r"(\S+) does not have a deterministic implementation|(.*non-?deterministic|.*not deterministic)"
)


@contextmanager
def repeatable(training: TrainingConfig) -> Iterator[set[str]]:
    """Compute with the config's threads, with deterministic algorithms where they exist.

    torch's previous settings are restored: the next trial may have others.

    Yields:
        The operations that turned out to have no deterministic algorithm on this device.
    """
    threads = torch.get_num_threads()
    was_on = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    exceptions: set[str] = set()
    with ExitStack() as stack, warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("default", message=_SAYS.pattern)
        if training.threads is not None:
            torch.set_num_threads(training.threads)
        torch.use_deterministic_algorithms(training.deterministic, warn_only=True)
        # It would only make reads of uninitialised memory repeatable, at a cost.
        memory.fill_uninitialized_memory = False
        if training.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at CUDA's first use
        try:
            yield exceptions
        finally:
            memory.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
            torch.set_num_threads(threads)
            for one in reversed(caught):  # the stack calls the last one first
                said = _SAYS.match(str(one.message))
                if said:
                    exceptions.add(said[1] or said[2][-100:])
                else:
                    stack.callback(_warn_again, one)


def _warn_again(one: warnings.WarningMessage) -> None:
    warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
