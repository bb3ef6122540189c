"""What a single run says while it lasts."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.common.text import printable_lines
from pipeline.training.outcome import RUN_LOGGER


class _Printable(logging.Formatter):
    """Labels and the like are somebody else's texts."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


@contextmanager
def run_lines(*, show: bool = True) -> Iterator[None]:
    """Print a run's own log lines, if they are to be shown."""
    if not show:
        yield
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Printable())
    logger = logging.getLogger(RUN_LOGGER)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
