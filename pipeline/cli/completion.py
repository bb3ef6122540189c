"""``completion``: what a shell's TAB proposes: verbs, options, sweeps, studies and overrides."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from pipeline.cli.common import Verbs, names_and_overrides, options_of
from pipeline.cli.hydra_flags import CONFIG_FLAGS
from pipeline.config.flags import config_name, reading_by
from pipeline.config.menu import GROUPS, choices

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
    [[ -n $found ]] && compadd -S '' -- $found || _files
}
compdef _tunewright tunewright
""",
    "fish": """\
function __tunewright_proposed
    set -l found (tunewright completion --line (commandline -cp) 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c tunewright -f -a '(__tunewright_proposed)'
""",
}
INSTALL = """\
bash: add to ~/.bashrc  eval "$(tunewright completion bash)"
zsh:  add to ~/.zshrc   eval "$(tunewright completion zsh)"
fish: run once  tunewright completion fish > ~/.config/fish/completions/tunewright.fish"""


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
    verb.set_defaults(run=_run, overrides=[], words="shells", verbs=verbs.choices)


def _run(options: argparse.Namespace) -> int:
    if options.line is not None:
        found = proposals(options.line, options.verbs)
        print("".join(f"{one}\n" for one in found), end="")
        return 0
    if not options.shell:
        options.parser.error(f"expected a shell: {', '.join(SCRIPTS)}")
    print(SCRIPTS[options.shell], end="")
    return 0


def proposals(line: str, verbs: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    """Return what the last word of a command line may become; nothing where it may be a file.

    Args:
        line: up to the cursor, the program's name first.
        verbs: the parsers of the verbs by name.
    """
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        return _beginning(verbs, word)
    name, *before = words
    if name not in verbs:
        return []
    verb, known = verbs[name], options_of(verbs[name])
    if word.startswith("-"):  # no option's value does
        return _beginning((option for option in known if option.startswith("--")), word)
    if before and (taken := known.get(before[-1])):
        return _beginning(re.findall(r"[\w-]+", taken) if "{" in taken else (), word)
    values = {i + 1 for i, one in enumerate(before) if known.get(one)}
    said = [w for i, w in enumerate(before) if i not in values and not w.startswith("-")]
    names, overrides = names_and_overrides(said)
    with reading_by(list(_config_flags(before))):
        found = []
        if "=" not in word and (verb.get_default("several") or not names):
            found = _beginning(_words(verb.get_default("words"), overrides), word)
        elif len(names) == 1 and (then := verb.get_default("then")):
            return _beginning(then, word)
        return [*found, *(_overrides(overrides, word) if verb.get_default("composes") else [])]


def _beginning(found: Iterable[str], word: str) -> list[str]:
    return sorted(one for one in set(found) if one.startswith(word))


def _config_flags(words: Sequence[str]) -> Iterator[str]:
    """Return the flags among words that say where the config is read, a word each."""
    for short, long, _ in CONFIG_FLAGS:
        yield from (word for word in words if word.startswith(f"{long}="))
        for option, value in pairwise(words):
            if option in (short, long):
                yield f"{long}={value}"


def _words(kind: str | None, overrides: Sequence[str]) -> Iterable[str]:
    """Return the names of a kind that a verb takes."""
    if kind == "studies":
        return _studies([o for o in overrides if o.startswith("tracking")])
    if kind == "sweeps":
        return choices("sweeps")
    return {"kinds": GROUPS, "shells": SCRIPTS}.get(kind or "", ())


def _studies(place: Sequence[str]) -> Iterable[str]:
    """Return the studies whose folders are in the store that overrides lead to."""
    from pipeline.jobs.place import composed

    return (folder.name for folder in Path(composed(place).tracking.dir, "studies").glob("*/"))


def _overrides(given: Sequence[str], word: str) -> list[str]:
    from pipeline.config.compose import hydra_app
    from pipeline.config.hydra_parts import completions

    line = " ".join(["-m", *given, word])  # as of a search: else a,b is refused
    with hydra_app("train") as hydra:
        return completions(hydra, config_name(), line)
