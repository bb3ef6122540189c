"""A plain script that searches with several workers: it runs once, and only it prints."""

import subprocess
import sys

from tests.support.rows import rows, write_rows
from tests.support.stores import tiny_config

SCRIPT = """
import json, sys
import mlflow, optuna, transformers  # as a notebook may have, before our settings

import tunewright

print("begun")
study = tunewright.sweep({{"seed": [1, 2, 3, 4]}}, {overrides}, show=False)
print(len(study.trials), study.state)
print(study.best.model().predict("good").shape)
"""


def test_script_without_a_guard_runs_once_and_prints_its_own_lines(tiny_model, working_folder):
    tiny = tiny_config(tiny_model, write_rows(working_folder / "reviews.jsonl", rows(120)))
    jobs = ["hydra.sweeper.n_jobs=2", "hydra.sweeper.forecast=false"]
    script = working_folder / "script.py"
    script.write_text(SCRIPT.format(overrides=[*tiny, *jobs]), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "begun\n4 complete\n(1, 2)\n"
