"""Studies and runs as tables, in every format."""

import csv
import io
import json
import re

import pytest
from mlflow import MlflowClient

from pipeline.common.errors import ConfigError
from pipeline.tasks.objective import parse
from pipeline.tracking.overview import number
from tests.support.failing import fail_first
from tests.support.rows import rows as made_rows
from tests.support.rows import write_rows
from tests.support.stores import Made, make_store, tiny_config

KEYS = ["optimizer.learning_rate", "val/loss", "state", "seconds", "run_id"]


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Made:
    """A store with three studies and a run."""
    folder = tmp_path_factory.mktemp("tables")
    tiny = tiny_config(tiny_model, write_rows(folder / "reviews.jsonl", made_rows(120)))
    searches = [
        [
            *("optimizer.learning_rate=1e-3,1e-7,1e-2", "hydra.sweeper.study_name=rates"),
            "evaluation.objective=val/loss",
        ],
        [
            *("seed=1,2", "hydra.sweeper.study_name=seeds", "evaluation.objective=val/loss"),
            "data.max_train_samples=60",
        ],
        [
            *("training.batch_size=8,32", "hydra.sweeper.study_name=batches"),
            *("hydra.sweeper.repeats=2", "evaluation.objective=[val/accuracy@last,val/loss]"),
        ],
    ]
    with pytest.MonkeyPatch.context() as patch:
        fail_first(patch)
        return make_store(
            folder,
            *(["-m", *tiny, *search] for search in searches),
            [*tiny, "evaluation.objective=val/loss@mean2"],
        )


@pytest.fixture
def store(made) -> str:
    """The override that names the store."""
    return made.where


@pytest.fixture
def client(made) -> MlflowClient:
    return made.client


