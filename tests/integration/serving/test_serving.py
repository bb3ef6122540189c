"""Kept models: read again, registered, served by MLflow, and asked about files of any size."""

import csv
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.cli import main
from pipeline.common.atomic import replaced, writer
from pipeline.common.errors import DataError, ModelError, TrackingError
from pipeline.config.schema import TrackingConfig
from pipeline.serving import saved
from pipeline.serving.predictor import Predictor
from pipeline.tracking import open_store
from pipeline.tracking.registry import register
from pipeline.tracking.studies import REGISTERED, delete_model
from tests.support.rows import BAD, FILLERS, GOOD, rows, write_rows
from tests.support.servers import mlflow_server
from tests.support.stores import Made, artifact, forget, make_store, tiny_config

COLOURS = ["red", "blue", "green", "white", "black", "grey"]
THINGS = ["car", "house", "bird", "stone", "boat", "tree"]
ASKED = ["what", "colour", "has", "?", "near"]
WORDS = [*ASKED, *COLOURS, *THINGS, *GOOD, *BAD, *FILLERS]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
TASKS = ["classification", "question_answering", "summarization", "translation", "chat"]
INPUTS = {
    "classification": {"review"},
    "question_answering": {"context", "question"},
    "summarization": {"long"},
    "translation": {"de"},
    "chat": {"messages"},
}


# Tiny models, and rows of the words they know.


