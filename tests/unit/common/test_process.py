"""A process is gone once it is killed, or its id is that of another."""

from pipeline.common.process import ABANDONED, identity, is_gone
from tests.support.studies import DEAD, REMOTE


def test_process_is_gone_when_killed_or_its_id_is_reused():
    assert is_gone(identity()) is False
    assert is_gone({**identity(), ABANDONED: "failed"}) is True
    assert is_gone({**identity(), "started": identity()["started"] - 60}) is True
    assert is_gone(DEAD) is True
    assert is_gone(REMOTE) is None
    assert is_gone({**REMOTE, ABANDONED: "failed"}) is True
    assert is_gone({}) is None
