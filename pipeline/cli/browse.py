"""Open a page in the user's browser once its server answers: ``python -m pipeline.cli.browse``."""

import sys
import time
import webbrowser
from urllib.error import HTTPError
from urllib.request import urlopen

SECONDS = 600.0  # that a server may take to start on a busy machine


def browse(page: str, seconds: float = SECONDS) -> None:
    """Open a page, or give up where nobody answers."""
    deadline = time.monotonic() + seconds
    while not _answers(page):
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)
    webbrowser.open(page)


def _answers(page: str) -> bool:
    try:
        urlopen(page, timeout=10).close()
    except HTTPError:
        return True  # somebody does, who asks for a user perhaps
    except OSError:
        return False
    return True


if __name__ == "__main__":
    browse(sys.argv[1])
