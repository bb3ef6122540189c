"""Where the local store is."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from pipeline.tracking.store import sqlite_url


@given(st.text("ab %?#&=+:@;é\\", min_size=1))
def test_a_database_is_where_its_folder_is_called_what_it_may_be(name):
    path = Path("/work", name, "mlflow.db")
    assert make_url(sqlite_url(path)).database == str(path)
