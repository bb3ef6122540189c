"""README's commands, run in bash as they stand, on a tiny model and few rows."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rows import rows
from tests.support.servers import free_port
from tests.support.stores import Made

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```bash\n(.+?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
# The UI is a server, which is ended as soon as it answers.
ACTIVATE = """\
tunewright() {
  [[ $1 == ui ]] && { answers "$@"; return; }
  "$PYTHON" -m pipeline "$@"
}
answers() {
  set -m
  "$PYTHON" -m pipeline "$@" --port "$PORT" &
  until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do kill -0 $! && sleep 0.2; done
  kill -KILL -- -$!
  wait $! || echo "the UI has answered"
}
trained() { "$PYTHON" -c "$TRAINED"; }
"""
TRAINED = """if True:
    import sqlite3

    one_run = "SELECT run_uuid FROM tags WHERE key = 'tunewright.kind' AND value = 'run'"
    print(*sqlite3.connect("mlruns/mlflow.db").execute(one_run).fetchone())
"""
TINY = """\
checkpoint: {model}
revision: null
trust_remote_code: null
from_config: null
tokenizer: null
"""
FILES = {
    ".venv/bin/activate": ACTIVATE,
    "conf/model/minilm.yaml": TINY,
    "conf/train.yaml": (ROOT / "conf" / "train.yaml").read_text("utf-8")
    + "training: {epochs: 1, max_length: 16}\n",
    "sweeps/quick.yaml": (ROOT / "sweeps" / "quick.yaml")
    .read_text("utf-8")
    .replace("n_trials: 12", "n_trials: 3")
    .replace("confirm: 3", "confirm: 0")
    .replace("adamw-auto", "adamw"),  # the rule knows no model as small
}


@pytest.fixture
def small(tiny_model, working_folder):
    """A folder in which the models and data of README's commands are tiny ones."""
    for name, text in FILES.items():
        file = working_folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{model}", str(tiny_model)), "utf-8")
    with (working_folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["review", "stars"])
        writer.writeheader()
        writer.writerows(rows(120))
    return working_folder


def bash(script, **variables):
    known = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **variables}
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_day_commands_run(small):
    (block,) = (block for block in BLOCKS if "tunewright" in block)
    said = bash(block.replace("RUN_ID", '"$(trained)"'), PORT=str(free_port()), TRAINED=TRAINED)
    assert "the UI has answered" in said
    assert "verdict: identical" in said
    made = Made(small)
    assert len(made.runs("run")) == 2  # with the rerun
    assert len(made.runs("trial")) == 3


def test_make_has_what_readme_tells_it():
    (block,) = (block for block in BLOCKS if "make" in block)
    assert "sweep demo" in bash(f'make() {{ command make -n -C "{ROOT}" "$@"; }}\n{block}')
