"""One table of what a GPU does here: search, sharing, a large adapter, reruns, resuming.

For one machine with one GPU, without a network, in at most eight minutes: models are made from
configs with random weights, rows are drawn. Each part has a budget, and is cut where it is over.

    python benchmarks/gpu.py          # the table, in Markdown
    python benchmarks/gpu.py --tiny   # whether it all runs: tiny models, on a CPU as well
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rivals.common import GRIDS

HERE = Path(__file__).parent
PEAKS = (  # dense bfloat16 TFLOP/s without sparsity, by NVIDIA's data sheet of each
    ("B200", 2250.0),
    ("H200", 989.4),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.4),
    ("A100", 312.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("A30", 165.0),
    ("L40S", 362.05),
    ("L40", 181.05),
    ("L4", 121.0),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.0),
)
LABELS = {"good": range(20), "bad": range(20, 40)}  # and the words that give a text away
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "</s>", "<user>", "<assistant>")
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(HERE.parent)}
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    encoder: dict[str, int]
    decoder: dict[str, int]
    words: int  # of the vocabulary
    rows: int  # to train on
    chats: int
    tokens: int  # of a row
    grid: str
    ranks: str
    workers: Sequence[int]  # on one GPU


FULL = Size(
    # BERT base, and Llama 3.2 1B with fewer words.
    {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    | {"intermediate_size": 3072},
    {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "intermediate_size": 8192},
    words=32_000,
    rows=4000,
    chats=512,
    tokens=512,
    grid="grid8",
    ranks="8,32",
    workers=(1, 2, 4),
)
TINY = Size(
    {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    | {"intermediate_size": 32},
    {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"num_key_value_heads": 1, "intermediate_size": 32},
    words=60,
    rows=1000,
    chats=16,
    tokens=24,
    grid="grid2",
    ranks="2",
    workers=(2,),
)
ENCODER_TOKENS = 128  # of a row at most
POSITIONS = 1024
PREPARED = 40  # seconds at most
BUDGETS = {"search": 140, "workers": 80, "lora": 120, "rerun": 40, "resume": 60}  # seconds


class CutError(Exception):
    """A part is over its budget."""


@dataclass
class Row:
    """A line of the table."""

    what: str
    seconds: float | None = None
    tokens: float | None = None  # a second
    flops: float | None = None  # a second, of the model's products alone
    memory: float | None = None  # MB
    says: str = ""


@dataclass
class Bench:
    """Runs the parts in a folder of their own, each in processes of its own."""

    folder: Path
    size: Size
    tiny: bool
    deadline: float = 0.0
    models: dict[str, int] = field(default_factory=dict)  # weights in matrix products

    def run(self, *command: str, until: Any = None) -> tuple[str, float]:
        """Run a command; return what it printed and its seconds, imports included.

        With ``until`` it is killed when that is true.
        """
        began, log = time.perf_counter(), self.folder / "log.txt"
        with log.open("w+", encoding="utf-8") as out:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    if until is not None and until():
                        break
                    if time.time() > self.deadline:
                        raise CutError
                    time.sleep(POLL_SECONDS)
            finally:
                was_killed = process.poll() is None
                with suppress(ProcessLookupError):  # its workers, too
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            out.seek(0)
            said = out.read()
        if process.returncode and not was_killed:
            raise RuntimeError(said.strip().splitlines()[-1] if said.strip() else "it said nothing")
        return said, time.perf_counter() - began

    def ours(self, *given: str, **options: Any) -> tuple[str, float]:
        """Run a command of ours."""
        return self.run("-m", "pipeline", *given, f"tracking.dir={self.folder / 'ours'}", **options)

    def trials(self, study: str) -> list[Any]:
        """Return the runs of a study's trials, as MLflow has them."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'ours' / 'mlflow.db'}")
        (experiment,) = (e for e in client.search_experiments() if e.name == "tunewright")
        kind = f"tags.`tunewright.kind` = 'trial' and tags.`tunewright.study` = '{study}'"
        return list(client.search_runs([experiment.experiment_id], kind))

    def row(self, what: str, study: str, seconds: float, work: float, tokens: int) -> Row:
        """Return a line of a study: the speed of its fastest trial, evaluations left out.

        The work is floating-point operations a token.
        """
        trials = self.trials(study)
        fastest = min(run.data.metrics["cost/train_seconds"] for run in trials)
        memory = max(run.data.metrics["cost/memory_mb"] for run in trials)
        speed = tokens / fastest
        per_minute = 60 * len(trials) / seconds
        return Row(what, seconds, speed, speed * work, memory, f"{per_minute:.1f} trials a minute")


def encoder_run(bench: Bench) -> list[str]:
    """Return the overrides of a training of the encoder."""
    return [
        *("data=files", f"data.train={bench.folder / 'texts.jsonl'}", "model=hub"),
        *(f"model.checkpoint={bench.folder / 'encoder'}", "training.epochs=1"),
    ]


