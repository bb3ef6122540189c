"""Readers: what a file says of itself is used, and one that is read wrongly is refused as one."""

import bz2
import codecs
import gzip
import json
import lzma
import os
import pickle
import re
import struct
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
from pipeline.data.shapes import column_of

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
    cut, other = "is cut or damaged .* Copy it again", f"is no .{suffix} file: it "
    for damaged, said in (
        (packed[:-5], cut),
        (packed[:14] + b"damage" * 9, cut),
        (CSV.encode(), f"{other}seems not to be compressed; expected one, or"),
        (b"%PDF-1.7", f"{other}begins as .pdf files do"),
        (COMPRESS[suffix](b""), "the file is empty; expected rows"),
    ):
        Path(f"cut.csv.{suffix}").write_bytes(damaged)
        assert re.match(f"cut.csv.{suffix}: {said}", refusal(f"cut.csv.{suffix}"))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_without_its_suffix_is_no_matter_of_encoding(suffix):
    Path("rows.csv").write_bytes(COMPRESS[suffix](CSV.encode()))
    assert f".{suffix} files do; expected text, or that suffix" in refusal("rows.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(ROWS), "begins as .pkl files do"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "begins as .png files do"),
        (b"review,st\0ars\n", "holds NUL. The file is binary or damaged"),
        (b"\0" * 9000, "holds NUL. The file is binary or damaged"),
        (struct.pack("<40d", *range(40)), "The file is binary or damaged"),
    ],
)
def test_a_binary_file_is_no_matter_of_encoding(content, said, encoding):
    Path("rows.csv").write_bytes(content)
    assert said in refusal("rows.csv", TextFormat(encoding))
    assert "data.encoding" not in refusal("rows.csv", TextFormat(encoding))


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
    assert f"Try data.encoding={codec} " in refusal("rows.csv", TextFormat(codec[:-3]))
    assert read("rows.csv", TextFormat(codec))[0][:1] == ROWS[:1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["é".encode(), b"\xe9"], "line 3: byte 0xe9 is not utf-8, but line 2 is"),
        ([b"\xe9", "é".encode()], "line 2: byte 0xe9 is not utf-8, but line 3 is"),
        ([b"\xe9", b"\xe8"], "data.encoding=latin-1"),
        ([b"\x93so\x94"], "data.encoding=cp1252"),
        ([b"\xe9", b"\x93so\x94"], "data.encoding=cp1252"),
        ([b"\xe9\x93"], "data.encoding=cp1252"),
    ],
)
def test_an_encoding_is_proposed_unless_a_file_mixes_two(lines, said):
    Path("rows.csv").write_bytes(b"review,stars\n" + b"".join(b"%s,pos\n" % one for one in lines))
    assert said in refusal("rows.csv")
    assert ("mixes encodings" in refusal("rows.csv")) == ("but line" in said)


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


@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_is_a_row_unless_it_may_hold_rows(indent):
    row = {"context": "so", "answers": {"text": ["so"], "answer_start": [0]}, "tags": ["a"]}
    Path("row.json").write_text(json.dumps(row, indent=indent))
    assert read("row.json") == ([row], [])
    for rows in ({"version": "1", "rows": ROWS}, {"review": {"0": "fine"}}, {"review": ["fine"]}):
        Path("row.json").write_text(json.dumps(rows, indent=indent))
        assert "found a JSON object, expected an array of objects" in refusal("row.json")


def test_json_lines_that_are_no_objects_are_refused_one_by_one():
    Path("list.jsonl").write_text('["fine", "pos"]\n["bad", "neg"]\n{"a": 1}\n')
    rows, refused = read("list.jsonl")
    assert rows == [{"a": 1}]
    assert ["found a JSON array, expected an object" in said for said in refused] == [True, True]


def test_the_line_of_a_syntax_error_is_that_of_the_file():
    Path("rows.json").write_text('\n\n[{"a": 1},\n\n{"a": 2}\n{"a": 3}]')
    assert "rows.json, line 6: not JSON" in refusal("rows.json")


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


def test_objects_over_several_lines_are_one_fault_of_a_file_called_jsonl():
    content = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    for name in ("rows.json", "rows.jsonl"):
        Path(name).write_text(content)
        assert f"{name}, line 5: more than one JSON document; expected one array" in refusal(name)
    Path("rows.jsonl").write_text(json.dumps(ROWS[0], indent=1))
    assert read("rows.jsonl") == (ROWS[:1], [])
    Path("rows.jsonl").write_text('{"a": \n{"a": 1}\n')  # one line alone is broken
    assert len(read("rows.jsonl")[1]) == 1


@pytest.mark.parametrize("name", ["https://example.org/rows.csv", "hf://datasets/a/b.csv"])
def test_a_url_is_refused_as_one(name):
    assert "is a URL; expected a file" in refusal(name)


def test_what_is_no_file_says_what_it_is():
    Path("gone.csv").symlink_to("nothing.csv")
    Path("loop.csv").symlink_to("loop.csv")
    os.mkfifo("pipe.csv")
    assert "gone.csv: is a link to nothing.csv, which does not exist" in refusal("gone.csv")
    assert "loop.csv: cannot be read: Too many levels of symbolic links" in refusal("loop.csv")
    assert "pipe.csv: is a pipe or a device" in refusal("pipe.csv")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_file_of_class_labels_gives_their_names(suffix):
    kind = ClassLabel(names=["neg", "pos"])
    deep = List({"kind": List(kind), "text": Value("string")})
    features = Features({"text": Value("string"), "label": kind, "all": List(kind), "deep": deep})
    deep_rows = [[{"kind": [1], "text": "a"}], [], None]
    rows = {
        "text": ["a", "b", "c"],
        "label": [1, 0, -1],
        "all": [[0, 1], [], [-1]],
        "deep": deep_rows,
    }
    made = Dataset.from_dict(rows, features)
    if suffix == "parquet":
        made.to_parquet("rows.parquet")
    else:
        made.save_to_disk("saved")
        next(Path("saved").glob("*.arrow")).rename("rows.arrow")
    found, _ = read(f"rows.{suffix}")
    assert [row["label"] for row in found] == ["pos", "neg", None]
    assert [row["all"] for row in found] == [["neg", "pos"], [], [None]]
    assert [row["deep"] for row in found] == [[{"kind": ["pos"], "text": "a"}], [], None]


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


@pytest.mark.parametrize(
    ("place", "is_said"),
    [
        ("a/rows.csv, row rows.csv:2", True),
        ("rows.tsv.gz:2", True),
        ("rows.parquet:1", False),
        ("rows.jsonl, row rows.jsonl:1", False),
        ("record 1", False),
    ],
)
def test_a_header_is_missed_where_a_line_can_be_one(place, is_said):
    with pytest.raises(DataError, match=f"^{place}: there is no column 'text'") as refused:
        column_of({"0": "fine", "1": "pos"}, "data.text", "text", place)
    assert ("write a line above it" in str(refused.value)) == is_said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("text^label", "Try \"data.delimiter='^'\" (convert, predict: --delimiter '^')."),
        ("id:text:label", "Try \"data.delimiter=':'\" "),
        ("context", "."),
        ("texts^label", "."),
        ("text_label", "."),
    ],
)
def test_a_delimiter_is_proposed_that_finds_the_column(header, said):
    with pytest.raises(DataError) as refused:
        column_of({header: "fine"}, "data.text", "text", "a.csv, row a.csv:2")
    assert said in str(refused.value)
    assert ("delimiter" in str(refused.value)) == ("Try" in said)
