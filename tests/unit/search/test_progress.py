"""What a search says of its trials while it runs."""

import io
import re

import pytest
from rich.console import Console

from pipeline.search import progress
from pipeline.search.study.trials import ADDED
from tests.support.studies import spec


@pytest.mark.parametrize("added", [0, 1])
def test_trials_that_end_between_two_looks_are_counted_one_by_one(
    working_folder, monkeypatch, added
):
    monkeypatch.setattr(progress, "POLL_SECONDS", 60.0)  # all are told at the end
    own = spec(working_folder, "TPESampler", 3)
    printed = Console(file=io.StringIO(), width=200)
    with progress.Progress(own, printed):
        study = own.open()
        for _ in range(added):
            study.enqueue_trial({"x": 0.0, "y": 0.0}, user_attrs={ADDED: "mine"})
        study.optimize(
            lambda t: t.suggest_float("x", -5, 5) + t.suggest_float("y", -5, 5), 3 + added
        )
    counts = re.findall(r"trial (\d): .*?; (\d) of (\d) done", printed.file.getvalue())
    most = 3 + added
    assert counts == [(str(n), str(n + 1), str(most)) for n in range(most)]
