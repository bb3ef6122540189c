"""Commands in processes of their own, to be killed: forked with all imported, which takes seconds.

Of a search that is started here the workers are forked from the tests' own server.
"""

import os
import signal
import sys
import tempfile
import traceback

from pipeline.cli import main
from pipeline.jobs.warm_up import warm_up
from pipeline.search.workers.child import Child
from pipeline.search.workers.fork_server import fork_server


class Started:
    """A command that runs in the current folder; it is asked as `subprocess.Popen` is."""

    def __init__(self, *argv: str) -> None:
        warm_up()
        self._said = tempfile.NamedTemporaryFile(encoding="utf-8", mode="r")  # noqa: SIM115
        self._child = Child(_run, (argv, os.getcwd(), self._said.name), {})
        self._process = self._child.process
        self.kill = self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode

    def send_signal(self, sign: int) -> None:
        os.kill(self._process.pid, sign)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait, and return what it printed, errors included."""
        assert self.wait(timeout) is not None, "it still runs"
        return self._said.read(), None


def _run(argv: tuple[str, ...], folder: str, said: str) -> None:
    os.chdir(folder)
    with open(said, "w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    fork_server().is_wanted = False  # `main` wants one where the command does
    code = 1
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
