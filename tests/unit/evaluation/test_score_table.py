"""The table of all scores on a split, by label, average and metric."""

import math

from pipeline.evaluation.names import metric_name
from pipeline.evaluation.score_table import score_in, score_table


def test_labels_averages_and_other_metrics_have_a_row_each_and_the_baseline_its_columns():
    scores = {"loss": 0.5, "f1_macro": 0.75, f"f1/{metric_name('C+')}": 1.0, "recall/b": 0.25}
    counts = {"C+": {"rows": 3, "predicted b": 1}, "b": {"rows": 4, "predicted b": 2}}
    assert score_table(scores, {"f1_macro": 0.5, "f1/b": 0.0}, "majority", counts) == {
        "of": ["loss", "macro average", "C+", "b"],
        "score": [0.5, None, None, None],
        "f1": [None, 0.75, 1.0, None],
        "recall": [None, None, None, 0.25],
        "majority f1": [None, 0.5, None, 0.0],
        "rows": [None, None, 3, 4],
        "predicted b": [None, None, 1, 2],
    }


def test_a_task_without_labels_has_a_row_for_each_metric():
    table = score_table({"exact_match": 0.5, "f1": 0.75}, {"f1": 0.1}, "random_span", {})
    assert table == {
        "of": ["exact_match", "f1"],
        "score": [0.5, 0.75],
        "random_span score": [None, 0.1],
    }


def test_a_score_is_found_in_the_table_as_it_was_logged():
    scores = {"accuracy": 0.9, "f1_macro": 0.75, f"f1/{metric_name('C+')}": 1.0}
    columns = score_table(scores, {"accuracy": 0.1}, "majority", {"C+": {"rows": 3}})
    logged = {"columns": list(columns), "data": list(zip(*columns.values(), strict=True))}
    assert {metric: score_in(logged, metric) for metric in scores} == scores
    assert all(math.isnan(score_in(logged, name)) for name in ("f1/other", "recall/C+", "bleu"))
