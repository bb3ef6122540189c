"""A search leaves its report page, and `report` makes it again from the record."""

from pathlib import Path

import pytest

from pipeline.analysis.report import FILE
from tests.support.pages import Reader
from tests.support.stores import artifact


@pytest.mark.draws
def test_a_search_leaves_its_page_and_report_makes_it_again(cli, tiny, runs):
    rates = "optimizer.learning_rate=1e-3,1e-2"
    own = [o for o in tiny if not o.startswith("optimizer.")]
    assert cli("train", "-m", *own, rates, "hydra.sweeper.study_name=mine").code == 0
    (study,) = runs("study")
    page = artifact(study, FILE)
    first = page.read_text()
    best = study.data.tags["tunewright.best_run_id"]
    assert f"MLflow run {best}" in Reader(first).text
    assert cli("best", "mine").out.rpartition("run again")[2].strip() in Reader(first).text
    page.unlink()
    again = cli("report", "mine")
    assert again.out.strip() == str(page)
    assert page.read_text() == first
    assert cli("report", "min").code == 0  # how it begins

    Path("mlruns/studies/mine/study.journal").rename("elsewhere.journal")
    lost = cli("report", "mine")
    assert lost.code == 2
    assert "hydra.sweeper.storage=" in lost.err
    assert not Path("mlruns/studies/mine/study.journal").exists()  # looking makes nothing
    assert cli("report", "mine", "hydra.sweeper.storage=elsewhere.journal").code == 0
