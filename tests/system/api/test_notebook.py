"""docs/notebook.md, run as one program: what its cells show, and the figures that they draw."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).resolve().parents[3]
# Fewer rows and trials, so that it takes seconds.
SMALLER = {
    'samples": 512': 'samples": 48',
    'samples": 256': 'samples": 48',
    'samples": 1024': 'samples": 64',
    'eval_every": 0.25': 'eval_every": 0.5',
    'n_trials": 6': 'n_trials": 3, "hydra.sweeper.n_jobs": 1, "hydra.sweeper.forecast": False',
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page with its outputs written in anew."""
    page, text = tmp_path_factory.mktemp("docs") / "notebook.md", ""
    text = (ROOT / "docs" / page.name).read_text(encoding="utf-8")
    for was, now in SMALLER.items():
        assert was in text
        text = text.replace(was, now)
    page.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "docs" / "regenerate.py", "--only", page], check=True)
    return page


def test_each_cell_shows_what_it_says(page):
    shown = outputs(page)
    assert "tfidf" in shown["data.baselines"]
    rows = re.findall(r"<tr><td>\d+</td><td>.*?</td><td>\d+</td><td>([\d.]+)<", shown["study"])
    assert len(rows) == 3
    assert rows == sorted(rows, key=float, reverse=True)
    assert "test/majority/f1_macro" in shown["run"]
    (predicted,) = (text for cell, text in shown.items() if cell.startswith("model.predict"))
    assert len(re.findall(r"^\d +(?:negative|neutral|positive) ", predicted, re.MULTILINE)) == 2


def test_the_best_trial_runs_again_and_optuna_opens_the_study(page):
    shown = outputs(page)
    assert "'identical'" in shown["study.rerun(show=False).verdict.kind"]
    assert "True" in shown["opened.best_params == best"]


def test_figures_are_drawn(page):
    for name in re.findall(r"^<!-- figure: (.*) -->$", page.read_text("utf-8"), re.MULTILINE):
        assert imread(page.parent / name)[..., :3].std() > 0.01, name  # not blank


def outputs(page):
    """Return what is shown below each cell, by its last line."""
    cell = r"([^\n]*)\n```\n\n<!-- output -->\n(.*?)<!-- end -->"
    return dict(re.findall(cell, page.read_text(encoding="utf-8"), re.DOTALL))
