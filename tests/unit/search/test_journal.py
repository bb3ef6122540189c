"""The journal of a study, read while others write to it."""

import os

import pytest

from pipeline.search.study.journal import Journal


def test_a_line_that_was_read_stays_where_a_signal_ends_its_writer(working_folder, monkeypatch):
    path = str(working_folder / "study.journal")
    writer, reader = Journal(path), Journal(path)
    found = []

    def interrupted(_):
        found.extend(reader.read_logs(0))
        raise KeyboardInterrupt

    first, second = (
        {"op_code": 4, "worker_id": name, "trial_id": 0} for name in ("one", "a longer name")
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append_logs([first])
    writer.append_logs([second])
    found.extend(reader.read_logs(len(found)))
    assert found == [first, second]
