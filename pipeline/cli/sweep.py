"""``sweep``: run a named search."""

from __future__ import annotations

import argparse

from pipeline.cli.common import DRY_RUN, Verbs, add_overrides, as_asked


def add(verbs: Verbs) -> None:
    """Add ``sweep``."""
    verb = verbs.add_parser(
        "sweep",
        help="run a named search from sweeps/, or resume it",
        description="Run a search defined in sweeps/NAME.yaml: ./sweeps first, then the packaged "
        "ones. Overrides win over the file. The same command resumes an unfinished study.",
    )
    verb.add_argument("name", metavar="NAME", help="file name in sweeps/, without .yaml")
    add_overrides(verb, "key=value, group=option, or key=a,b to search")
    way = verb.add_mutually_exclusive_group()
    way.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    way.add_argument("--show", action="store_true", help="print the file and exit")
    verb.set_defaults(run=_run, words="sweeps")


def _run(options: argparse.Namespace) -> int:
    if options.show:
        from pipeline.search.space.named import file_of

        file = file_of(options.name)
        print(f"# {file}\n{file.read_text(encoding='utf-8')}", end="")
        return 0
    from pipeline.api.studies import search

    search(options.name, as_asked(options))
    return 0
