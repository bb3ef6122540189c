"""What is wrong is refused in one paragraph, exit code 2, before anything is written."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from pipeline.config.flags import folders
from tests.support.refusals import refused
from tests.support.rows import rows, write_rows


def test_missing_file(cli, tiny):
    refused(
        cli("train", *tiny, "data.train=review.jsonl"), "review.jsonl", "Did you mean reviews.jsonl"
    )


def test_empty_file(cli, tiny):
    Path("empty.csv").touch()
    refused(cli("train", *tiny, "data.train=empty.csv"), "empty.csv", "is empty")


def test_header_only(cli, tiny):
    Path("header.csv").write_text("review,stars\n")
    refused(cli("train", *tiny, "data.train=header.csv"), "header.csv", "no rows")


def test_wrong_column(cli, tiny):
    refused(
        cli("train", *tiny, "data.text=revew"),
        "reviews.jsonl:1",
        "data.text",
        "Did you mean review?",
    )


def test_wrong_encoding(cli, tiny):
    text = "review,stars\n" + "fine,pos\n" * 3000 + "café,neg\n" + "fine,pos\n" * 3000
    Path("latin.csv").write_bytes(text.encode("latin-1"))
    refused(
        cli("train", *tiny, "data.train=latin.csv"), "line 3002", "0xe9", "data.encoding=latin-1"
    )


def test_unknown_encoding(cli, tiny):
    refused(cli("train", *tiny, "data.encoding=utf-9"), "data.encoding=utf-9", "latin-1")


@pytest.mark.parametrize("given", ["data.train=[]", "data.test=[a.csv,3]", "data.validation=3"])
def test_paths_of_a_wrong_type(cli, tiny, given):
    refused(cli("train", *tiny, given), "should be a path, or a list of paths")


@pytest.mark.parametrize("given", ["data.delimiter=commas", "data.delimiter=[tab]"])
def test_unknown_delimiter(cli, tiny, given):
    refused(cli("train", *tiny, given), "should be comma, semicolon, tab, pipe or one character")


def test_row_without_text(cli, tiny):
    write_rows(Path("gap.jsonl"), [*rows(5), {"review": " ", "stars": "pos"}])
    refused(cli("train", *tiny, "data.train=gap.jsonl"), "gap.jsonl:6", "no text")


def test_row_without_label(cli, tiny):
    write_rows(Path("gap.jsonl"), [*rows(5), {"review": "fine day", "stars": None}])
    refused(cli("train", *tiny, "data.train=gap.jsonl"), "gap.jsonl:6", "no label", "None")


def test_line_that_is_not_json(cli, tiny):
    path = write_rows(Path("broken.jsonl"), rows(5))
    path.write_text(path.read_text() + '{"review": "fine"\n')
    refused(cli("train", *tiny, "data.train=broken.jsonl"), "broken.jsonl, line 6", "not JSON")


def test_short_row_of_a_csv(cli, tiny):
    Path("short.csv").write_text("review,stars\nfine day,pos\nbad day\n")
    refused(cli("train", *tiny, "data.train=short.csv"), "short.csv, line 3", "found 1 field,")


def test_unknown_suffix(cli, tiny):
    Path("rows.xls").write_text("x")
    refused(cli("train", *tiny, "data.train=rows.xls"), "rows.xls", ".csv")


def test_one_class_only(cli, tiny):
    write_rows(Path("one.jsonl"), [{**r, "stars": "pos"} for r in rows(40)])
    refused(cli("train", *tiny, "data.train=one.jsonl"), "one.jsonl", "'pos'", "two classes")


def test_label_that_training_lacks(cli, tiny):
    write_rows(Path("val.jsonl"), [*rows(5), {"review": "fine", "stars": "Pos"}])
    refused(
        cli("train", *tiny, "data.validation=val.jsonl"),
        "validation",
        "val.jsonl:6",
        "'Pos'",
        "pos",
    )


def test_more_classes_than_rows_can_teach(cli, tiny):
    write_rows(Path("ids.jsonl"), [{**r, "stars": str(i)} for i, r in enumerate(rows(40))])
    refused(
        cli(
            "train",
            *tiny,
            "data.train=ids.jsonl",
            "data.validation=ids.jsonl",
            "data.test=ids.jsonl",
        ),
        "40 different labels on 40 rows",
        "identifier",
    )


def test_quote_that_is_never_closed(cli, tiny):
    Path("quote.csv").write_text('review,stars\n"fine day,pos\n' + "bad day,neg\n" * 50)
    refused(cli("train", *tiny, "data.train=quote.csv"), "quote.csv, line 2:", "quote")


@pytest.mark.parametrize("column", ["review", "stars"])
def test_half_of_a_character(cli, tiny, column):
    broken = {"review": "fine", "stars": "pos"} | {column: "fine \ud83d"}
    write_rows(Path("half.jsonl"), [*rows(20), broken])
    refused(cli("train", *tiny, "data.train=half.jsonl"), "half.jsonl:21", column, "\\ud83d")


def test_fewer_rows_than_labels(cli, tiny):
    ended = cli("train", *tiny, "data.max_validation_samples=1")
    refused(ended, "data.max_validation_samples=1", "2 labels", "neg, pos")


def test_too_few_rows_to_split(cli, tiny):
    write_rows(
        Path("two.jsonl"),
        [{"review": "fine", "stars": "pos"}, {"review": "bad", "stars": "neg"}] * 2,
    )
    refused(cli("train", *tiny, "data.train=two.jsonl"), "two.jsonl", "too few", "data.test")


def test_unknown_model_offline(cli, tiny):
    refused(
        cli("train", *tiny, "model.checkpoint=no-such/model"), "no-such/model", "cannot be loaded"
    )


def test_folder_that_is_no_model(cli, tiny):
    Path("folder").mkdir()
    Path("folder", "notes.txt").touch()
    refused(cli("train", *tiny, "model.checkpoint=./folder"), "folder", "config.json", "notes.txt")


def test_folder_with_a_broken_config(cli, tiny):
    Path("folder").mkdir()
    Path("folder", "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    refused(cli("train", *tiny, "model.checkpoint=./folder"), "folder", "no-such-type")


def test_texts_longer_than_the_model(cli, tiny):
    refused(cli("train", *tiny, "training.max_length=33"), "max_length=33", "at most 32 tokens")


@pytest.mark.parametrize("objective", ["val/f1", "test/accuracy", "accuracy", "val/f1/"])
def test_objective_that_the_task_does_not_produce(cli, tiny, objective):
    refused(cli("train", *tiny, f"evaluation.objective={objective}"), objective, "val/f1_macro")


def test_objective_of_an_unknown_label(cli, tiny):
    ended = cli("train", *tiny, "evaluation.objective=val/f1/poss")
    refused(ended, "val/f1/poss", "Did you mean pos?")


def test_unknown_sampler(cli, tiny):
    ended = cli("train", "-m", *tiny, "seed=1,2", "hydra/sweeper/sampler=tpee")
    refused(ended, "hydra/sweeper/sampler=tpee", "Did you mean tpe?", "random")


def test_unknown_sampler_class(cli, tiny):
    target = "++hydra.sweeper.sampler._target_=optuna.samplers.TpeSampler"
    refused(cli("train", "-m", *tiny, "seed=1,2", target), "TpeSampler", "Did you mean TPESampler?")


def test_unknown_sampler_option(cli, tiny):
    given = ("hydra/sweeper/sampler=tpe", "++hydra.sweeper.sampler.n_startup=3")
    refused(
        cli("train", "-m", *tiny, "seed=1,2", *given), "n_startup", "Did you mean n_startup_trials"
    )


def test_searched_key_that_is_not_in_the_config(cli, tiny):
    ended = cli("train", "-m", *tiny, "optimizer.lerning_rate=1e-4,1e-3")
    refused(ended, "optimizer.lerning_rate", "Did you mean optimizer.learning_rate?")


@pytest.mark.parametrize("key", ["eval_every", "checkpoint_every"])
def test_points_without_number(cli, tiny, key):
    refused(cli("train", *tiny, f"training.{key}=1e-9"), f"training.{key}=1e-09", "at least 1e-05")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("eval_every=1e-9", "at least"),
        ("checkpoint_every=1e-9", "at least"),
        ("eval_every=[0.25,99.0]", "99.0 is after the end; expected epochs up to 1.0"),
    ],
)
def test_points_that_a_run_of_so_many_steps_has_not(cli, tiny, given, said):
    steps = ("training.max_steps=7", "training.batch_size=16")
    refused(cli("train", *tiny, *steps, f"training.{given}"), f"training.{given[:10]}", said)


def test_unknown_key_of_hydra_itself(cli, tiny):
    given = ("hydra/sweeper/pruner=promote", "hydra.sweeper.pruner.eagr=true")
    ended = cli("train", "-m", *tiny, "seed=1,2", *given)
    refused(ended, "Did you mean hydra.sweeper.pruner.eager?")


@pytest.mark.parametrize("verb", [("train",), ("train", "-m", "seed=1,2")])
def test_a_broken_file_of_weights(cli, tiny, tiny_model, verb):
    shutil.copytree(tiny_model, "broken")
    weights = Path("broken", "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(cli(*verb, *tiny, "model.checkpoint=./broken"), "model.checkpoint=./broken", "header")


def test_searched_value_out_of_bounds(cli, tiny):
    ended = cli("train", "-m", *tiny, "training.batch_size=16,32,0")
    refused(ended, "training.batch_size=0", "greater than or equal to 1")


@pytest.mark.parametrize(
    ("space", "fragment"),
    [
        ("interval(1e-3,1e-4)", "above its high end"),
        ("tag(log,interval(0,1))", "begin above 0"),
        ("range(5,1)", "is empty"),
        ("interval(1e-4", "interval(1e-4"),
        ("interval(auto,1e-3)", "interval(auto,1e-3): expected numbers as its ends"),
        ("auto,interval(1e-5,1e-3)", "a range is one of several values"),
    ],
)
def test_space_that_is_upside_down(cli, tiny, space, fragment):
    refused(cli("train", "-m", *tiny, f"optimizer.learning_rate={space}"), fragment)


def test_grid_over_an_interval(cli, tiny):
    given = ("optimizer.learning_rate=interval(1e-4,1e-3)", "hydra/sweeper/sampler=grid")
    refused(cli("train", "-m", *tiny, *given), "optimizer.learning_rate", "infinitely many", "tpe")


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (
            "hydra.launcher.threads=abc",
            "hydra.launcher.threads='abc': expected a whole number or null",
        ),
        ("hydra.sweeper.sampler=tpe", "hydra/sweeper/sampler=tpe"),
        ("hydra.sweeper.pruner=median", "hydra/sweeper/pruner=median"),
        ("hydra.sweeper.sampler.seed=abc", "sampler.seed='abc': expected a whole number"),
    ],
)
@pytest.mark.parametrize("way", [(), ("--dry-run",)])
def test_option_of_a_search_that_is_of_another_type(cli, tiny, way, given, fragment):
    refused(cli("train", "-m", *way, *tiny, "seed=1,2", given), fragment)


def test_search_of_nothing(cli, tiny):
    refused(cli("train", "-m", *tiny), "no key has several values", "leave out -m")


def test_condition_on_a_value_that_its_key_cannot_have(cli, tiny):
    when = r"hydra.sweeper.when={training.unpadding\=flase:{training.epochs:[1,2]}}"
    refused(cli("train", "-m", *tiny, "seed=1,2", when), "training.unpadding=", "flase")


def test_several_values_without_a_search(cli, tiny):
    refused(cli("train", *tiny, "seed=1,2"), "seed=1,2", "add -m", "seed=[1,2]")


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("data.train=epoch=3.csv", "\"data.train='epoch=3.csv'\""),
        ("data.train=rows (1).csv", "\"data.train='rows (1).csv'\""),
        ("training.early_stopping_patience=choice(null,1)", "patience=null,1."),
        ("data.train", "expected key=value"),
    ],
)
def test_override_that_cannot_be_parsed_says_what_to_write(cli, tiny, given, instead):
    refused(cli("train", "-m", *tiny, given), f"{given}: ", instead)


@pytest.mark.parametrize("folder", ["taken", "/proc/mlruns"])
def test_store_that_cannot_be_written(cli, tiny, folder):
    Path("taken").touch()
    refused(
        cli("train", *tiny, f"tracking.dir={folder}"), f"tracking.dir={folder}", "cannot be written"
    )
    refused(cli("train", "-m", *tiny, "seed=1,2", f"tracking.dir={folder}"), "cannot be written")


@pytest.mark.parametrize(
    ("uri", "fragment"),
    [
        ("http://127.0.0.1:9", "no MLflow server answers"),
        ("ftp://somewhere", "cannot be used"),
        ("mysql+nodriver://127.0.0.1/x", "cannot be used"),
    ],
)
def test_tracking_server_out_of_reach(cli, tiny, uri, fragment):
    given = f"tracking.uri={uri}"
    refused(cli("train", *tiny, given), given, fragment)
    refused(cli("train", "-m", *tiny, "seed=1,2", given), given, fragment)


def test_labels_that_are_texts(cli, tiny):
    write_rows(Path("long.jsonl"), [{**r, "stars": "x" * (300 + i % 2)} for i, r in _many()])
    refused(cli("train", *tiny, "data.train=long.jsonl"), "long.jsonl", "Is data.label the text?")


def _many():
    return enumerate(rows(40))


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("deep.jsonl", b"[" * 100_000, "nested too deeply"),
        ("noise.arrow", bytes(range(256)) * 8, "noise.arrow"),
    ],
)
def test_files_that_are_something_else(cli, tiny, name, content, fragment):
    Path(name).write_bytes(content)
    refused(cli("train", *tiny, f"data.train={name}"), name, fragment)


def test_folder_instead_of_a_file(cli, tiny):
    Path("dir.csv").mkdir()
    refused(cli("train", *tiny, "data.train=dir.csv"), "dir.csv: is a folder")


@pytest.mark.parametrize("override", ["=1", "seed=${foo}", "seed='${oc.env:NO_SUCH_VARIABLE}'"])
def test_override_that_cannot_be_worked_out(cli, tiny, override):
    refused(cli("train", *tiny, override))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: &a [*a]", b"- 1"])
def test_sweep_file_that_is_none(cli, content):
    Path("sweeps").mkdir()
    Path("sweeps/mine.yaml").write_bytes(content)
    refused(cli("sweep", "mine"), "mine.yaml")


def test_grid_of_too_many_points(cli, tiny):
    given_ = ("seed=range(0,1000000000)", "hydra/sweeper/sampler=grid")
    refused(cli("train", "-m", *tiny, *given_), "1,000,000,000 points", "random")


@pytest.mark.parametrize("space", ["tag(lgo,interval(1e-5,1e-3))", "tag(log,choice(1e-5,1e-3))"])
def test_tag_without_a_meaning(cli, tiny, space):
    refused(cli("train", "-m", *tiny, f"optimizer.learning_rate={space}"), "tag")


def test_custom_search_space_that_cannot_be_imported(cli, tiny):
    given_ = ("seed=1,2", "hydra.sweeper.custom_search_space=nope.f")
    refused(cli("train", "-m", *tiny, *given_), "custom_search_space=nope.f")


def test_port_that_is_taken(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(cli("ui", "--port", str(port)), f"--port {port}")


def test_unknown_sweep(cli):
    refused(cli("sweep", "lr-batch-gird"), "lr-batch-gird", "Did you mean lr-batch-grid?")


def test_sweep_file_with_a_wrong_key(cli):
    Path("sweeps").mkdir()
    Path("sweeps", "mine.yaml").write_text("about: x\nspaces: {seed: [1, 2]}\n")
    refused(cli("sweep", "mine"), "mine.yaml", "space")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "smapler: tpe\nspace: {seed: [1, 2]}",
            ": smapler is not a key of a sweep. Did you mean samp",
        ),
        ("n_trials: abc\nspace: {seed: [1, 2]}", ": n_trials='abc': should be"),
        ("- a", ": found a list; expected keys"),
        ("", ": found nothing; expected keys"),
        ("space: {}", ": space: found nothing to search"),
        ("space: {training.packing: [true, false]}", ": training.packing is now called"),
        (
            "settings: {seed: 1}\nspace: {optimizer.lerning_rate: [1, 2]}",
            ": optimizer.lerning_rate is",
        ),
        ("sampler: tpee\nspace: {seed: [1, 2]}", ": hydra/sweeper/sampler=tpee: there is no"),
        ("space: {seed: [1]}\nspace: {seed: [2]}", ", line 3: found duplicate key space"),
    ],
)
def test_what_is_wrong_in_a_sweep_names_its_file(cli, tiny, content, said):
    Path("sweeps").mkdir()
    Path("sweeps", "mine.yaml").write_text(f"about: x\n{content}" if ":" in content else content)
    refused(cli("sweep", "mine", *tiny), f"sweeps/mine.yaml{said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ": found nothing; expected keys"),
        ("- a", ": found a list; expected keys"),
        ("defaults: [hubb]", ": data.defaults: there is no data/hubb.yaml"),
        ("train: a\ntrain: b", ", line 2: found duplicate key train"),
        ("defaults: [files]\ntrian: a", ": data.trian is not a key of the config. Did you mean"),
        ("defaults: [files]\nmax_train_samples: abc", ": data.max_train_samples='abc': should"),
    ],
)
def test_what_is_wrong_in_a_file_of_ones_own_names_it(cli, tiny, content, said):
    Path("conf", "data").mkdir(parents=True)
    Path("conf", "data", "mine.yaml").write_text(content)
    refused(cli("train", *tiny, "data=mine"), f"conf/data/mine.yaml{said}")


def test_what_is_no_key_is_no_files(cli, tiny):
    Path("conf").mkdir()
    Path("conf", "train.yaml").write_text((folders("conf")[-1] / "train.yaml").read_text())
    refused(cli("train", "-m", *tiny), "tunewright: no key has several values")


def test_what_is_wrong_on_the_command_line_is_no_files(cli, tiny):
    Path("conf", "data").mkdir(parents=True)
    Path("conf", "data", "mine.yaml").write_text("defaults: [files]\nmax_train_samples: 9\n")
    ended = cli("train", *tiny, "data=mine", "data.max_train_samples=abc")
    refused(ended, "tunewright: data.max_train_samples='abc'")


def test_unknown_study(cli):
    ended = cli("best", "nothing")
    assert ended.code == 2
    assert "nothing: no study of that name" in ended.err
