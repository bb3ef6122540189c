"""A canary: where a release of Python moves what `fork_server` touches, this says what broke."""

from multiprocessing import forkserver

from pipeline.search.workers.fork_server import ForkServer


def test_a_forked_process_starts_no_fork_server_of_its_own(monkeypatch):
    server = getattr(forkserver, "_forkserver", None)
    assert callable(getattr(server, "ensure_running", None)), (
        "multiprocessing.forkserver has no _forkserver.ensure_running any more: a worker would "
        "start a fork server of its own"
    )
    server = forkserver.ForkServer()  # that of this process may run already
    monkeypatch.setattr(forkserver, "_forkserver", server)
    ours = ForkServer()
    ours.share()
    server.ensure_running()
    assert server._forkserver_pid is None
    assert ours.is_anothers
