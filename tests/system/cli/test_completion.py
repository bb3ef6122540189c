"""The shells' own completion, asked by each shell in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.completion import SCRIPTS

# What a TAB behind LINE puts into each shell's list, a line each.
ASKED = {
    "bash": 'COMP_LINE="$LINE"; COMP_POINT=${#LINE}; _tunewright; printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": 'compadd() { shift 3; print -l -- "$@" }; words=(${(z)LINE}); CURRENT=$#words; '
    "_tunewright",
    "fish": 'complete -C "$LINE"',
}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command ``tunewright``, found by a shell."""
    script = tmp_path / "bin" / "tunewright"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.usefixtures("command")
def test_a_shell_completes_verbs_options_of_a_group_keys_and_files(shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"no {shell}: apt-get install {shell}")
    setup = tmp_path / "setup"
    setup.write_text(SCRIPTS[shell])
    (tmp_path / "rows.csv").touch()

    def asked(line):
        program = f"source {setup}\n{ASKED[shell]}"
        given = {"LINE": line, "HOME": str(tmp_path)}
        ended = subprocess.run(
            [shell, "-c", program],
            cwd=tmp_path,
            env={**os.environ, **given},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    assert asked("tunewright comple") == ["completion"]
    values = ["sgd"] if shell == "bash" else ["optimizer=sgd"]
    assert asked("tunewright train optimizer=sg") == values
    assert asked("tunewright sweep demo training.epo") == ["training.epochs="]
    if shell == "fish":  # the others' own completion of files follows an empty answer
        assert asked("tunewright predict RUN --input row") == ["rows.csv"]
