"""What every refusal has in common."""

from pathlib import Path


def refused(ended, *fragments: str) -> None:
    """Check the form of a refusal, that it names what it should, and that nothing was written."""
    refused_beside(ended, *fragments)
    left = [p for p in Path("mlruns").rglob("*") if p.is_file()] if Path("mlruns").is_dir() else []
    assert not left


def refused_beside(ended, *fragments: str) -> None:
    """Check the form of a refusal, where something is recorded already."""
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    for fragment in fragments:
        assert fragment in ended.err
