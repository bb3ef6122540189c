"""A tiny model that chats, and what is said to it."""

import random

from pipeline.data.conversations import Message
from pipeline.data.layouts import LAYOUTS
from tests.support.rows import write_rows

REPLIES = {
    "What is red?": "A colour.",
    "What is a dog?": "An animal.",
    "What is rome?": "A town.",
    "Who are you?": "A small model.",
}


TEXTS = [f"{q} {a}" for q, a in REPLIES.items()] + ["system user assistant\n", "Be short. Hi Hm No"]


TURNS = (
    Message("user", "Hi"),
    Message("assistant", "A town."),
    Message("user", "What is red?"),
    Message("assistant", "A colour."),
)


def said(*texts):
    roles = ("user", "assistant")
    return tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))


def chats(count, seed=0):
    """Return conversations of one turn or two, whose beginnings differ."""
    chance = random.Random(seed)
    found = []
    for i in range(count):
        first, second = chance.sample(list(REPLIES), 2)
        texts = [f"{i}. {first}", REPLIES[first]]
        found.append(said(*texts, second, REPLIES[second]) if i % 3 == 0 else said(*texts))
    return found


def write_chats(path, conversations, layout="messages"):
    return write_rows(path, [LAYOUTS[layout].write(c) for c in conversations])
