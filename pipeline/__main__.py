"""``python -m pipeline`` is ``tunewright``."""

from pipeline.cli import entry_point

if __name__ == "__main__":
    entry_point()
