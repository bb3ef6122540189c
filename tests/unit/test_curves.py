"""The replay of recorded curves: what a search on them has spent, checked by hand."""

import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "curves"
RATES, STEPS = (1e-5, 1e-4, 1e-3), (2, 6, 18, 30, 50)
ENDS = {1e-5: 0.3, 1e-4: 0.8, 1e-3: 0.5}


@pytest.fixture(scope="module")
def replays():
    """The module that replays, imported as its script imports it."""
    sys.path.insert(0, str(FOLDER))
    try:
        import replay
        import start
        import table
    finally:
        sys.path.remove(str(FOLDER))
    return replay, table, start


@pytest.fixture
def curves(tmp_path, replays):
    """Three trainings of 50 steps; their scores grow evenly, on samples as on all rows."""
    lines = [
        {
            "learning_rate": rate,
            "batch_size": 16,
            "warmup": 0.0,
            "seed": 42,
            "steps": STEPS,
            "scores": {rows: [end * s / 50 for s in STEPS] for rows in ("all", "100", "200")},
            "error": 0.1,
        }
        for rate, end in ENDS.items()
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "toy.jsonl").write_text(text, encoding="utf-8")
    return replays[0].Curves("toy", tmp_path)


@pytest.fixture(autouse=True)
def _grid(replays, monkeypatch):
    text = f"optimizer.learning_rate={','.join(map(str, RATES))}"
    others = ["training.batch_size=choice(16)", "schedule.warmup=choice(0.0)"]
    monkeypatch.setattr(replays[0], "GRID", replays[0].parse_space([text, *others]))


def test_grid_in_order_reaches_the_target_with_its_second_point(curves, replays):
    found = replays[0].replay(curves, replays[0].Way({}, is_grid=True), seed=0)
    assert curves.target == pytest.approx(0.7)
    assert found.to_target == pytest.approx(100 / 150)


def test_resumed_training_does_not_spend_its_first_steps_again(curves, replays):
    replay, table, _ = replays
    way = replay.Way({}, table.halving(0.36, eager=False), (0.36,), "100", is_grid=True)
    found = replay.replay(curves, way, seed=0)
    assert found.to_target == pytest.approx((3 * 18 + 32) / 150)


def test_regret_is_of_what_has_ended_at_that_share(curves, replays):
    replay, *_ = replays
    task = replay.Recorded(curves, replay.Way({}), 0)
    task.done = [(50, 0.5, (1e-3, 16, 0.0)), (100, 0.8, (1e-4, 16, 0.0))]
    assert [curves.regret(task.best(steps)) for steps in (49, 99, 100)] == pytest.approx(
        [0.5, 0.3, 0.0]  # none yet: that of the worst point
    )


def test_options_are_chosen_by_the_other_data_sets(replays):
    replay, table, _ = replays
    fast, slow, never = (replay.Replayed(share, ()) for share in (0.1, 0.5, math.inf))
    found = {"a": [[fast], [slow]], "b": [[slow], [fast]], "c": [[never], [fast]]}
    assert table.chosen(found, "a") == 1
    assert table.chosen({**found, "c": [[fast], [never]]}, "b") == 0


def test_readme_and_docs_have_the_starting_rates_of_the_recorded_curves(replays):
    _, _, start = replays
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    docs = (FOLDER.parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = start.every_row()
    assert start.table(rows) in readme
    recorded = {row.data: replays[0].Curves(row.data) for row in rows}
    for name, batch, best, *_ in rows:  # the best sum over warm-ups is the best mean
        sums = defaultdict(float)
        for (rate, size, _), score in recorded[name].qualities.items():
            if size == batch:
                sums[rate] += score
        assert max(sums, key=sums.get) == best
    at_16 = [row.best * math.sqrt(16 / row.batch) for row in rows]
    mean = f"{math.prod(at_16) ** (1 / len(at_16)):.1e}"
    assert f"geometric mean, at batch 16: {mean}." in readme
    assert float(re.search(r"MiniLM-L6: .*? \| 6 \| (\S+) \| 16 \|", docs)[1]) == float(mean)


def test_readme_says_how_many_points_are_good(replays):
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert replays[1].good_points(FOLDER) in readme


def test_a_prior_at_the_worst_point_begins_there_and_one_of_the_rule_where_it_says(curves, replays):
    replay, table, start = replays
    worst = replay.space_of(curves, replay.Way(table.PRIOR, centre="worst")).centre
    assert tuple(worst.values()) == curves.worst == (1e-5, 16, 0.0)
    own = replay.space_of(curves, table.QUICK).centre
    assert tuple(own.values()) == (start.rule(16), 16, 0.1)


def test_history_begins_with_the_best_point_of_the_other_data_sets(curves, replays):
    replay, _, _ = replays
    (first,) = replay.recommended([curves])
    assert tuple(first.values()) == curves.best
    found = replay.replay(curves, replay.Way({}, is_grid=True), seed=0, first=[first])
    assert found.to_target == pytest.approx(50 / 150)
