"""A study's database that does not answer is asked again, and given up with a paragraph."""

import pytest
from optuna.storages import InMemoryStorage
from sqlalchemy.exc import OperationalError

from pipeline.common.errors import TrackingError
from pipeline.search.study import patience


class Failing(InMemoryStorage):
    """A storage that is away for so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def get_all_studies(self):
        self.left -= 1
        if self.left >= 0:
            raise OperationalError("SELECT", {}, Exception("the server closed the connection"))
        return super().get_all_studies()


def test_a_call_is_made_again_until_the_database_answers():
    storage = patience.patient(Failing(2), "postgresql://me:secret@host/db")
    assert storage.get_all_studies() == []


def test_a_database_that_stays_away_is_one_paragraph_and_not_waited_for_twice(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    failing = Failing(99)
    storage = patience.patient(failing, "postgresql://me:secret@host/db")
    with pytest.raises(TrackingError, match=r"me:\*\*\*@host.*did not answer.*closed the conn"):
        storage.get_all_studies()
    left = failing.left
    with pytest.raises(TrackingError, match="it resumes"):
        storage.get_all_studies()
    assert failing.left == left - 1