def grid_of(bench: Bench) -> list[str]:
    """Return the grid in our words."""
    grid = GRIDS[bench.size.grid]
    rates, sizes = (",".join(f"{value:g}" for value in grid[key]) for key in grid)
    return [*encoder_run(bench), f"optimizer.learning_rate={rates}", f"training.batch_size={sizes}"]


def search(bench: Bench) -> Iterator[Row]:
    """The same small grid by ours and by the plain Trainer's search."""
    count = bench.size.rows * 8 // 10 * ENCODER_TOKENS
    work = 6.0 * bench.models["encoder"]
    if bench.tiny:
        count = bench.size.rows * 8 // 10 * bench.size.tokens
    _, seconds = bench.ours("train", "-m", *grid_of(bench), "hydra.sweeper.study_name=grid")
    yield bench.row("grid, ours", "grid", seconds, work, count)
    rival = ["--rows", str(bench.folder / "rows"), "--trials", bench.size.grid]
    rivals: list[tuple[str, list[str]]] = [("float32", []), ("bfloat16", ["--best-effort"])]
    for name, options in rivals[bench.tiny :]:
        out = str(bench.folder / f"rival-{name}")
        script = str(HERE / "rivals" / "hf_search.py")
        said, seconds = bench.run(script, *rival, "--out", out, *options)
        trials = json.loads(said.strip().splitlines()[-1])["trials"]
        note = f"{60 * len(trials) / seconds:.1f} trials a minute"
        yield Row(f"grid, Trainer.hyperparameter_search, {name}", seconds, says=note)


def workers(bench: Bench) -> Iterator[Row]:
    """Several workers on one GPU."""
    for number in bench.size.workers:
        study = f"workers-{number}"
        shared = [f"hydra.sweeper.n_jobs={number}", f"hydra.launcher.workers_per_gpu={number}"]
        named = [*shared, f"hydra.sweeper.study_name={study}", "hydra.sweeper.forecast=false"]
        _, seconds = bench.ours("train", "-m", *grid_of(bench), *named)
        per_minute = 60 * len(bench.trials(study)) / seconds
        memory = sum(
            sorted(run.data.metrics["cost/memory_mb"] for run in bench.trials(study))[-number:]
        )
        says = f"{per_minute:.1f} trials a minute"
        yield Row(f"grid, {number} workers on one device", seconds, memory=memory, says=says)


def lora(bench: Bench) -> Iterator[Row]:
    """A LoRA sweep of a decoder, in bfloat16."""
    size = bench.size
    given = [
        *("data=files", f"data.train={bench.folder / 'chats.jsonl'}", "task=chat"),
        *("task.generate=false", "model=hub", f"model.checkpoint={bench.folder / 'decoder'}"),
        *("adapter=lora", f"adapter.r={size.ranks}", "optimizer.learning_rate=1e-4,3e-4"),
        *("training.precision=bfloat16", "training.epochs=1", f"training.max_length={size.tokens}"),
        *("training.batch_size=16", "hydra.sweeper.n_jobs=1", "hydra.sweeper.study_name=lora"),
        "hydra.sweeper.forecast=false",
    ]
    _, seconds = bench.ours("train", "-m", *given)
    trained = min(run.data.metrics["cost/parameters"] for run in bench.trials("lora"))
    # Frozen weights get no gradient: two operations forward, two back; an adapter's get six.
    work = 4.0 * bench.models["decoder"] + 6.0 * trained
    count = size.chats * 8 // 10 * size.tokens
    billions = bench.models["decoder"] / 1e9
    yield bench.row(f"LoRA of a decoder of {billions:.3g} B", "lora", seconds, work, count)


def rerun(bench: Bench) -> Iterator[Row]:
    """Run a trial again: bit identical, or where it parted."""
    said, seconds = bench.ours("rerun", bench.trials("grid")[0].info.run_id)
    yield Row("rerun of a trial", seconds, says=verdict_in(said))


def resume(bench: Bench) -> Iterator[Row]:
    """Kill a rerun of a trial at its first checkpoint, resume it, and compare it with the trial."""
    run_id = bench.trials("grid")[0].info.run_id
    folder = bench.folder / "ours" / "checkpoints"
    saves = ["training.checkpoint_every=2", "training.checkpoint_seconds=0"]
    before = set(folder.glob("*/state-*.pt"))

    def new() -> set[Path]:
        return set(folder.glob("*/state-*.pt")) - before

    _, first = bench.ours("rerun", run_id, *saves, until=new)
    states = new()
    if not states:
        raise RuntimeError("the rerun ended before it wrote a checkpoint")
    said, second = bench.ours("resume", states.pop().parent.name)
    yield Row("killed, then resumed", first + second, says=verdict_in(said))