def tokenizer(folder: Path, *, around: tuple[str, str] | None = None, end: str = "") -> None:
    """A tokenizer of whole words; ``around`` is written around texts, ``end`` after one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "[CLS]", "[SEP]", "</s>", *(f"<{r}>" for r in ("user", "assistant"))]
    known = {word: i for i, word in enumerate([*words, *WORDS])}
    made = Tokenizer(models.WordLevel(known, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if around:
        first, last = around
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(first, known[first]), (last, known[last])],
        )
    elif end:
        made.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, known[end])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        model_max_length=64,
        **({"cls_token": around[0], "sep_token": around[1]} if around else {}),
    )
    fast.save_pretrained(folder)


def model_of(task: str, folder: Path) -> Path:
    """Make a tiny model with random weights that is wide enough to tell words apart."""
    import transformers as hf

    size = {"vocab_size": 7 + len(WORDS), "pad_token_id": 0, "eos_token_id": 4}
    wide = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    place = {"intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.3}
    torch.manual_seed(0)
    if task in TASKS[:2]:
        tokenizer(folder, around=("[CLS]", "[SEP]"))
        hf.BertModel(hf.BertConfig(**size, **wide, **place)).save_pretrained(folder)
    elif task == "summarization":
        tokenizer(folder, end="</s>")
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = hf.T5Config(**size, **shape, decoder_start_token_id=0, initializer_factor=2.0)
        hf.T5ForConditionalGeneration(config).save_pretrained(folder)
    else:
        tokenizer(folder)
        hf.LlamaForCausalLM(hf.LlamaConfig(**size, **wide, **place)).save_pretrained(folder)
    return folder


def records_of(task: str, count: int = 40) -> list[dict]:
    chance = random.Random(0)
    if task == "classification":
        return rows(count)
    made = []
    for _ in range(count):
        colours, things = chance.sample(COLOURS, 2), chance.sample(THINGS, 2)
        text = f"the {things[0]} is {colours[0]} and the {things[1]} is {colours[1]}"
        question, answer = f"what colour has the {things[1]} ?", colours[1]
        messages = [
            {"role": "user", "content": f"{text} near a {chance.choice(THINGS)} . {question}"},
            {"role": "assistant", "content": f"the {things[1]} is {answer}"},
        ]
        made.append(
            {
                "question_answering": {
                    "context": text,
                    "question": question,
                    "answers": {"text": [answer], "answer_start": [text.rindex(answer)]},
                },
                "summarization": {"long": text, "short": f"{things[0]} {things[1]}"},
                "translation": {"de": f"{text} {chance.choice(THINGS)}", "en": f"{colours[0]}"},
                "chat": {"messages": messages},
            }[task]
        )
    return made


def command_of(task: str, folder: Path) -> list[str]:
    data = write_rows(folder / f"{task}.jsonl", records_of(task, 120 if task == TASKS[0] else 40))
    model = model_of(task, folder / f"model-{task}")
    if task == "classification":
        return [*tiny_config(model, data), "training.epochs=2", "training.eval_every=1.0"]
    (folder / "template.jinja").write_text(TEMPLATE)
    columns = {"summarization": ("long", "short"), "translation": ("de", "en")}
    pairs = zip(("input", "target"), columns.get(task, ()), strict=False)
    own = [f"data.{key}={column}" for key, column in pairs]
    own += ["task.generation.max_new_tokens=6"] if task not in TASKS[:2] else []
    own += ["task.max_target_length=8"] if task in columns else []
    own += [f"task.chat_template={folder / 'template.jinja'}"] if task == "chat" else []
    return [
        f"task={task}",
        "model=hub",
        f"model.checkpoint={model}",
        "data=files",
        f"data.train={data}",
        *own,
        "training.epochs=1",
        "training.max_length=48",
        "training.eval_every=1.0",
        "optimizer.learning_rate=1e-2",
    ]


# Runs that all tests look at, and the servers of their models.


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """A store with a run of each task."""
    folder = tmp_path_factory.mktemp("serving")
    return make_store(folder, *(command_of(task, folder) for task in TASKS))


def run_of(made: Made, task: str):
    return next(run for run in made.runs("run") if run.data.params["task.name"] == task)


class Server:
    """``mlflow models serve`` as a user gives it, without a new environment."""

    def __init__(self, model: str, log: Path, uri: str = "") -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._log = log
        bin_folder = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": uri,
            "OMP_NUM_THREADS": "1",
        }
        command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, "-p", self.address.rpartition(":")[2]],
                env=environment,
                cwd=log.parent,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(900):
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.address}/ping", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    def ask(self, body: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"{self.address}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)


@pytest.fixture(scope="module")
def servers(made: Made, tmp_path_factory):
    """A server of each task's model; all start at once, of copies elsewhere."""
    folder = tmp_path_factory.mktemp("servers")
    started = {}
    try:
        for task in TASKS:
            # Served from a copy without the run's store: the model stands alone.
            copied = shutil.copytree(artifact(run_of(made, task), "model"), folder / task)
            started[task] = Server(str(copied), folder / f"{task}.log")
        yield started
    finally:
        for server in started.values():
            server.stop()


