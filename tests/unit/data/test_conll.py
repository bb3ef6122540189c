"""CoNLL files: sentences, their lines, and lines that do not fit."""

import gzip

import pytest

from pipeline.common.errors import DataError
from pipeline.data.readers import read_records


def test_sentences_have_the_columns_of_their_lines(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text(
        "-DOCSTART- -X- O\n\n# id one\nEU NNP B-ORG\n# NN O\n\n \t\n\n\nPeter NNP B-PER\r\n"
        "B. NNP I-PER\r\n"
    )
    assert list(read_records(path)) == [
        (
            4,
            {
                "tokens": ["EU", "#"],
                "tags": ["B-ORG", "O"],
                "1": ["EU", "#"],
                "2": ["NNP", "NN"],
                "3": ["B-ORG", "O"],
                "lines": [4, 5],
            },
        ),
        (
            10,
            {
                "tokens": ["Peter", "B."],
                "tags": ["B-PER", "I-PER"],
                "1": ["Peter", "B."],
                "2": ["NNP", "NNP"],
                "3": ["B-PER", "I-PER"],
                "lines": [10, 11],
            },
        ),
    ]


def test_tabs_keep_blanks_in_words_and_files_may_be_compressed(tmp_path):
    path = tmp_path / "a.bio.gz"
    path.write_bytes(gzip.compress(b"New York\tB-LOC\n\t\nrain\tO\n"))
    assert [of["tokens"] for _, of in read_records(path)] == [["New York"], ["rain"]]


def test_a_line_with_other_columns_is_refused_and_its_sentence_left_out(tmp_path):
    path = tmp_path / "a.iob2"
    path.write_text("EU B-ORG\n\nPeter B-PER\nB.\nSmith\n\nrain O\n")
    with pytest.raises(DataError, match=r"a.iob2, line 4: found 1 column \(B.\); expected 2, as"):
        list(read_records(path))
    refused: list[DataError] = []
    found = list(read_records(path, refuse=refused.append))
    assert [number for number, _ in found] == [1, 7]
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("words\nalone\n\nhere\n", [["words", "alone"], ["here"]]),
        ("Title\n\nEU B-ORG\n\nrain O\n", [["Title"], ["EU"], ["rain"]]),
        ("# NN O\nEU NN B-ORG\n", [["#", "EU"]]),
        ("# text = EU\n# newpar\nEU B-ORG\n", [["EU"]]),
        ("# newpar\nEU\tB-ORG\nNew York\tB-LOC\n", [["EU", "New York"]]),
        ("Peter B-PER\n-DOCSTART- O\nEU B-ORG\n", [["Peter"], ["EU"]]),
        ("#happy O\n#day O\n\na O\n", [["#happy", "#day"], ["a"]]),
        ("#id O\na O\n", [["#id", "a"]]),
        ("# a licence\n\nNew York\tB-LOC\nis\tO\n", [["New York", "is"]]),
        ("EU B-ORG\n\n# a comment alone\n\nrain O\n", [["EU"], ["rain"]]),
    ],
)
def test_comments_documents_and_columns_are_told_apart(tmp_path, text, tokens):
    path = tmp_path / "a.conll"
    path.write_text(text)
    assert [of["tokens"] for _, of in read_records(path)] == tokens
