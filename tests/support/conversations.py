"""Conversations in every layout, and their files."""

import json
from pathlib import Path

from pipeline.data.conversations import Message
from pipeline.data.layouts import LAYOUTS
from pipeline.data.readers import read_records

CHATS = ("messages", "contents", "sharegpt", "alpaca", "prompt_completion")


def in_file(path, layout):
    """Return the conversations of a file."""
    return [LAYOUTS[layout].read(values) for _, values in read_records(Path(path))]


U, A = Message("user", "Hi"), Message("assistant", "Ho")


S = Message("system", "Be brief.")


HI, HO = ("user", "Hi"), ("assistant", "Ho")


def chat(*messages, **more):
    """Return a record of messages given as role and content, or whole."""
    whole = [m if isinstance(m, dict) else {"role": m[0], "content": m[1]} for m in messages]
    return {"messages": whole, **more}


ONE_TURN = [(U, A), (Message("user", 'a "b",\n\nc'), Message("assistant", "😀"))]


def write_file(path, given=ONE_TURN, layout="messages"):
    lines = [json.dumps(LAYOUTS[layout].write(c), ensure_ascii=False) + "\n" for c in given]
    Path(path).write_text("".join(lines), encoding="utf-8")
