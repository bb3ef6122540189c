"""check: planted faults are found at the right rows, and a clean file gives no warning."""

import csv
import gzip
import json
import random
from pathlib import Path

import pytest
from transformers import AutoConfig, BertModel

from tests.support.word_models import encoder

GOOD = ["superb", "delightful", "charming", "brilliant"]
BAD = ["dreadful", "tedious", "clumsy", "miserable"]
NOUNS = ["plot", "score", "camera", "script", "cast", "pace", "ending", "dialogue", "humour"]
NAMES = [f"{a}{b}" for a in "bdfglmnprst" for b in ("ana", "eno", "iru", "ola", "umi", "ysa")]


def make(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts that are nowhere near each other, and whose label shows in two words."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        label = chance.choice(["negative", "positive"])
        words = [*chance.sample(NAMES, 7), chance.choice(NOUNS)]
        words += chance.sample(GOOD if label == "positive" else BAD, 2)
        chance.shuffle(words)
        made.append((" ".join(words), label))
    return made


def write(name: str, rows: list[tuple[str, str]], start: bytes = b"", cut: int = 0) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])
    content = start + Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) - cut])


@pytest.fixture
def given_files(tmp_path_factory):
    model = encoder(tmp_path_factory.mktemp("model"), [*GOOD, *BAD, *NOUNS, *NAMES])
    BertModel(AutoConfig.from_pretrained(model)).save_pretrained(model)  # with a pooler
    return [
        *("model=hub", f"model.checkpoint={model}", "training.max_length=16", "data=files"),
        *("data.train=train.csv", "data.validation=valid.csv", "data.test=test.csv"),
    ]


def findings(ended) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for finding in json.loads(ended.out)["findings"]:
        found.setdefault(finding["kind"], []).append(finding)
    return found


def test_a_clean_file_gives_no_warning(cli, given_files):
    for name, count, seed in (("train.csv", 400, 1), ("valid.csv", 100, 2), ("test.csv", 100, 3)):
        write(name, make(count, seed))
    ended = cli("check", *given_files, "--format", "json")
    assert ended.code == 0
    levels = {finding["level"] for some in findings(ended).values() for finding in some}
    assert levels <= {"note"}, ended.out


def test_each_planted_fault_is_found_at_its_rows(cli, given_files):
    train, valid, chance = make(600, 1), make(100, 2), random.Random(4)
    flipped = sorted(chance.sample(range(600), 12))  # 2 %
    for i in flipped:
        text, label = train[i]
        train[i] = text, "negative" if label == "positive" else "positive"
    leaked = {97: 11, 98: 22, 99: 33}  # 3 %: row of valid -> row of train
    for there, here in leaked.items():
        valid[there] = train[here]
    near = {}
    for origin in (50, 60, 70, 80, 90):
        text, label = train[origin]
        first, *others = text.split()
        near[len(train)] = origin
        train.append((" ".join([f"{first}s", *others]), label))
    twin = next(i for i in range(100, 600) if i not in flipped)
    train[twin] = train[twin][0], train[twin][1].capitalize()
    train.append(("this one was being written when the disk was full", "negative"))
    write("train.csv", train, start=b"\xef\xbb\xbf", cut=12)
    write("valid.csv", valid)
    write("test.csv", make(100, 3))

    ended = cli("check", *given_files, "--format", "json")
    assert ended.code == 2  # the last line cannot be read
    found = findings(ended)
    row = "train.csv:{}".format
    (leak,) = found["leak"]
    assert leak["level"] == "warning"
    assert {tuple(group) for group in leak["rows"]} == {
        (row(here + 2), f"valid.csv:{there + 2}") for there, here in leaked.items()
    }
    (duplicate,) = found["duplicate"]
    assert {tuple(group) for group in duplicate["rows"]} == {
        (row(origin + 2), row(copy + 2)) for copy, origin in near.items()
    }
    (issues,) = found["label issue"]
    assert {group[0] for group in issues["rows"]} == {row(i + 2) for i in flipped}
    spelt = [f for f in found["label"] if "also written" in f["message"]]
    assert [f["rows"] for f in spelt] == [[[row(twin + 2)]]]
    assert {(f["level"], f["rows"][0][0]) for f in found["file"]} == {
        ("note", "train.csv:1"),
        ("warning", row(len(train) + 1)),
    }
    assert [f["level"] for f in found["row"]] == ["error"]
    assert f"line {len(train) + 1}" in found["row"][0]["message"]


