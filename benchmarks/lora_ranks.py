"""Does LoRA's best learning rate at the smallest rank serve the largest?

    python benchmarks/lora_ranks.py sft_sweep.md

Reads a table of Thinking Machines' tinker-cookbook (Apache-2.0), which is not copied here:
`tinker_cookbook/recipes/chat_sl/results/sft_sweep.md`, a section a model with rows of learning
rate, rank and test loss. For each model it takes the rate that is best at its smallest rank, and
says what the loss at its largest rank is above the best there.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median, quantiles

ROW = re.compile(r"^\| (\S+) \| (\d+) \| (\d\S*) \|", re.MULTILINE)
SECTION = re.compile(r"^## ", re.MULTILINE)


def losses(text: str) -> Iterator[tuple[str, dict[int, dict[float, float]]]]:
    """Yield each model with its losses by rank and learning rate, the lower of a pair's."""
    for section in SECTION.split(text)[1:]:
        by_rank: dict[int, dict[float, float]] = defaultdict(dict)
        for rate, rank, loss in ROW.findall(section):
            known = by_rank[int(rank)]
            known[float(rate)] = min(float(loss), known.get(float(rate), float(loss)))
        if len(by_rank) > 1:
            yield section.splitlines()[0], by_rank


def main() -> None:
    """Print what each model loses, and a summary."""
    lost = []
    for model, by_rank in losses(Path(sys.argv[1]).read_text(encoding="utf-8")):
        small, large = by_rank[min(by_rank)], by_rank[max(by_rank)]
        rate, best = min(small, key=small.__getitem__), min(large, key=large.__getitem__)
        ranks = f"{model}: rank {min(by_rank)}, {rate:g}; rank {max(by_rank)}, {best:g}"
        if rate not in large:
            print(f"{ranks}; not known, the largest rank was not run at {rate:g}")
            continue
        lost.append(100 * (large[rate] / large[best] - 1))
        print(f"{ranks}; {lost[-1]:.2f} % above the best loss")
    ninth = quantiles(lost, n=10, method="inclusive")[-1]
    print(
        f"{len(lost)} models: median {median(lost):.2f} %, mean {fmean(lost):.2f} %, "
        f"90th percentile {ninth:.2f} %, most {max(lost):.2f} %; "
        f"nothing in {lost.count(0)}"
    )


if __name__ == "__main__":
    main()
