"""The GPU's benchmark runs through on a CPU, with tiny models."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def test_every_part_has_its_line():
    ran = subprocess.run([sys.executable, SCRIPT, "--tiny"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cells = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("|")]
    found = {what.strip(): list(map(str.strip, others)) for what, *others in cells[2:]}
    ours, rival, shared, lora, rerun, resumed = found.values()
    for row in (ours, rival, shared, lora):
        assert row[-1].endswith(" trials a minute"), found
    for row in (ours, lora):
        assert int(row[1].replace(",", "")) > 0, found  # tokens a second
    for row in (rerun, resumed):
        assert row[-1].startswith("identical: "), found
