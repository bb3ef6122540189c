"""The commands that README, docs/ and examples/ show: bash and we read each as it stands."""

import re
import subprocess
from pathlib import Path

import pytest

import tunewright
from pipeline.cli import VERBS, main
from pipeline.config.compose import compose, hydra_app
from pipeline.search.space.named import command_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
BLOCK = re.compile(r"^```bash\n(.+?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(tunewright [^`\n]+)`(?!`)")
COMMAND = re.compile(r"^tunewright(?:[^\n]*\\\n)*[^\n]*$", re.MULTILINE)
# Stands for the program: its arguments as bash gives them, each with an end, and a line an end.
SHIM = "tunewright() { printf '%s\\x1f' \"$@\"; printf '\\x1e'; }\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_bash_reads_each_block_and_command_of_a_page(page):
    text = page.read_text(encoding="utf-8")
    for shown in (*BLOCK.findall(text), *INLINE.findall(text)):
        read = subprocess.run(["bash", "-n"], input=shown, capture_output=True, text=True)
        assert read.returncode == 0, f"{page.name}: {shown}{read.stderr}"


# A translated page has the commands of the English one: tests/unit/test_docs.py.
@pytest.mark.parametrize(
    "page", [p for p in PAGES if ".zh" not in p.name], ids=lambda page: page.name
)
def test_commands_of_a_page_have_verbs_options_keys_and_values_that_exist(page, monkeypatch):
    asked = []
    for verb in VERBS:
        monkeypatch.setattr(verb, "_run", lambda options: asked.append(options) or 0)
    for argv in commands_of(page):
        asked.clear()
        assert main(argv) == 0, argv
        (options,) = asked
        if argv[0] == "train" and not options.multirun:
            tunewright.compose(options.overrides)
        elif argv[0] == "train":
            check_search(options.overrides)
        elif argv[0] == "sweep" and (ROOT / "sweeps" / f"{argv[1]}.yaml").is_file():
            with command_of(argv[1], options.overrides) as command:
                check_search(command)


def commands_of(page):
    """Return the arguments of our commands in a page's blocks; those cut short are left out."""
    blocks = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    script = SHIM + "\n".join(one for one in COMMAND.findall(blocks) if "…" not in one)
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [argv.split("\x1f")[:-1] for argv in done.stdout.split("\x1e")[:-1]]


def check_search(overrides):
    with hydra_app("train") as hydra:
        compose(hydra, list(overrides), multirun=True)
