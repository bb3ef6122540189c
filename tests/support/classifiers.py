"""Tiny models that classify texts of known words."""

from tests.support.rows import BAD, FILLERS, GOOD

SAID = ["neg", "pos", "no", "way", "yes", "sir", "label", ":", ".", "{", "}"]


WORDS = [*GOOD, *BAD, *FILLERS, *SAID]
