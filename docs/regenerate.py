"""Run the commands whose outputs README.md, docs/ and examples/ show, and write the outputs in.

    .venv/bin/python docs/regenerate.py                       # every page: about 40 minutes
    .venv/bin/python docs/regenerate.py --only docs/data.md   # one page; may be repeated

Needs what `make test` installs, for examples/ also `pip install -c constraints.txt '.[examples]'`,
and a machine that does nothing else; no network, no GPU. A page is written when all its commands
have succeeded. In a page:

    <!-- setup: COMMAND -->      is run first; shows nothing
    <!-- output: COMMAND -->     what stands up to the end marker is replaced by what COMMAND prints
    <!-- output -->              the same, of the bash block above
    <!-- output | FILTER -->     the same, shortened by grep, sed, head, tail or cut
    <!-- end -->

The commands of a page run in order, by bash, in one new folder; $REPO is the repository. Run ids
are shortened, paths of the machine left out. The line below an output states machine, day and time.
A translation, as README.zh.md, gets the outputs of its page.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/*.md", "examples/*.md")
MARKER = re.compile(r"^<!-- (setup|output)(:| \|)?(.*?)\s-->\n", re.DOTALL | re.MULTILINE)
END = "<!-- end -->"
SHORTENED = re.compile(r"\| (grep|sed|head|tail|cut) ")
BASH_BLOCK = re.compile(r"^```bash\n(.+?)^```$", re.DOTALL | re.MULTILINE)

# A fenced block, and the line of an output that states the machine.
BLOCK = re.compile(
    r"^(```.*?^```)$(?:\n\n([(（][^\n]*\bCPU\b[^\n]*[)）])$)?", re.DOTALL | re.MULTILINE
)
CAPTION = {
    "(shortened; ": "（有删节；",
    "(": "（",
    " CPU cores": " 个 CPU 核",
    ", ": "，",
    " s)": " 秒）",
    ")": "）",
}


class Step(NamedTuple):
    """A command of a page; ``start`` and ``stop`` bound the output it replaces, if any."""

    command: str
    start: int = 0
    stop: int = 0


def steps_of(text: str, name: str) -> list[Step]:
    """Return the commands of a page, in order.

    Raises:
        ValueError: for an output marker without an end or a command.
    """
    steps = []
    for marker in MARKER.finditer(text):
        kind, sign, words = marker.groups()
        place = f"{name}:{text.count(chr(10), 0, marker.start()) + 1}"
        command = words.strip()
        if sign != ":":
            blocks = BASH_BLOCK.findall(text[: marker.start()])
            if not blocks or kind == "setup":
                raise ValueError(f"{place}: no command; expected `<!-- {kind}: COMMAND -->`")
            command = f"{{ {blocks[-1]}}} | {command}" if sign else blocks[-1]
        if kind == "setup":
            steps.append(Step(command))
            continue
        following = MARKER.search(text, marker.end())
        stop = text.find(END, marker.end(), following.start() if following else len(text))
        if stop < 0:
            raise ValueError(f"{place}: expected `{END}` after this marker")
        steps.append(Step(command, marker.end(), stop))
    return steps


def regenerate(page: Path) -> None:
    """Run a page's commands in a new folder and write their outputs into it."""
    name, text = str(page.relative_to(REPO)), page.read_text(encoding="utf-8")
    written = list[tuple[Step, str]]()
    with tempfile.TemporaryDirectory() as folder:
        for step in steps_of(text, name):
            print(f"{name}: {step.command.strip()}", flush=True)
            began = time.monotonic()
            shown = _run(step.command, folder)
            seconds = time.monotonic() - began
            print(f"{name}: {seconds:.0f} s", flush=True)
            if step.stop:
                written.append((step, f"```\n{shown}\n```\n\n{_caption(step, seconds)}\n"))
    for step, block in reversed(written):  # from the end: the places before stay right
        text = text[: step.start] + block + text[step.stop :]
    page.write_text(text, encoding="utf-8")
    translation = page.with_suffix(".zh.md")
    if translation.exists():
        known = translation.read_text(encoding="utf-8")
        translation.write_text(in_step(known, text), encoding="utf-8")


def in_step(translation: str, page: str) -> str:
    """Return a translation with the outputs of its page, which has the same blocks."""
    written = ((block[1], block[2]) for block in BLOCK.finditer(page) if block[2])

    def instead(known: re.Match[str]) -> str:
        if not known[2]:
            return known[0]
        output, caption = next(written)
        for english, chinese in CAPTION.items():
            caption = caption.replace(english, chinese)
        return f"{output}\n\n{caption}"

    return BLOCK.sub(instead, translation)


def _run(command: str, folder: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "REPO": str(REPO), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nexit code {done.returncode}; the page was left as it was.")
    return _tidy(done.stdout, folder)


def _tidy(text: str, folder: str) -> str:
    text = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24}\b", r"\1…", text)
    text = re.sub(r"/[^\s'\"]*/site-packages/", "…/", text)
    for path in (os.path.realpath(folder), folder, str(REPO)):
        text = text.replace(f"{path}/", "")
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _caption(step: Step, seconds: float) -> str:
    shortened = "shortened; " if SHORTENED.search(step.command) else ""
    cores = len(os.sched_getaffinity(0))
    return f"({shortened}{cores} CPU cores, {datetime.date.today()}, {seconds:.0f} s)"


def main() -> None:
    """Regenerate the pages that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="FILE", type=Path, action="append", help="this page only")
    only = parser.parse_args().only
    pages = [page for pattern in PAGES for page in sorted(REPO.glob(pattern))]
    for page in [path.resolve() for path in only] if only else pages:
        regenerate(page)


if __name__ == "__main__":
    main()
