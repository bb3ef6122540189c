"""Data sets that `datasets` reads: whatever their card says, rows come from files of their own."""

import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Json, List, Value, data_files, packaged_modules

from pipeline.common.errors import DataError
from pipeline.config.data import HubConfig
from pipeline.data import hub
from tests.support.configs import files

OWN = [{"text": "own", "label": "a"}]
SECRET = "text,label\nsecret,b\n"


@pytest.fixture(autouse=True)
def private(tmp_path_factory, monkeypatch) -> Path:
    """A file that is nobody's business, outside the working folder."""
    cache = str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    file = tmp_path_factory.mktemp("private") / "train.csv"
    file.write_text(SECRET, encoding="utf-8")
    return file


def data_set(card: str = "", name: str = "rows") -> str:
    folder = Path(name)
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nown,a\n", encoding="utf-8")
    if card:
        text = f"---\nconfigs:\n- config_name: default\n  {card}\n---\n"
        (folder / "README.md").write_text(text, encoding="utf-8")
    return name


def load(name: str) -> list[dict]:
    shared = vars(files(train="x"))
    kept = {key: value for key, value in shared.items() if key in HubConfig.__dataclass_fields__}
    own = {"source": "hub", "name": name, "subset": None, "revision": None}
    splits = {"train": "train", "validation": None, "test": None}
    return [*hub.load(HubConfig(**{**kept, **own, **splits}), "train", f"{name}, split train")]


def refused(name: str, *fragments: str) -> None:
    with pytest.raises(DataError) as refusal:
        load(name)
    for fragment in (f"{name}, split train: ", *fragments):
        assert fragment in str(refusal.value)


def test_the_names_that_datasets_does_not_publish_are_where_they_were():
    assert callable(data_files.resolve_pattern)
    assert set(hub.FORMATS) <= set(packaged_modules._PACKAGED_DATASETS_MODULES)


@pytest.mark.parametrize(
    "card", ["", "data_files: train.csv", "data_files: '*.csv'", "data_dir: ."]
)
def test_a_folder_is_read(card):
    assert load(data_set(card)) == OWN


@pytest.mark.parametrize(
    "card",
    [
        "data_files: {file}",
        "data_files: [train.csv, {file}]",
        "data_files: [{{split: train, path: train.csv}}, {{split: test, path: {file}}}]",
        "data_files: {folder}/*",
        "data_files: ../{up}/train.csv",
        "data_dir: {folder}",
        "data_files: file://{file}",
        "data_files: simplecache::file://{file}",
    ],
)
def test_a_card_that_names_a_file_elsewhere_is_refused(card, private, working_folder):
    up = os.path.relpath(private.parent, working_folder)
    text = card.format(file=private, folder=private.parent, up=up)
    refused(data_set(text), str(private.parent), "not a file of its own", "data=files data.train=…")


def test_a_card_that_names_an_address_opens_no_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/train.csv"
        refused(data_set(f"data_files: {address}"), address)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("pattern", "base"), [("/p/train.csv", "hf://datasets/a/b@1"), ("*.csv", "/p")]
)
def test_a_repositorys_card_that_names_a_local_path_is_refused(pattern, base):
    with hub._own_files([], "data"), pytest.raises(DataError, match="not a file of its own"):
        data_files.resolve_pattern(pattern, base_path=base)


def test_a_link_out_of_the_folder_is_refused(private):
    name = data_set()
    Path(name, "train.csv").unlink()
    Path(name, "train.csv").symlink_to(private)
    refused(name, "rows/train.csv", f"({private})")


def test_links_into_the_working_folder_and_the_hubs_cache_are_read(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    blob = cache / "blob"
    for kept in (blob, Path("kept.csv").absolute()):
        name = data_set(name=kept.stem + "-rows")
        Path(name, "train.csv").rename(kept)
        Path(name, "train.csv").symlink_to(kept)
        assert load(name) == OWN


def test_a_format_is_not_taken_for_a_data_set():
    Path("mine.csv").write_text(SECRET, encoding="utf-8")
    refused("csv", "every file of the working folder")
    assert load(data_set(name="csv")) == OWN  # a folder that is called like one


def test_a_cell_that_names_a_file_opens_none(private):
    features = Features(
        {"text": Value("string"), "image": Image(), "images": List({"image": Image()})}
    )
    cell = {"bytes": None, "path": str(private)}
    row = {"text": "own", "image": cell, "images": [{"image": cell}]}
    table = pa.Table.from_pylist([row], schema=features.arrow_schema)
    Path("rows").mkdir()
    pq.write_table(table, "rows/train.parquet")
    assert load("rows") == [{"text": "own"}]


def test_columns_of_json_are_kept():
    rows = {"turns": [[{"a": 1}, {"b": "c"}]]}
    Path("rows").mkdir()
    Dataset.from_dict(rows, Features({"turns": List(Json())})).to_parquet("rows/train.parquet")
    assert load("rows") == [{"turns": [{"a": 1}, {"b": "c"}]}]


def test_a_folder_of_images_is_refused():
    Path("rows").mkdir()
    Path("rows/a.png").write_bytes(b"")
    refused("rows", "of the format imagefolder", "arrow, csv, json")