def verdict_in(said: str) -> str:
    """Return the verdict that a command printed."""
    found = re.search(r"^verdict: (.+)$", said, re.MULTILINE)
    return found[1] if found else "no verdict"


PARTS = {"search": search, "workers": workers, "lora": lora, "rerun": rerun, "resume": resume}


def prepare(bench: Bench) -> None:
    """Write models with random weights, and rows of a fixed number of tokens."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    size, chance = bench.size, random.Random(0)
    words = [f"w{i}" for i in range(size.words - len(SPECIAL))]
    tokens = size.tokens if bench.tiny else ENCODER_TOKENS
    torch.manual_seed(0)
    longest = {"vocab_size": size.words, "max_position_embeddings": POSITIONS}
    ids = {"pad_token_id": 0, "eos_token_id": 4, "bos_token_id": None}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        encoder = BertModel(BertConfig(**longest, **size.encoder))
        decoder = LlamaForCausalLM(LlamaConfig(**longest, **size.decoder, **ids))
    for name, model in (("encoder", encoder), ("decoder", decoder.to(torch.bfloat16))):
        model.save_pretrained(bench.folder / name)
        tokenizer(words, name).save_pretrained(bench.folder / name)
        every = sum(p.numel() for p in model.parameters())
        bench.models[name] = every - model.get_input_embeddings().weight.numel()

    del encoder, decoder, model
    torch.cuda.empty_cache()  # the parts are other processes; nothing where there is no GPU

    def text(count: int, given_away_by: Sequence[int] = range(40, 50)) -> str:
        some = [words[chance.choice(given_away_by)], *chance.choices(words[40:], k=count - 1)]
        return " ".join(some)

    texts = [
        {"text": text(tokens - 2, LABELS[label]), "label": label}
        for label in chance.choices(list(LABELS), k=size.rows)
    ]
    half = (size.tokens - 4) // 2
    chats = [
        {"messages": [{"role": role, "content": text(half)} for role in ("user", "assistant")]}
        for _ in range(size.chats)
    ]
    for file, rows in (("texts", texts), ("chats", chats)):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (bench.folder / f"{file}.jsonl").write_text(lines, encoding="utf-8")
    export = [str(HERE / "rivals" / "rows.py"), "--out", str(bench.folder / "rows")]
    bench.run(*export, *encoder_run(bench))


def tokenizer(words: Sequence[str], kind: str) -> Any:
    """Return a tokenizer of whole words, for an encoder or for chats."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<pad>", "unk_token": "<unk>"}
    if kind == "decoder":
        named |= {"eos_token": "</s>", "chat_template": TEMPLATE}
    else:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        named |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=POSITIONS, **named)


def device() -> tuple[str, float | None]:
    """Return the device's name, and its peak in operations a second where that is known."""
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {os.cpu_count()} cores", None
    name = torch.cuda.get_device_name()
    found = (peak * 1e12 for part, peak in PEAKS if re.search(rf"\b{part}\b", name))
    return name, next(found, None)


def shown(row: Row, peak: float | None) -> str:
    """Return a line of the table."""
    share = f"{row.flops / peak:.1%}" if row.flops and peak else ""
    tokens = f"{row.tokens:,.0f}" if row.tokens else ""
    memory = f"{row.memory:,.0f} MB" if row.memory else ""
    seconds = f"{row.seconds:.1f}" if row.seconds else ""
    return f"| {row.what} | {seconds} | {tokens} | {share} | {memory} | {row.says} |"


def main() -> None:
    """Run the parts, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="tiny models: whether it all runs")
    given = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    name, peak = device()
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "peft", "optuna"))
    print(f"{time.strftime('%Y-%m-%d')}, {name}; Python {platform.python_version()}, {packages}\n")
    print("| what | seconds | tokens/s | of the peak | peak memory | |")
    print("|---|---:|---:|---:|---:|---|", flush=True)
    has_failed = False
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        bench = Bench(Path(folder), TINY if given.tiny else FULL, given.tiny)
        patience = 6 if given.tiny else 1  # a test shares its machine
        bench.deadline = time.time() + patience * PREPARED
        try:
            prepare(bench)
        except CutError:
            sys.exit(f"the models and rows took more than {patience * PREPARED} s to be made")
        for part, budget in BUDGETS.items():
            bench.deadline = time.time() + patience * budget
            try:
                for row in PARTS[part](bench):
                    print(shown(row, peak), flush=True)
            except CutError:
                print(shown(Row(part, says=f"cut at its budget of {budget} s"), peak), flush=True)
            except Exception as error:  # the other parts may work
                has_failed = True
                print(shown(Row(part, says=f"failed: {error}"), peak), flush=True)
    sys.exit(has_failed)


if __name__ == "__main__":
    main()
