"""Readers: what a file says of itself is used, and one that is read wrongly is refused as one."""

import bz2
import codecs
import gzip
import json
import lzma
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import DataError
from pipeline.common.text_format import TextFormat
from pipeline.data.readers import READERS, read_records

CSV = "review,stars\nfine,pos\ngrün,neg\n"
ROWS = [{"review": "fine", "stars": "pos"}, {"review": "grün", "stars": "neg"}]


def read(path, text_format=None):
    """Return the records of a file, and what others were refused for."""
    refused = []
    records = read_records(Path(path), text_format or TextFormat(), refused.append)
    return [values for _, values in records], [str(error) for error in refused]


def refusal(path, text_format=None):
    """Return what a file as a whole is refused for."""
    with pytest.raises(DataError) as error:
        read(path, text_format)
    return str(error.value)


def zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zst}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_text_file_is_read_and_a_damaged_one_refused(suffix):
    packed = COMPRESS[suffix](CSV.encode())
    Path(f"rows.csv.{suffix}").write_bytes(packed)
    assert read(f"rows.csv.{suffix}") == (ROWS, [])
    for damaged in (packed[:-5], b"no such format", packed[:10] + b"damage" * 9):
        Path(f"cut.csv.{suffix}").write_bytes(damaged)
        assert f"cut.csv.{suffix}" in refusal(f"cut.csv.{suffix}")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_without_its_suffix_is_no_matter_of_encoding(suffix):
    Path("rows.csv").write_bytes(COMPRESS[suffix](CSV.encode()))
    assert f".{suffix} file does; expected text, or that suffix" in refusal("rows.csv")


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_byte_order_mark_decides_the_encoding(mark, codec, encoding):
    Path("rows.csv").write_bytes(mark + CSV.encode(codec))
    assert read("rows.csv", TextFormat(encoding)) == (ROWS, [])


@pytest.mark.parametrize("content", [CSV, "review,stars\nfine,pos\n"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_names_the_key_that_reads_it(codec, content):
    Path("rows.csv").write_bytes(content.encode(codec))
    assert f"data.encoding={codec}" in refusal("rows.csv")
    assert f"Try data.encoding={codec[:-3]}-le" in refusal("rows.csv", TextFormat(codec[:-3]))
    assert read("rows.csv", TextFormat(codec))[0][:1] == ROWS[:1]


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig"])
def test_an_undecodable_line_is_named_in_any_encoding(codec):
    content = ("review,stars\n" + "fine,pos\n" * 3000).encode(codec)
    Path("cut.csv").write_bytes(content + b"\xff")
    said = refusal("cut.csv")
    assert "cut.csv, line 3002: byte 0xff" in said
    assert f"is not {codec}, which its byte order mark names" in said


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "pipe"), ("~", "~")]
)
def test_a_delimiter_is_given_and_the_fitting_one_is_named(delimiter, name):
    Path("rows.csv").write_text(CSV.replace(",", delimiter), encoding="utf-8")
    assert read("rows.csv", TextFormat(delimiter=name)) == (ROWS, [])
    if delimiter != name:
        assert f"Try data.delimiter={name} " in refusal("rows.csv")


def test_a_header_of_one_column_may_hold_any_character():
    Path("rows.tsv").write_text("review, in short\nfine\n")
    assert read("rows.tsv", TextFormat(delimiter="tab")) == ([{"review, in short": "fine"}], [])


def test_a_lone_quote_is_a_character_without_quoting():
    Path("rows.tsv").write_text('review\tstars\n"fine\tpos\nsize 5\tneg\n')
    assert "data.quoting=none" in refusal("rows.tsv")
    rows, refused = read("rows.tsv", TextFormat(quoting="none"))
    assert ([row["review"] for row in rows], refused) == (['"fine', "size 5"], [])


def test_a_header_in_the_middle_is_no_row():
    Path("rows.csv").write_text(CSV + CSV, encoding="utf-8")
    rows, (said,) = read("rows.csv")
    assert rows == ROWS * 2
    assert "rows.csv, line 4: the header again" in said


def test_json_is_read_by_line_or_whole_whatever_its_suffix_says():
    by_line = "\n" + "".join(json.dumps(row) + "\n" for row in ROWS)
    for content in (by_line, json.dumps(ROWS), json.dumps(ROWS, indent=1)):
        for name in ("rows.json", "rows.jsonl"):
            Path(name).write_text(content)
            assert read(name) == (ROWS, []), (name, content)
    Path("rows.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    assert read("rows.json") == (ROWS, [])


def test_a_line_that_is_not_json_is_named_in_a_file_called_json_too():
    Path("rows.json").write_text('{"a": 1}\n\n{"a": \n')
    rows, (said,) = read("rows.json")
    assert rows == [{"a": 1}]
    assert "rows.json, line 3: not JSON" in said


def test_a_key_that_hides_another_is_refused():
    Path("rows.jsonl").write_text('{"a": 1}\n{"b": {"a": 1, "a": 2}}\n')
    rows, (said,) = read("rows.jsonl")
    assert rows == [{"a": 1}]
    assert "rows.jsonl, line 2: an object has the key 'a' twice" in said


@pytest.mark.parametrize("name", ["https://example.org/rows.csv", "hf://datasets/a/b.csv"])
def test_a_url_is_refused_as_one(name):
    assert "is a URL; expected a file" in refusal(name)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_file_of_class_labels_gives_their_names(suffix):
    kind = ClassLabel(names=["neg", "pos"])
    features = Features({"text": Value("string"), "label": kind, "all": List(kind)})
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1], "all": [[0, 1], [], [-1]]}
    made = Dataset.from_dict(rows, features)
    if suffix == "parquet":
        made.to_parquet("rows.parquet")
    else:
        made.save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).rename("rows.arrow")
    found, _ = read(f"rows.{suffix}")
    assert [row["label"] for row in found] == ["pos", "neg", None]
    assert [row["all"] for row in found] == [["neg", "pos"], [], [None]]


def test_metadata_that_datasets_did_not_write_is_not_read():
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({"huggingface": "{]"})
    with pa.OSFile("rows.arrow", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert read("rows.arrow") == ([{"label": 0}, {"label": 1}], [])


PIECES = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"a,b\n",
    b"\r\n",
    b"\t",
    b"[{",
    b'{"a": 1}',
    b"}]\n",
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=40)).map(b"".join),
    st.sampled_from([*READERS, ".csv.gz", ".jsonl.zst", ".json.xz", ".tsv.bz2"]),
    st.builds(
        TextFormat,
        st.sampled_from(["utf-8", "utf-16", "utf-32-le", "latin-1", "gb18030"]),
        st.sampled_from([None, "tab", ";"]),
        st.sampled_from(["minimal", "none"]),
    ),
)
def test_any_bytes_are_records_or_refused(content, suffix, text_format):
    path = Path(f"any{suffix}")
    compress = COMPRESS.get(path.suffix[1:], bytes)
    for written in (content, compress(content)):
        path.write_bytes(written)
        with suppress(DataError):
            read(path, text_format)
