"""How much the server takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most of each; what is more is refused."""

    file_bytes: int = 512 << 20
    body_bytes: int = 4 << 20  # of a request that is no upload
    waiting_jobs: int = 100  # of all accounts, those that run included
    rows: int = 1_000_000  # of a file that is trained on
    models: int = 2  # in memory, to be asked
    answers: int = 16  # requests for replies, waiting included; each has a thread of 40