@pytest.fixture
def table(cli, store):
    """Return the rows of a command's JSON."""

    def read(*argv: str) -> list[dict]:
        ended = cli(*argv, store, "--format", "json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    return read


def test_runs_are_named_by_what_tells_them_apart(made):
    assert {run.info.run_name for run in made.runs("trial")} == {
        *("0 · lr=0.001", "1 · lr=1e-7", "2 · lr=0.01", "0 · seed=1", "1 · seed=2"),
        *(f"{n} · bs={size} · repeat {r}" for n, size in enumerate((8, 32)) for r in (0, 1)),
    }
    for run in made.runs("trial"):
        for key, value in json.loads(run.data.tags["tunewright.searched"]).items():
            assert str(value) == run.data.params[key]
    (alone,) = made.runs("run")
    assert re.fullmatch(r"tiny · .*/reviews.jsonl · [\d-]{10} [\d:]{8}", alone.info.run_name)
    assert (made.folder / "mlruns" / alone.data.tags["tunewright.output"]).is_dir()


def test_trials_are_listed_best_first_with_what_varies_and_failed_ones_last(
    table, cli, store, client
):
    rows = table("compare", "rates")
    assert [list(row) for row in rows] == [["trial", *KEYS]] * 3
    assert [row["state"] for row in rows] == ["complete", "complete", "failed"]
    assert rows[0]["val/loss"] < rows[1]["val/loss"]
    assert [row["optimizer.learning_rate"] for row in rows] == [0.01, 1e-7, 0.001]
    metrics = client.get_run(rows[0]["run_id"]).data.metrics
    spent = metrics["cost/train_seconds"] + metrics["cost/evaluate_seconds"]
    assert rows[0]["seconds"] == pytest.approx(spent, rel=1e-3)
    assert rows[2]["val/loss"] is None
    assert rows[0]["run_id"] in cli("best", "rates", store).out


def test_studies_are_compared_together_unless_they_are_judged_differently(table, cli, store):
    rows = table("compare", "rates", "seed", "rat")
    assert list(rows[0]) == ["study", "trial", KEYS[0], "seed", "data.max_train_samples", *KEYS[1:]]
    assert [row["study"] for row in rows].count("seeds") == 2
    assert len(rows) == 5
    assert "these studies use different data" in cli("compare", "r", "s", store).err
    refused = cli("compare", "rates", "batches", store)
    assert refused.code == 2
    assert "val/accuracy@last, val/loss" in refused.err
    assert refused.out == ""


def test_every_objective_has_its_column_and_every_seed_its_row(table, client):
    rows = table("compare", "batches")
    assert [row["repeat"] for row in rows] == [0, 1, 0, 1]  # a trial's seeds are together
    means = [row["val/accuracy@last mean"] for row in rows]
    assert means == sorted(means, reverse=True)
    for row in rows:
        twins = [one["val/loss"] for one in rows if one["trial"] == row["trial"]]
        assert row["val/loss mean"] == pytest.approx(sum(twins) / 2)
        run = client.get_run(row["run_id"])
        losses = [p.value for p in client.get_metric_history(row["run_id"], "val/loss")]
        assert row["val/accuracy@last"] == run.data.metrics["val/accuracy"]
        assert row["val/loss"] == min(losses)  # of any evaluation, as the run's own score is


def test_only_the_best_trials_are_read_and_listed_where_a_limit_says_so(
    table, cli, store, monkeypatch
):
    every, searched = table("compare", "rates"), MlflowClient.search_runs
    read = []

    def search(*args, **options):
        read.append(searched(*args, **options))
        return read[-1]

    monkeypatch.setattr(MlflowClient, "search_runs", search)
    (best,) = table("compare", "rates", "--limit", "1")
    assert best == every[0]
    assert [run.info.run_id for run in read[-1]] == [row["run_id"] for row in every[:2]]
    assert "only the best 1 are listed" in cli("compare", "rates", "--limit", "1", store).err
    assert table("compare", "batches", "--limit", "1") == table("compare", "batches")[:2]  # seeds
    assert "--limit 0: expected" in cli("compare", "rates", "--limit", "0", store).err


@pytest.fixture
def retagged(client):
    """Set tags of runs, and set back what they were when the test is over."""
    before = []

    def retag(run_id: str, tag: str, value: str) -> None:
        before.append((run_id, tag, client.get_run(run_id).data.tags[tag]))
        client.set_tag(run_id, tag, value)

    yield retag
    for change in before:
        client.set_tag(*change)


def test_a_failed_run_of_an_earlier_study_of_the_name_is_no_part_of_a_trial(table, retagged):
    """As where a study's folder was deleted, and its command given again."""
    rows = table("compare", "rates")
    retagged(rows[-1]["run_id"], "tunewright.trial", str(rows[0]["trial"]))
    assert [r["run_id"] for r in table("compare", "rates")] == [r["run_id"] for r in rows]


def test_seeds_are_counted_where_a_record_does_not_say_how_many_there_are(
    table, cli, store, made, retagged
):
    rows = table("compare", "batches")
    (study,) = [s for s in made.runs("study") if s.data.tags["tunewright.study"] == "batches"]
    retagged(study.info.run_id, "tunewright.limits", "{}")
    assert table("compare", "batches") == rows
    assert "the mean over 2 seeds" in cli("best", "batches", store).out


def test_only_the_table_goes_to_stdout_in_each_format(cli, store):
    read = {}
    for style in ("table", "csv", "json", "md"):
        ended = cli("compare", "rates", store, "--format", style)
        assert (ended.code, ended.err) == (0, "")
        read[style] = ended.out
    rows = json.loads(read["json"])
    columns, *lines = csv.reader(io.StringIO(read["csv"], newline=""))
    assert columns == list(rows[0])
    assert [number(cell) for cell in lines[0]] == list(rows[0].values())
    head, rule, *body = read["md"].splitlines()
    assert head == f"| {' | '.join(columns)} |"
    assert rule == "| --- | --- | --- | --- | --- | --- |"
    assert len(body) == 3
    first, *others = read["table"].splitlines()
    assert first.split() == columns
    assert [line.split()[-1] for line in others] == [row["run_id"] for row in rows]


def test_runs_are_filtered_in_the_grammar_of_mlflow(table, cli, store, client):
    every = table("runs")
    assert [row["kind"] for row in every].count("study") == 3
    assert [row["start"] for row in every] == sorted((r["start"] for r in every), reverse=True)
    own, *_ = every
    losses = [p.value for p in client.get_metric_history(own["run_id"], "val/loss")]
    assert (own["kind"], own["objective"]) == ("run", "val/loss@mean2")
    assert own["score"] == pytest.approx(sum(losses[-2:]) / 2)
    some = table("runs", "params.`training.batch_size` = '8' and tags.`tunewright.kind`='trial'")
    assert {(row["study"], row["objective"]) for row in some} == {("batches", "val/accuracy@last")}
    assert len(some) == 2
    assert {row["kind"] for row in table("runs", "batches")} == {"study", "trial"}
    assert {row["study"] for row in table("runs", "batches")} == {"batches"}
    short = cli("runs", store, "--limit", "2", "--format", "csv")
    assert len(short.out.splitlines()) == 3
    assert "only the latest 2 are listed" in short.err
    assert "no run matches" in cli("runs", "metrics.nothing > 1", store).err


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        (
            ["runs", "score >"],
            ["score >: MLflow cannot read this filter", "metrics.`val/f1_macro"],
        ),
        (["runs", "my ratse"], ["my ratse: no study of that name", "Known: "]),
        (["runs", "loss > 1"], ["Invalid attribute key 'loss'"]),
        (["runs", "(" * 1500], ["(… (1,500 characters): MLflow cannot read this filter"]),
        (["runs", "x" * 2001], ["x… (2,001 characters): expected at most 2,000 characters"]),
        (
            ["runs", " and ".join(["params.a = 'b'"] * 70)],
            ["64 tables in a join. Expected"],
        ),
        (["runs", f"attributes.start_time > {10**20}"], ["int too large to convert"]),
        (["runs", "a", "b"], ["a b: expected one study or one filter, in quotes"]),
        (["runs", "--limit", "0"], ["--limit 0: expected a whole number"]),
        (["compare", "ratse"], ["no study of that name", "Did you mean rates?"]),
        (["compare"], ["expected the name of a study"]),
    ],
)
def test_what_cannot_be_listed_is_refused(cli, store, argv, fragments):
    ended = cli(*argv, store)
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    for fragment in fragments:
        assert fragment in ended.err


