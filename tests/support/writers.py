"""Tiny models that write, and pairs of texts for them."""

import random

from tests.support.tiny_models import tiny_bart, tiny_gpt2, tiny_llama, tiny_t5

WORDS = {
    "red": "rot",
    "blue": "blau",
    "small": "klein",
    "big": "gross",
    "house": "haus",
    "tree": "baum",
    "dog": "hund",
    "cat": "katze",
}


SEPARATOR = "\n"


def pairs(count, seed=0):
    """Return different texts of three words, each with its translation word by word."""
    chance = random.Random(seed)
    found = {}
    while len(found) < count:
        words = chance.sample(list(WORDS), 3)
        found[" ".join(words)] = " ".join(WORDS[word] for word in words)
    return list(found.items())


TEXTS = [f"{source}{SEPARATOR}{target}" for source, target in pairs(100)]


KINDS = {"t5": tiny_t5, "bart": tiny_bart, "llama": tiny_llama, "gpt2": tiny_gpt2}
