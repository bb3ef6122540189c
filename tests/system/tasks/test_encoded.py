"""Encoded data on disk, where its maker is killed."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from pipeline.tasks import encoded_cache as encoded
from tests.support.rows import labelled, tiny_task

KILLED = """
import os, sys
from pathlib import Path
from pipeline.tasks import encoded_cache as encoded
from pipeline.tasks.encoded_cache import EncodedStore
store = EncodedStore(Path("cache"))
def make():
    print("making", flush=True)
    sys.stdin.read()
store.get("key", None, make)
"""


def test_lock_of_a_killed_process_is_taken_over(tiny_model):
    task = tiny_task(tiny_model, {"neg": 1, "pos": 1}, 6)
    given = labelled([("the good film", "pos"), ("so sad", "neg")])
    calls = []

    def make():
        calls.append("key")
        return task.encode(given)

    process = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(encoded.__file__).parents[2])},
    )
    assert process.stdout.readline() == b"making\n"
    store = encoded.EncodedStore(Path("cache"))
    waiting = threading.Thread(target=store.get, args=("key", given, make))
    waiting.start()
    waiting.join(0.3)
    assert not calls  # while somebody else makes it
    process.kill()
    process.wait()
    waiting.join(120)
    assert calls == ["key"]