def test_an_unknown_format_is_refused(cli):
    with pytest.raises(SystemExit, match="2"):
        cli("runs", "--format", "xml")


@pytest.mark.parametrize("command", [["runs"], ["compare", "any"]])
def test_just_looking_makes_no_store(cli, working_folder, command):
    ended = cli(*command)
    assert ended.code == 2
    assert "nothing is recorded there yet" in ended.err
    assert list(working_folder.iterdir()) == []


@pytest.mark.parametrize("style", ["table", "csv", "json", "md"])
def test_a_name_in_a_record_cannot_move_the_cursor(cli, store, client, style):
    (run,) = json.loads(cli("runs", store, "--limit", "1", "--format", "json").out)
    client.set_tag(run["run_id"], "mlflow.runName", "\x1b[2Jmine")
    shown = cli("runs", store, "--format", style).out
    assert "\x1b" not in shown
    assert "[2Jmine" in shown


@pytest.mark.parametrize(
    "text", ["val/loss@", "val/loss@mean0", "val/loss@mean٣", "val/loss@mean" + "9" * 5000]
)
def test_a_record_whose_objective_is_none_has_no_score(table, made, text):
    with pytest.raises(ConfigError, match="expected @best"):
        parse(text, "minimize")
    (study,) = [s for s in made.runs("study") if s.data.tags["tunewright.study"] == "rates"]
    try:
        made.client.set_tag(study.info.run_id, "tunewright.objective", text)
        assert {row[text] for row in table("compare", "rates")} == {None}
    finally:
        made.client.set_tag(study.info.run_id, "tunewright.objective", "val/loss")


@pytest.mark.parametrize("verb", [("runs",), ("compare", "rates")])
def test_a_mistyped_experiment_is_refused_and_not_made(cli, store, client, verb):
    ended = cli(*verb, store, "tracking.experiment=tunewrong")
    assert ended.code == 2
    assert "Did you mean tunewright?" in ended.err
    assert client.get_experiment_by_name("tunewrong") is None


def test_an_experiment_is_found_among_however_many_unless_it_was_deleted(
    cli, store, client, monkeypatch
):
    deleted = client.create_experiment("gone")
    client.delete_experiment(deleted)
    ended = cli("runs", store, "tracking.experiment=gone")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no such experiment" in ended.err
    monkeypatch.setattr(MlflowClient, "search_experiments", lambda _: [])
    assert cli("runs", store).code == 0