def test_doubtful_labels_are_named_and_missing_ones_left_out(cli, given_files):
    train = make(120, 1)
    labels = ["1", "1.0", "1e0", "0", "0", "0"] * 19 + ["01", "01", "NA", "nan", "nan", "null"]
    write("train.csv", [(text, label) for (text, _), label in zip(train, labels, strict=True)])
    for name, seed in (("valid.csv", 2), ("test.csv", 3)):
        write(name, [(text, "01") for text, _ in make(20, seed)])
    ended = cli("check", *given_files, "--format", "json")
    found = {f["message"].split(";")[0]: f for f in findings(ended)["label"]}
    assert "the label '1' (57 rows) is also written '01' (42 rows)" in found
    words = "labels that read like missing values: 'nan' (2 rows), 'NA' (1 row), 'null' (1 row)"
    assert sorted(found[words]["rows"]) == [[f"train.csv:{n}"] for n in (118, 119, 120, 121)]
    settled = cli("check", *given_files, "data.missing_labels=[]", "--format", "json")
    assert "missing values" not in settled.out
    missing = "data.missing_labels=[NA,nan,null]"
    assert cli("check", *given_files, missing, "--fix", "clean").code == 0
    with Path("clean/train.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"1", "1.0", "1e0", "0", "01"}


def test_a_cleaned_copy_has_none_of_it(cli, given_files):
    train, valid = make(400, 1), make(100, 2)
    train += [train[5], (train[6][0].upper(), train[6][1]), (train[7][0], "Positive")]
    valid[0] = train[8]
    write("train.csv", train, start=b"\xef\xbb\xbf")
    write("valid.csv", valid)
    write("test.csv", make(100, 3))
    ended = cli("check", *given_files, "--fix", "clean")
    assert ended.code == 0, ended.err
    changes = list(csv.DictReader(Path("clean/changes.csv").read_text().splitlines()))
    changed = {(change["row"], change["change"].split(":")[0]) for change in changes}
    assert ("train.csv:402", "left out") in changed
    assert ("train.csv:10", "left out") in changed  # valid keeps its row
    again = [word.replace("=train.csv", "=clean/train.csv") for word in given_files]
    again = [word.replace("=valid.csv", "=clean/valid.csv") for word in again]
    checked = cli("check", *again, "--format", "json")
    assert not {"leak", "duplicate", "conflict", "file"} & findings(checked).keys(), checked.out
    refused = cli("check", *given_files, "--fix", "clean")
    assert refused.code == 2
    assert "already exists" in refused.err


def test_check_reports_rare_missing_and_dominant_labels(cli, given_files):
    train = [(text, "usual") for text, _ in make(300, 1)]
    train[:4] = [(text, "rare") for text, _ in train[:4]]
    write("train.csv", train)
    for name, seed in (("valid.csv", 2), ("test.csv", 3)):
        write(name, [(text, "usual") for text, _ in make(50, seed)])
    found = findings(cli("check", *given_files, "--format", "json"))
    messages = " ".join(finding["message"] for finding in found["label"])
    for part in ("'rare' (4)", "validation: no row of 'rare'", "98.7% of the labels are 'usual'"):
        assert part in messages


def test_files_of_a_folder_are_checked_and_cleaned_each_by_its_own_name(cli, given_files):
    for folder, seed in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        write(f"{folder}/train.csv", [*make(100, seed), ("", "positive")], cut=4)
    packed = Path("a/train.csv")
    Path("a/train.csv.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    write("valid.csv", make(50, 3))
    write("test.csv", make(50, 4))
    given = [*given_files, "data.train=[a,b/*.csv]"]
    found = findings(cli("check", *given, "--format", "json"))
    ends = [finding["rows"] for finding in found["file"]]
    assert ends == [[["train.csv.gz:102"]], [["train.csv:102"]]]
    ended = cli("check", *given, "--fix", "clean")
    assert ended.code == 0, ended.err
    copies = {path.name: len(path.read_text().splitlines()) for path in Path("clean").iterdir()}
    assert copies == {"changes.csv": 3, **dict.fromkeys(("train.csv", "train1.csv"), 101)} | {
        "valid.csv": 51,
        "test.csv": 51,
    }


def test_a_nested_label_is_respelt(cli, given_files):
    lines = [
        {"text": text, "meta": {"by": "me", "label": "Negative" if i == 0 else label}}
        for i, (text, label) in enumerate([("plain words", "negative"), *make(60, 1)])
    ]
    Path("train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    nested = ["data.train=train.jsonl", "data.validation=null", "data.test=null"]
    given = [*given_files, *nested, "data.label=meta.label"]
    assert cli("check", *given, "--fix", "clean").code == 0
    first = json.loads(Path("clean/train.jsonl").read_text().splitlines()[0])
    assert first == {"text": "plain words", "meta": {"by": "me", "label": "negative"}}


def test_rows_of_a_tsv_that_two_quotes_have_joined_are_named(cli, given_files):
    rows = [f"{text}\t{label}" for text, label in make(60, 1)]
    rows[3], rows[7] = f'"{rows[3]}', rows[7].replace("\t", '"\t')
    Path("train.tsv").write_text("\n".join(["text\tlabel", *rows, ""]))
    given = [*given_files[:5], "data.train=train.tsv", "--format", "json"]
    (found,) = findings(cli("check", *given))["file"]
    assert (found["level"], found["rows"]) == ("warning", [["train.tsv:5"]])
    assert "data.quoting=none" in found["message"]
    assert "file" not in findings(cli("check", *given, "data.quoting=none"))
