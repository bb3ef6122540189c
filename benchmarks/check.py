"""What looking over a million short rows takes: `python benchmarks/check.py [ROWS]`."""

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from pipeline.api.guest import quiet_libraries

SYLLABLES = ["ba", "den", "fi", "gor", "hu", "kel", "mi", "nor", "pu", "ral", "si", "tem", "vo"]


def rows(count: int) -> "list[str]":
    """Return texts of 6 to 18 words as JSON lines, one in a hundred nearly another one."""
    chance = random.Random(0)
    words = [f"{a}{b}{c}" for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
    lines, before = [], ["first"]
    for i in range(count):
        text = chance.choices(words, k=chance.randint(6, 18))
        if i % 100 == 99:
            text = [f"{before[0]}s", *before[1:]]
        before = text
        lines.append(json.dumps({"text": " ".join(text), "label": chance.choice("ab")}) + "\n")
    return lines


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    quiet_libraries()
    from pipeline.analysis.data_check import inspect_splits
    from pipeline.config.compose import compose, hydra_app, without_hydra
    from pipeline.config.experiment import validate
    from pipeline.training.prepare import splits_of

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(rows(count)))
        with hydra_app("train") as hydra:
            config = compose(hydra, ["data=files", f"data.train={path}"])
            experiment = validate(without_hydra(config))
        began = time.perf_counter()
        splits_of(experiment)
        read = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        report = inspect_splits(experiment)
        done = time.perf_counter()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{count:,} rows: read and cut {read - began:.1f} s ({before:.2f} GB)")
    print(f"looked over {done - read:.1f} s (at most {most:.2f} GB): {report.summary}")
    for finding in report.findings:
        print(f"  {finding.level}: {finding.message}")


if __name__ == "__main__":
    main()
