"""``completion``: what a shell's TAB proposes: verbs, options, sweeps, studies and overrides."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from pipeline.cli.common import Verbs

# Each hands the line up to the cursor to ``tunewright completion --line``.
SCRIPTS = {
    "bash": """\
_tunewright() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    COMPREPLY=($(tunewright completion --line "$line" 2>/dev/null))
    # bash counts what stands behind the last = or : as a word of its own.
    local word="${line##*[[:space:]]}"
    local head="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
}
complete -o nospace -o default -F _tunewright tunewright
""",
    "zsh": """\
autoload -Uz compinit && (( $+functions[compdef] )) || compinit
_tunewright() {
    local line="${(j: :)words[1,CURRENT]}"
    local -a found=("${(@f)$(tunewright completion --line "$line" 2>/dev/null)}")
    compadd -S '' -- $found
}
compdef _tunewright tunewright
""",
    "fish": """\
complete -c tunewright -f -a '(tunewright completion --line (commandline -cp) 2>/dev/null)'
""",
}
INSTALL = """\
bash: add to ~/.bashrc  eval "$(tunewright completion bash)"
zsh:  add to ~/.zshrc   eval "$(tunewright completion zsh)"
fish: run once  tunewright completion fish > ~/.config/fish/completions/tunewright.fish"""
OF_STUDIES = ("best", "compare", "confirm", "doctor", "report", "retry", "ui")


def add(verbs: Verbs) -> None:
    """Add ``completion``."""
    verb = verbs.add_parser(
        "completion",
        help="print a script that lets your shell complete verbs, keys and values",
        description=INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("shell", nargs="?", choices=SCRIPTS, help=", ".join(SCRIPTS))
    verb.add_argument("--line", help=argparse.SUPPRESS)
    verb.set_defaults(run=_run, overrides=[], verbs=verbs.choices)


def _run(options: argparse.Namespace) -> int:
    if options.line is not None:
        found = proposals(options.line, options.verbs)
        print("".join(f"{one}\n" for one in found), end="")
        return 0
    if not options.shell:
        options.parser.error(f"expected a shell: {', '.join(SCRIPTS)}")
    print(SCRIPTS[options.shell], end="")
    return 0


def proposals(line: str, verbs: dict[str, argparse.ArgumentParser]) -> list[str]:
    """Return what the last word of a command line may become.

    Args:
        line: up to the cursor, the program's name first.
        verbs: the parsers of the verbs by name.
    """
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        return _beginning(verbs, word)
    verb, *rest = words
    if verb not in verbs:
        return []
    if word.startswith("-"):
        own = (o for action in verbs[verb]._actions for o in action.option_strings)
        return _beginning((o for o in own if o.startswith("--")), word)
    named = _beginning(_names(verb, rest), word) if "=" not in word else []
    takes = any(action.dest == "overrides" for action in verbs[verb]._actions)
    return [*named, *(_overrides(rest, word) if takes else [])]


def _beginning(found: Iterable[str], word: str) -> list[str]:
    return sorted(one for one in set(found) if one.startswith(word))


def _names(verb: str, rest: list[str]) -> Iterable[str]:
    """Return what a verb's first word may be, or nothing where it has one."""
    from pipeline.config.menu import KINDS, options

    if rest:
        return ()
    if verb == "sweep":
        return options("sweeps")
    if verb == "list":
        return KINDS
    if verb == "completion":
        return SCRIPTS
    folders = Path("mlruns", "studies").glob("*/") if verb in OF_STUDIES else ()
    return (folder.name for folder in folders)


def _overrides(rest: list[str], word: str) -> list[str]:
    from pipeline.config.compose import hydra_app
    from pipeline.config.flags import config_name
    from pipeline.config.hydra_parts import completions

    given = [one for one in rest if "=" in one and not one.startswith("-")]
    with hydra_app("train") as hydra:
        return completions(hydra, config_name(), " ".join([*given, word]) or " ")