def predicted(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def logged_predictions(run) -> list[dict]:
    table = json.loads(artifact(run, "predictions.json").read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


@pytest.mark.parametrize("task", TASKS)
def test_a_served_model_answers_as_predict_does(task, made, servers, cli):
    records = records_of(task)[:20]
    bare = [{name: record[name] for name in INPUTS[task]} for record in records]
    if task == "chat":
        bare = [{"messages": record["messages"][:-1]} for record in bare]
    write_rows(Path("asked.jsonl"), records)
    run_id = run_of(made, task).info.run_id
    asked = cli("predict", run_id, made.where, "--input", "asked.jsonl", "--output", "got.jsonl")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out.startswith("got.jsonl: 20 rows in ")
    assert asked.out.endswith(" rows/s\n")
    found = predicted(Path("got.jsonl"))
    assert [line.pop("id") for line in found] == [f"asked.jsonl:{i}" for i in range(1, 21)]
    assert len({json.dumps(line["prediction"]) for line in found}) > 1  # it is no constant
    server = servers[task]
    server.wait()
    status, answer = server.ask({"dataframe_records": bare})
    assert status == 200, answer
    assert_same(answer["predictions"], found)
    columns = list(bare[0])
    table = {"columns": columns, "data": [[record[c] for c in columns] for record in bare]}
    assert_same(server.ask({"dataframe_split": table})[1]["predictions"], found)


def assert_same(these: list[dict], those: list[dict]) -> None:
    assert len(these) == len(those)
    for one, other in zip(these, those, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            is_number = isinstance(value, float)
            # Some are rounded to 4 places.
            assert value == (pytest.approx(other[key], abs=2e-4) if is_number else other[key])


def test_what_a_server_cannot_use_is_refused_with_its_place(servers):
    server = servers["classification"]
    server.wait()
    status, answer = server.ask({"dataframe_records": [{"review": "fine"}, {"review": " "}]})
    assert status == 400
    assert "record 2: no text: found ' ' in column 'review'" in answer["message"]
    assert server.ask({"dataframe_records": [{"text": "fine"}]})[0] == 400


# What is in the folder.


@pytest.mark.parametrize("task", TASKS)
def test_a_kept_model_says_what_it_reads_and_holds_nothing_pickled(task, made):
    from mlflow.models import Model

    folder = artifact(run_of(made, task), "model")
    model = Model.load(folder)
    assert {column.name for column in model.signature.inputs} == INPUTS[task]
    assert {"prediction"} <= {column.name for column in model.signature.outputs}
    assert set(model.load_input_example(str(folder)).columns) == INPUTS[task]
    assert "cloudpickle" not in (folder / "MLmodel").read_text()
    assert str(made.folder) not in (folder / "MLmodel").read_text()
    assert str(made.folder) not in (folder / "tunewright.json").read_text()
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.suffix not in (".pkl", ".bin", ".pt", ".pth")
        start = file.read_bytes()[:4]
        assert start[:1] != b"\x80", file  # of a pickle
        assert start != b"PK\x03\x04", file  # of torch's


def test_a_chat_template_of_a_file_is_kept_with_the_model(made):
    folder = artifact(run_of(made, "chat"), "model")
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    assert json.loads((folder / "tunewright.json").read_text())["task"]["chat_template"] is None


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_that_the_run_logged(task, made, cli):
    run = run_of(made, task)
    data, out = made.folder / f"{task}.jsonl", Path("out.csv")
    where = ["--input", str(data), "--output", str(out), "--batch-size", "3"]
    assert cli("predict", run.info.run_id, made.where, *where).code == 0
    with out.open(encoding="utf-8", newline="") as stream:
        found = {line.pop("id"): line for line in csv.DictReader(stream)}
    assert len(found) == len(data.read_text().splitlines())
    logged = logged_predictions(run)
    assert logged
    for row in logged:
        for key, cell in found[row["id"]].items():
            value = cell if isinstance(row[key], str) else json.loads(cell)
            many = isinstance(value, list)
            assert_same(value if many else [{key: value}], row[key] if many else [{key: row[key]}])


# The registry.


def test_a_registered_model_is_found_by_name(made, cli, monkeypatch):
    run = run_of(made, "classification")
    for version in (1, 2):
        done = cli("register", run.info.run_id, "sentiment", made.where)
        assert (done.code, done.err) == (0, "")
        assert f"registered  sentiment, version {version}\n" in done.out
        assert f"mlflow models serve -m models:/sentiment/{version}" in done.out
    version = made.client.get_model_version("sentiment", "1")
    assert version.run_id == run.info.run_id
    assert version.tags["tunewright.task"] == "classification"
    score = run.data.metrics["val/best/f1_macro"]
    assert float(version.tags["tunewright.score"]) == pytest.approx(score, abs=1e-5)
    made.client.set_registered_model_alias("sentiment", "champion", "1")
    write_rows(Path("in.jsonl"), rows(10))
    names = ("models:/sentiment/1", "sentiment", "models:/sentiment@champion", run.info.run_id)
    folder = artifact(run, "model")
    for i, name in enumerate((*names, str(folder))):
        files = ["--input", "in.jsonl", "--output", f"{i}.jsonl"]
        assert cli("predict", name, made.where, *files).code == 0
    texts = {Path(f"{i}.jsonl").read_text() for i in range(len(names) + 1)}
    assert len(texts) == 1
    import mlflow
    import pandas as pd

    # Not set_tracking_uri: it would stay in the environment of later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.client.tracking_uri)
    # MLflow puts the model's copy of our modules first, which new processes would import.
    monkeypatch.setattr(sys, "path", sys.path[:])
    loaded = mlflow.pyfunc.load_model("models:/sentiment/1")
    answers = loaded.predict(pd.DataFrame([{"review": r["review"]} for r in rows(10)]))
    lines = predicted(Path("0.jsonl"))
    assert_same(answers, [{k: v for k, v in line.items() if k != "id"} for line in lines])


def test_a_model_on_a_server_is_fetched_from_it(cli, tiny, working_folder):
    write_rows(Path("in.jsonl"), rows(10))
    with mlflow_server(working_folder) as address:
        where = f"tracking.uri={address}"
        trained = cli("train", *tiny, where)
        assert trained.code == 0, trained.err
        run_id = trained.out.split()[-1]
        assert cli("register", run_id, "there", where).code == 0
        for i, name in enumerate((run_id, "models:/there/1")):
            files = ["--input", "in.jsonl", "--output", f"{i}.jsonl"]
            done = cli("predict", name, where, *files)
            assert (done.code, done.err) == (0, "")
    assert len(predicted(Path("0.jsonl"))) == 10
    assert Path("0.jsonl").read_text() == Path("1.jsonl").read_text()


def test_a_search_leaves_a_registered_model_alone(made, cli):
    run = run_of(made, "translation")
    assert cli("register", run.info.run_id, "kept", made.where).code == 0
    tracking = TrackingConfig(str(made.folder / "mlruns"), None, "tunewright")
    delete_model(open_store(tracking), run.info.run_id)
    assert artifact(run, "model").is_dir()


def test_a_refused_name_leaves_a_run_as_it_was(made, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_, **__):
        raise MlflowException("the disk is full")

    tracking = TrackingConfig(str(made.folder / "mlruns"), None, "tunewright")
    run_id = run_of(made, "summarization").info.run_id
    store = open_store(tracking)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", refuse)
        with pytest.raises(TrackingError, match="refuses it: the disk is full"):
            register(store, run_id, "short")
    assert REGISTERED not in made.client.get_run(run_id).data.tags
    register(store, run_id, "short")
    tag = made.client.get_run(run_id).data.tags[REGISTERED]
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", refuse)
        with pytest.raises(TrackingError):
            register(store, run_id, "shorter")
    assert made.client.get_run(run_id).data.tags[REGISTERED] == tag == '["short"]'


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (f"register {'0' * 32} a", ["no such run"]),
        ("register RUN a/b", ["'a/b'", "expected one without /, : or @"]),
        (f"register RUN {'a' * 32}", ["looks like the id of a run"]),
        ("register BARE a", ["keeps no model", "complete"]),
        ("predict BARE --input in.jsonl --output o.jsonl", ["keeps no model"]),
        ("predict nobody --input in.jsonl --output o.jsonl", ["no model of that name"]),
        ("predict models:/x/1 --input in.jsonl --output o.jsonl", ["no model of that name"]),
        ("predict RUN --input no.jsonl --output o.jsonl", ["no such file"]),
        ("predict RUN --input in.jsonl --output in.jsonl", ["to be read"]),
        ("predict RUN --input in.jsonl --output there.csv", ["--force"]),
        ("predict RUN --input in.jsonl --output o.txt", [".jsonl or .csv"]),
        ("predict RUN --input in.jsonl --output no/o.csv", ["there is no folder"]),
        ("predict RUN --input bad.jsonl --output o.jsonl", ["bad.jsonl:21", "' '"]),
        ("predict RUN --input other.jsonl --output o.csv", ["'review' (data.text)", "reviews"]),
        ("predict . --input in.jsonl --output o.csv", ["expected tunewright.json"]),
        ("predict RUN --batch-size 0 --input in.jsonl --output o.csv", ["--batch-size 0"]),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(arguments, fragments, made, cli):
    run = run_of(made, "classification")
    bare = made.client.create_run(
        run.info.experiment_id, tags={"tunewright.kind": "run", "tunewright.state": "failed"}
    )
    made.client.set_terminated(bare.info.run_id)
    ids = {"RUN": run.info.run_id, "BARE": bare.info.run_id}
    write_rows(Path("in.jsonl"), rows(20))
    write_rows(Path("bad.jsonl"), [*rows(20), {"review": " "}])
    write_rows(Path("other.jsonl"), [{"reviews": "good"}])
    Path("there.csv").touch()
    before = sorted(os.listdir("."))
    done = cli(*(ids.get(word, word) for word in arguments.split()), made.where)
    made.client.delete_run(bare.info.run_id)
    assert done.code == 2
    for fragment in fragments:
        assert fragment in done.err
    assert sorted(os.listdir(".")) == before


# The check after saving.


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Made:
    """A store that the tests below share: making one takes a second."""
    return Made(tmp_path_factory.mktemp("store"))


def latest(store: Made):
    return max(store.runs("run"), key=lambda run: run.info.start_time)


def broken(change):
    """Return a `save` that changes the weights it has written."""
    save = saved.save

    def saving(folder, *args):
        model = save(folder, *args)
        file = folder / "model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file, {"format": "pt"})
        return model

    return saving


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda w: w.pop("classifier.weight"), "the weights lack classifier.weight"),
        (lambda w: w["classifier.bias"].add_(torch.tensor([0.5, 0.0])), "logits: differs by up to"),
    ],
    ids=["lacking", "other"],
)
def test_a_model_that_is_saved_wrong_fails_its_run(
    adapter, change, fragment, cli, tiny, store, monkeypatch
):
    monkeypatch.setattr(saved, "save", broken(change))
    done = cli("train", *tiny, f"adapter={adapter}", store.where)
    assert done.code == 2
    assert fragment in done.err
    run = latest(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["tunewright.state"] == "failed"
    assert not artifact(run, "model").exists()
    assert not list((store.folder / "mlruns" / "outputs").rglob("*.safetensors"))


def test_labels_in_another_order_are_found(cli, tiny, store, monkeypatch):
    write = saved.write

    def turned(description, folder):
        from dataclasses import replace

        counts = dict(reversed(description.label_counts.items()))
        write(replace(description, label_counts=counts), folder)

    monkeypatch.setattr(saved, "write", turned)
    done = cli("train", *tiny, store.where)
    assert done.code == 2
    assert "row reviews.jsonl:" in done.err
    assert "does not answer as the trained one in memory" in done.err


@pytest.mark.parametrize("adapter", ["lora", "ia3"])
def test_an_adapter_is_kept_merged_and_alone(adapter, cli, tiny, store):
    assert cli("train", *tiny, f"adapter={adapter}", store.where).code == 0
    folder = artifact(latest(store), "model")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert not any("lora" in name for name in load_file(folder / "model.safetensors"))


def test_an_adapter_that_is_saved_wrong_fails_its_run(cli, tiny, store, monkeypatch):
    save = saved.save

    def saving(folder, *args):
        model = save(folder, *args)
        file = folder / "adapter" / "adapter_model.safetensors"
        weights = load_file(file)
        save_file({k: v * 3 + 0.2 for k, v in weights.items()}, file)
        return model

    monkeypatch.setattr(saved, "save", saving)
    done = cli("train", *tiny, "adapter=lora", store.where)
    assert done.code == 2
    assert "the saved adapter does not answer" in done.err


# A model's folder may come from somebody else.


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda text: text[:-9], "expected JSON"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "from a later version"),
        (lambda text: text.replace('"max_length": ', '"max_length": -'), "max_length"),
        (lambda text: text.replace('"columns"', '"column"'), "column"),
        (lambda text: text.replace('"stride"', '"strides"'), "strides"),
        (lambda text: text.replace('"neg"', '"zzz": 1, "neg"'), "the weights cannot be loaded"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(change, fragment, made, working_folder):
    folder = working_folder / "model"
    shutil.copytree(artifact(run_of(made, "classification"), "model"), folder)
    file = folder / "tunewright.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(ModelError) as refused:
        Predictor.load(folder)
    assert fragment in str(refused.value)


def test_a_file_that_a_description_names_is_not_read(made, working_folder):
    folder = working_folder / "model"
    shutil.copytree(artifact(run_of(made, "chat"), "model"), folder)
    other = working_folder / "other.jinja"
    other.write_text("stolen")
    file = folder / "tunewright.json"
    named = f'"chat_template": "{other}"'
    file.write_text(file.read_text().replace('"chat_template": null', named))
    task = Predictor.load(folder).task
    assert task.config.chat_template is None
    assert task.checkpoint.tokenizer.chat_template == TEMPLATE


# Files of any size.


def test_a_file_is_read_in_parts(made, cli, monkeypatch):
    """Of a file no more is in memory than a part."""
    from pipeline.serving import predict

    ahead, most = 0, []
    read_records, answer = predict.read_records, Predictor.predict

    def counted(path, encoding):
        nonlocal ahead
        for record in read_records(path, encoding):
            ahead += 1
            yield record

    def answered(self, records, *args):
        nonlocal ahead
        most.append(ahead)
        ahead -= len(records)
        return answer(self, records, *args)

    monkeypatch.setattr(predict, "read_records", counted)
    monkeypatch.setattr(Predictor, "predict", answered)
    with Path("many.jsonl").open("w") as stream:
        for record in rows(100) * 30:
            stream.write(json.dumps(record) + "\n")
    run_id = run_of(made, "classification").info.run_id
    files = ["--input", "many.jsonl", "--output", "out.jsonl", "--batch-size", "16"]
    assert cli("predict", run_id, made.where, *files).code == 0
    assert len(most) == 12
    assert max(most) == 16 * predict.BATCHES_A_PART
    assert len(predicted(Path("out.jsonl"))) == 3000


def test_force_replaces_and_a_stop_leaves_nothing(made, monkeypatch):
    forget()
    run_id = run_of(made, "classification").info.run_id
    write_rows(Path("in.jsonl"), rows(20))
    Path("out.jsonl").write_text("former")
    command = ["predict", run_id, made.where, "--input", "in.jsonl", "--output", "out.jsonl"]

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", stopped)
        assert main([*command, "--force"]) == 130
    assert Path("out.jsonl").read_text() == "former"
    assert sorted(os.listdir(".")) == ["in.jsonl", "out.jsonl"]
    assert main([*command, "--force"]) == 0
    assert len(predicted(Path("out.jsonl"))) == 20


def write_to_a_full_disk(out: Path) -> None:
    with replaced(out) as stream, Path("/dev/full").open("w") as full:
        os.dup2(full.fileno(), stream.fileno())
        writer(out, stream, ["a"])({"a": "b" * 100_000})


def test_only_what_is_wrong_with_a_new_file_is_told_of_it(working_folder):
    out = working_folder / "out.jsonl"
    with pytest.raises(PermissionError), replaced(out):
        raise PermissionError("another file")
    with pytest.raises(DataError, match=r"out\.jsonl: cannot be written: No space left"):
        write_to_a_full_disk(out)
    there = working_folder / "there" / "out.jsonl"
    with pytest.raises(DataError, match="cannot be written: No such file"), replaced(there):
        pass
    assert not list(working_folder.iterdir())
