"""Why a run failed: an interrupt stays one, whatever a library makes of it."""

from pipeline.common.errors import is_interrupted, reason_of


def test_interrupt_wrapped_by_an_import_is_told_as_stopped():
    wrapped = ModuleNotFoundError("Could not import module")
    wrapped.__cause__ = RuntimeError()
    wrapped.__cause__.__context__ = KeyboardInterrupt()
    assert is_interrupted(wrapped)
    assert reason_of(wrapped) == reason_of(KeyboardInterrupt()) == "stopped: interrupted"
    assert reason_of(KeyboardInterrupt("SIGTERM")) == "stopped: SIGTERM"
    plain = ModuleNotFoundError("x")
    assert not is_interrupted(plain)
    assert reason_of(plain) == "error: ModuleNotFoundError: x"
