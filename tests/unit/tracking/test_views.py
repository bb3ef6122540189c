"""The view of a study as a tag of MLflow's experiment."""

from pipeline.tracking.tags import MOST_CHARACTERS
from pipeline.tracking.views import View
from tests.support.views import state_in


def test_lower_is_better_is_sorted_so():
    up, down = (View("s", ("val/loss",), way, (), ()).state() for way in (True, False))
    assert (up["orderByAsc"], down["orderByAsc"]) == (False, True)


def test_key_of_some_trials_is_a_column_but_no_axis():
    # MLflow leaves out of the chart every trial that lacks an axis.
    view = View("s", ("val/f1_macro",), True, ("optimizer.momentum", "seed"), ("seed",))
    assert "params.`optimizer.momentum`" in view.state()["selectedColumns"]
    (axes,) = (c for c in view.state()["compareRunCharts"] if c["type"] == "PARALLEL")
    assert axes["selectedParams"] == ["seed"]


def test_any_number_of_long_keys_fits_into_a_tag():
    keys = tuple(f"{n * 7919 % 1013:x}.{'key' * 15}_{n}" for n in range(200))
    view = View("s" * 200, ("val/f1_macro", "cost/train_seconds"), True, keys, keys)
    assert len(view.tag(0)) < MOST_CHARACTERS
    assert state_in(view.tag(0)) == view.state()
