"""What of a search needs the workers' imports, done where they are."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.common.process import without_gc
from pipeline.search.workers.child import in_child
from pipeline.search.workers.fork_server import fork_server
from pipeline.tracking.tables import import_tables

T = TypeVar("T")


def aside(
    function: Callable[..., T], *args: object, meanwhile: Callable[[], object] = lambda: None
) -> T:
    """Call a function in a child of the fork server, where there is one, else here.

    The server may still import: meanwhile this process imports what it needs itself later, and
    does what there is to do; the child is given the rows that were read by then. Without a server
    the function is first: it refuses in less time than reading takes.

    Raises:
        WorkerDiedError: where the child ended without a word.
        Exception: whatever the function raised.
    """
    if not fork_server().is_wanted:
        found = function(*args)
        meanwhile()
        return found
    with without_gc():
        import pipeline.analysis.report  # noqa: F401  # matplotlib

        import_tables()
    meanwhile()
    return in_child(function, *args)
