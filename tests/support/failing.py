"""Trials that fail."""

import pytest

from pipeline.tasks.classification import Classification


def fail_first(patch: pytest.MonkeyPatch) -> None:
    """Have the first model that is loaded fail by a bug."""
    load, calls = Classification.load_model, []

    def load_model(self):
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return load(self)

    patch.setattr(Classification, "load_model", load_model)
