"""Run the commands whose outputs README.md, docs/ and examples/ show, and write the outputs in.

    .venv/bin/python docs/regenerate.py                       # every page: about 40 minutes
    .venv/bin/python docs/regenerate.py --only docs/data.md   # one page; may be repeated

Needs what `make test` installs, for examples/ also `pip install -c constraints.txt '.[examples]'`,
and a machine that does nothing else; no network, no GPU. A page is written when all its commands
have succeeded. In a page:

    <!-- setup: COMMAND -->      is run first; shows nothing
    <!-- output: COMMAND -->     what stands up to the end marker is replaced by what COMMAND prints
    <!-- output -->              the same, of the block above, bash or Python
    <!-- output | FILTER -->     the same, shortened by grep, sed, head, tail or cut
    <!-- end -->
    <!-- figure: FILE -->        the figure that the Python block above drew is saved there

The commands of a page run in order, by bash, in one new folder; $REPO is the repository. Run ids
are shortened, paths of the machine left out. The line below an output states machine, day and time.
Where an output is of a Python block, all Python blocks of the page run, as the cells of a notebook.
A translation, as README.zh.md, gets the outputs of its page.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

REPO = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/*.md", "examples/*.md")
MARKER = re.compile(r"^<!-- (setup|output|figure)(:| \|)?(.*?)\s-->\n", re.DOTALL | re.MULTILINE)
END = "<!-- end -->"
SHORTENED = re.compile(r"\| (grep|sed|head|tail|cut) ")
COMMANDS = re.compile(r"^```(bash|python)\n(.+?)^```$", re.DOTALL | re.MULTILINE)

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
    line: int = 0  # of the page
    kind: str = "bash"  # or python, or figure


def steps_of(text: str, name: str) -> list[Step]:
    """Return the commands of a page, in order.

    Raises:
        ValueError: for an output marker without an end or a command.
    """
    cells = {
        block.end(): Step(block[2], line=_line(text, block.start(2)), kind="python")
        for block in COMMANDS.finditer(text)
        if block[1] == "python"
    }
    steps = dict[int, Step]()
    for marker in MARKER.finditer(text):
        kind, sign, words = marker.groups()
        line = _line(text, marker.start())
        command, block = words.strip(), None
        if kind == "output" and sign != ":":
            *_, block = [None, *COMMANDS.finditer(text[: marker.start()])]
            source = block[2] if block else ""
            command = f"{{ {source}}} | {command}" if sign else source
        if not command:
            raise ValueError(f"{name}:{line}: no command; expected `<!-- {kind}: COMMAND -->`")
        stop = 0
        if kind == "output":
            following = MARKER.search(text, marker.end())
            stop = text.find(END, marker.end(), following.start() if following else len(text))
            if stop < 0:
                raise ValueError(f"{name}:{line}: expected `{END}` after this marker")
        if block and block.end() in cells:
            steps[block.end()] = cells[block.end()]._replace(start=marker.end(), stop=stop)
        else:
            runs = "figure" if kind == "figure" else "bash"
            steps[marker.start()] = Step(command, marker.end() if stop else 0, stop, line, runs)
    if any(step.kind == "python" for step in steps.values()):
        steps = {**cells, **steps}
    return [steps[place] for place in sorted(steps)]


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def regenerate(page: Path) -> None:
    """Run a page's commands in a new folder and write their outputs into it."""
    name, text = page.name, page.read_text(encoding="utf-8")
    written = list[tuple[Step, str]]()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        notebook = Notebook(str(page))
        for step in steps_of(text, name):
            print(f"{name}: {step.command.strip()}", flush=True)
            began = time.monotonic()
            if step.kind == "figure":
                notebook.save(page.parent / step.command)
            elif step.kind == "python":
                shown, caption = notebook.run(step), _caption(step)
            else:
                shown = f"```\n{_run(step.command, folder)}\n```"
                caption = _caption(step, time.monotonic() - began)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            if step.stop:
                written.append((step, f"{_tidy(shown, folder)}\n\n{caption}\n"))
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


class Notebook:
    """What runs Python blocks one after another, as a notebook runs its cells."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, cell: Step) -> str:
        """Return, as Markdown, what a block prints and what its last line is."""
        tree = ast.increment_lineno(ast.parse(cell.command, self._name), cell.line - 1)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(tree, self._name, "exec"), self._names)
            value = None
            if last is not None:
                value = eval(compile(ast.Expression(last.value), self._name, "eval"), self._names)
        return "\n".join([*_fenced(printed.getvalue()), *_shown(value)])

    @staticmethod
    def save(file: Path) -> None:
        """Save the figure that was drawn last, and close all."""
        import matplotlib.pyplot as plt

        if not plt.get_fignums():
            raise ValueError(f"{file.name}: the block above draws no figure")
        plt.savefig(file, dpi=80, bbox_inches="tight")
        plt.close("all")


def _shown(value: Any) -> list[str]:
    """Return a value as a notebook shows it: a table as text, what else has HTML as that."""
    if value is None:
        return []
    if hasattr(value, "to_string"):
        return _fenced(value.to_string())
    if hasattr(value, "_repr_html_"):
        return [value._repr_html_().replace("<tr>", "\n<tr>")]
    return _fenced(repr(value))


def _fenced(text: str) -> list[str]:
    return [f"```\n{text.rstrip()}\n```"] if text.strip() else []


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
    return done.stdout.strip("\n")


def _tidy(text: str, folder: str) -> str:
    text = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24}\b", r"\1…", text)
    text = re.sub(r"/[^\s'\"]*/site-packages/", "…/", text)
    for path in (os.path.realpath(folder), folder, str(REPO)):
        text = text.replace(f"{path}/", "")
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _caption(step: Step, seconds: float | None = None) -> str:
    shortened = "shortened; " if SHORTENED.search(step.command) else ""
    cores = len(os.sched_getaffinity(0))
    took = "" if seconds is None else f", {seconds:.0f} s"
    return f"({shortened}{cores} CPU cores, {datetime.date.today()}{took})"


def main() -> None:
    """Regenerate the pages that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="FILE", type=Path, action="append", help="this page only")
    only = parser.parse_args().only
    os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}  # for Python blocks
    pages = [page for pattern in PAGES for page in sorted(REPO.glob(pattern))]
    for page in [path.resolve() for path in only] if only else pages:
        regenerate(page)


if __name__ == "__main__":
    main()
