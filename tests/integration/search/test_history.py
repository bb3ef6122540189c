"""A new search begins with what former ones of the same kind recommend, on whatever data."""

import re
from pathlib import Path

import pytest

from pipeline.search.space.grammar import parse_space
from pipeline.search.study.portfolio import Scored, coordinates, portfolio
from tests.support.rows import rows, write_rows
from tests.support.stores import Made, make_store, tiny_config
from tests.support.studies import open_study

RATE, SIZE, WARMUP = "optimizer.learning_rate", "training.batch_size", "schedule.warmup"
RATES = f"{RATE}=choice(1e-3,1e-2,5e-2)"
SPACE = (f"{RATE}=tag(log,interval(1e-4,1e-1))", f"{SIZE}=8,16,32", f"{WARMUP}=0.0,0.06")


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_model) -> Made:
    """Two studies on different data, and one of another optimizer, which says nothing here."""
    folder = tmp_path_factory.mktemp("former")
    commands = []
    for number, more in enumerate((f"{SIZE}=16", f"{SIZE}=8", "optimizer=sgd")):
        data = write_rows(folder / f"{number}.jsonl", rows(60, seed=number))
        named = f"hydra.sweeper.study_name=data-{number}"
        commands.append(["-m", *tiny_config(tiny_model, data), RATES, more, named])
    return make_store(folder, *commands)


@pytest.fixture
def given(tiny, store) -> list[str]:
    """The command of a new search of that store, on other data."""
    own = [o for o in tiny if not o.startswith(RATE)]
    return ["train", "-m", *own, "hydra.sweeper.study_name=new", store.where]


def recommended(store: Made, space) -> list[dict[str, float]]:
    """Return the points of the two studies that recommend some, by MLflow's own tables."""
    studies = {"data-1": [], "data-0": []}  # the latest first
    for run in store.runs("trial"):
        params, study = run.data.params, run.data.tags["tunewright.study"]
        if study in studies:
            point = {RATE: float(params[RATE]), SIZE: int(params[SIZE]), WARMUP: 0.06}
            studies[study].append((point, -run.data.metrics["val/f1_macro"]))
    points = list(studies.values())
    scored = [[Scored(coordinates(space, p), loss) for p, loss in one] for one in points]
    return [points[one.study][one.point][0] for one in portfolio(scored, 2)]


def test_a_search_begins_with_what_former_ones_recommend_and_resumes(cli, given, store):
    search = [*given, *SPACE, "hydra.sweeper.first={history:2}", "hydra.sweeper.sampler.seed=1"]
    points = recommended(store, parse_space(SPACE))
    begun = cli(*search, "hydra.sweeper.n_trials=1")
    assert begun.code == 0, begun.err
    assert f"history: {len(points)} point" in begun.out
    assert "of 2 former studies first" in begun.out
    again = cli(*search, "hydra.sweeper.n_trials=4")
    assert again.code == 0, again.err
    study = open_study(store.folder / "mlruns/studies/new")
    assert [t.params for t in study.trials[: len(points)]] == points
    assert len({str(t.params) for t in study.trials}) == len(study.trials) == 4
    assert "source" not in study.trials[-1].user_attrs

    source = study.trials[0].user_attrs["source"]
    assert re.fullmatch(r"(best|2nd|3rd) of data-[01](, (best|2nd|3rd) of data-[01])?", source)
    assert f": {source}\n" in begun.out
    assert f": {source}\n" in again.out
    (first, *_) = (r for r in store.runs("trial") if r.data.tags["tunewright.study"] == "new")
    assert first.data.tags["tunewright.point"] == source
    assert f"Its point: {source}" in first.data.tags["mlflow.note.content"]


def test_a_grid_has_recommended_points_after_the_given_ones(cli, given, store):
    grid = (RATES, f"{SIZE}=8,16", "hydra.sweeper.n_trials=6", "hydra.sweeper.study_name=grid")
    mine = f"{{{RATE}:1e-2,{SIZE}:8}}"
    planned = cli(*given, *grid, f"hydra.sweeper.first=[history,{mine}]", "--dry-run")
    assert planned.code == 0, planned.err
    rows = [line.split() for line in planned.out.splitlines() if re.match(r" +\d", line)]
    points = recommended(store, parse_space([RATES, f"{SIZE}=8,16"]))
    wanted = [[f"{p[RATE]:g}", str(p[SIZE])] for p in points]
    order = [["0.01", "8"], *(one for one in wanted if one != ["0.01", "8"])]
    assert [row[1:] for row in rows[: len(order)]] == order
    assert len(rows) == 6
    assert not (store.folder / "mlruns/studies/grid").exists()


def test_without_a_former_study_the_search_begins_without(cli, tiny):
    planned = cli("train", "-m", *tiny, "seed=1,2", "hydra.sweeper.first=history", "--dry-run")
    assert planned.code == 0, planned.err
    assert "history: no former study here of this model, task, adapter" in planned.out
    assert not Path("mlruns").exists()
