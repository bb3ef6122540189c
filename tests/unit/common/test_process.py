"""A process is gone once it is killed, or its id is that of another; its start is known."""

import gc
import subprocess
import sys
import time

from pipeline.common.process import ABANDONED, identity, is_gone, without_gc
from tests.support.studies import DEAD, REMOTE


def test_process_is_gone_when_killed_or_its_id_is_reused():
    assert is_gone(identity()) is False
    assert is_gone({**identity(), ABANDONED: "failed"}) is True
    assert is_gone({**identity(), "started": identity()["started"] - 60}) is True
    assert is_gone(DEAD) is True
    assert is_gone(REMOTE) is None
    assert is_gone({**REMOTE, ABANDONED: "failed"}) is True
    assert is_gone({}) is None


def test_process_starts_when_it_is_created():
    code = "from pipeline.common.process import process_start; print(process_start())"
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        created = time.time()
        started = float(child.stdout.read())
    assert before - 0.02 < started < created + 0.02  # a clock tick is 0.01 s


def test_what_stays_is_hidden_from_the_collector_that_runs_again_afterwards():
    gc.unfreeze()
    try:
        with without_gc(freezes=True):
            kept = [[] for _ in range(1000)]
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() >= len(kept)
    finally:
        gc.unfreeze()
