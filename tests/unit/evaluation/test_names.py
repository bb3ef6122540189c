"""The names of metrics: as MLflow allows them, one for each label, and stable."""

from unicodedata import normalize

from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from pipeline.evaluation.names import logged_name, metric_name

LABELS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@given(LABELS, LABELS)
@example("<50K", ">50K")
@example("C+", "C#")
@example("😀", "😡")
@example("a+b", "a.plus sign.b")
@example("1+.5", "1.plus sign..5")
@example("😀" * 99, "😀" * 98)
def test_labels_have_names_of_their_own_that_mlflow_accepts(one, other):
    names = [metric_name(one), metric_name(other)]
    assert (names[0] == names[1]) == (normalize("NFC", one) == normalize("NFC", other))
    for name in names:
        _validate_metric_name(f"val/majority/precision/{name}")
    assert len(max(names, key=len)) <= 220


@given(LABELS)
@example("C.plus sign.")
@example("a\x01b")
def test_a_logged_name_stays_as_it_is(label):
    once = logged_name(f"val/f1/{label}")
    assert logged_name(once) == once
