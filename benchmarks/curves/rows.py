"""Five small labelled data sets that anyone can install, written as files of rows.

    pip install chatterbot-corpus==1.3.3 aclsum==0.1.2 django==5.2.19 pylint==4.1.4

Each distribution is read as files; none of its code is run. ``tweets`` is the extra `demo`.

===========  ==========================================================  =======================
topics       first lines of conversations, by topic                      many classes, imbalanced
aspects      sentences of abstracts, by what they say of the paper       one class is most of it
languages    messages of catalogues, by language                         eight classes, balanced
messages     what a linter reports, by category                          tiny
tweets       tweets, by sentiment                                        three classes
===========  ==========================================================  =======================
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import yaml

Row = tuple[str, str]  # text, label
LANGUAGES = ("da", "de", "es", "fr", "it", "nl", "pt", "sv")
A_LANGUAGE = 90  # messages
CATEGORIES = {"C": "convention", "E": "error", "R": "refactor", "W": "warning"}
LONGEST = 24  # words of a sentence
LEAST = 20  # rows of a class


def write(name: str, folder: Path) -> Path:
    """Write the rows of a data set, each text once and without rare classes; return the file."""
    rows = dict(reversed(list(READERS[name]())))  # of a text that is there twice, the first
    sizes = Counter(rows.values())
    path = folder / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for text, label in sorted(rows.items()):
            if sizes[label] >= LEAST:
                file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return path


def files(name: str, pattern: str) -> Iterator[Path]:
    """Yield the files of an installed distribution whose path matches a pattern, in order."""
    found = [f for f in distribution(name).files or () if re.fullmatch(pattern, f.as_posix())]
    for file in sorted(found):
        yield Path(str(file.locate()))


def topics() -> Iterator[Row]:
    """Yield the first line of every English conversation, with its topic."""
    for path in files("chatterbot-corpus", r".*/data/english/\w+\.yml"):
        corpus = yaml.safe_load(path.read_text(encoding="utf-8"))
        for first, *_ in corpus["conversations"]:
            yield str(first).strip(), path.stem


def aspects() -> Iterator[Row]:
    """Yield sentences of abstracts and conclusions, with the one aspect that they are marked as."""
    for path in files("aclsum", r".*/dataset/(train|val|test)\.jsonl"):
        for paper in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            marked = paper["highlights"]
            for section in ("abstract", "conclusion"):
                for place, sentence in enumerate(paper["sentences"].get(section, ())):
                    found = [a for a in marked if marked[a][section][place]]
                    if len(found) < 2 and 5 <= len(sentence.split()) <= LONGEST:
                        yield sentence, found[0] if found else "other"


def languages() -> Iterator[Row]:
    """Yield translated messages of 15 to 60 characters, with their language."""
    for language in LANGUAGES:
        texts: list[str] = []
        for path in files("django", rf".*/locale/{language}/LC_MESSAGES/django\.po"):
            catalogue = path.read_text(encoding="utf-8")
            for lines in re.findall(r'^msgstr ((?:".*"\n)+)', catalogue, flags=re.MULTILINE):
                text = "".join(ast.literal_eval(line) for line in lines.splitlines())
                text = re.sub(r"%\(\w+\)s|%s|\{\w*\}|<[^>]+>", " ", text)
                if 15 <= len(text.strip()) <= 60:
                    texts.append(" ".join(text.split()))
        unique = sorted(set(texts), key=texts.index)
        yield from ((text, language) for text in unique[:: max(1, len(unique) // A_LANGUAGE)])


def messages() -> Iterator[Row]:
    """Yield what a linter reports, with its category."""
    for path in files("pylint", r"pylint/(checkers|extensions)/.*\.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                code = key.value if isinstance(key, ast.Constant) else None
                if isinstance(code, str) and re.fullmatch(r"[CERW]\d{4}", code):
                    parts = value.elts if isinstance(value, ast.Tuple) else []
                    texts = [p.value for p in parts if isinstance(p, ast.Constant)]
                    if texts:
                        yield " ".join(str(texts[0]).split()), CATEGORIES[code[0]]


READERS = {
    "topics": topics,
    "aspects": aspects,
    "languages": languages,
    "messages": messages,
}
