"""A PostgreSQL server, and a database in it for each test."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.servers import free_port

SERVERS = "postgresql/*/bin"  # of Debian, in /usr/lib; its programs are not on the PATH


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server."""

    url: str  # without a database
    start: Callable[[], None]
    stop: Callable[[], None]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server of our own, ended with the tests."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    found = sorted(Path("/usr/lib").glob(SERVERS))
    if not found:
        pytest.skip(f"needs Debian's postgresql: there is no /usr/lib/{SERVERS}")
    port, root = free_port(), os.getuid() == 0
    user = ["runuser", "-u", "postgres", "--"] if root else []  # it will not run as root
    # Not in pytest's own folder, which is closed to other users.
    with tempfile.TemporaryDirectory(prefix="tunewright-postgres-") as folder:
        if root:
            shutil.chown(folder, "postgres", "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(found[-1] / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

        run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        given = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = ("-w", "-l", f"{folder}/log")
        start = partial(run, "pg_ctl", *log, "-o", f"{given} -c fsync=off", "start")
        stop = partial(run, "pg_ctl", "-m", "immediate", "stop")
        start()
        yield Server(f"postgresql+psycopg://postgres@127.0.0.1:{port}", start, stop)
        stop()


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    address = server.url.replace("postgresql+psycopg", "postgresql")
    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{server.url}/{name}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
