"""Files and folders are replaced whole or not at all, and leave nothing else behind."""

import os
import stat
from pathlib import Path

import pytest

from pipeline.common.atomic import remove_leftovers, replacing, scratch


def test_the_place_changes_at_the_end_alone(working_folder):
    place = working_folder / "a.txt"
    place.write_text("old")
    with replacing(place) as made:
        made.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert list(working_folder.iterdir()) == [place]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("before", "after"), [(None, 0o600), (0o644, 0o644), (0o400, 0o400)])
def test_a_new_file_is_private_and_one_that_replaces_another_has_its_mode(
    working_folder, before, after
):
    place = working_folder / "a.txt"
    if before is not None:
        place.touch()
        place.chmod(before)
    with replacing(place) as made:
        made.write_text("new")
        made.chmod(0o666)
    assert stat.S_IMODE(place.stat().st_mode) == after


def test_after_an_error_the_place_is_as_it_was(working_folder):
    place = working_folder / "a.txt"
    place.write_text("old")

    def interrupted() -> None:
        with replacing(place) as made:
            made.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert place.read_text() == "old"
    assert list(working_folder.iterdir()) == [place]


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_flushed_before_its_name_and_its_folder_after(
    working_folder, monkeypatch, durable
):
    place, done = working_folder / "a.txt", []
    sync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if is_folder else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    with replacing(place, durable=durable) as made:
        made.write_text("new")
    assert done == (["file", "name", "folder"] if durable else ["name"])


def test_a_folder_of_another_process_is_kept_where_that_is_asked_for(working_folder):
    place = working_folder / "folder"

    def race(**options: bool) -> None:
        with replacing(place, **options) as made:
            made.mkdir()
            place.mkdir(exist_ok=True)
            (place / "theirs").touch()

    race(keep=True)
    with pytest.raises(OSError, match="not empty"):
        race()
    assert [path.name for path in place.iterdir()] == ["theirs"]
    assert list(working_folder.iterdir()) == [place]


def test_keep_excuses_no_other_error(working_folder):
    place = working_folder / "folder"
    with pytest.raises(FileNotFoundError), replacing(place, keep=True):
        pass  # nothing was made
    assert not list(working_folder.iterdir())


def test_scratch_has_the_name_lies_hidden_beside_it_and_is_deleted(working_folder):
    with scratch(working_folder / "a.csv") as path:
        assert path.name == "a.csv"
        assert path.parent.parent == working_folder
        assert path.parent.name.startswith(".")
        assert not path.exists()
        path.mkdir()
        (path / "more").touch()
    assert not list(working_folder.iterdir())


def test_leftovers_are_deleted_by_name_and_nothing_else(working_folder):
    unfinished = [scratch(working_folder / name) for name in ("a", "b")]  # as after a kill
    ours, others = (making.__enter__().parent for making in unfinished)
    whole = working_folder / "a"
    whole.touch()
    remove_leftovers(working_folder, "a")
    assert set(working_folder.iterdir()) == {others, whole}
    remove_leftovers(working_folder)
    assert set(working_folder.iterdir()) == {whole}
    assert not ours.exists()
