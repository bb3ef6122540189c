"""A tiny model that reads pairs of a question and a context."""

LETTERS = list("abcdefghijklmnopqrst")


NAMES = ["anna", "bert", "carl", "dora", "emil", "fred", "gina", "hugo"]


WORDS = [*LETTERS, *NAMES, "where", "who", "is", "the", "中", "文", "字", ".", ","]
