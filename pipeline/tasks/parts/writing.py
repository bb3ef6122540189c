"""Tasks whose answer is a text that the model generates, by a decoder or an encoder-decoder."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from pydantic import Field
from pydantic.dataclasses import dataclass
from typing_extensions import override

from pipeline.common.contract import Direction
from pipeline.common.errors import ConfigError, ModelError, listing
from pipeline.config.task import AnyTaskConfig, LongRows
from pipeline.config.types import STRICT, Few, Number, Positive, Tokens
from pipeline.models.batches import IGNORED, LEFT
from pipeline.models.families import can, families_with
from pipeline.tasks.base import PADDING, Batch, Examples, Outputs, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.data import Rows
    from pipeline.models import Checkpoint


@dataclass(config=STRICT, frozen=True)
class GenerationConfig:
    """How a model generates: passed to transformers' generate."""

    max_new_tokens: Tokens
    num_beams: Few
    do_sample: bool
    temperature: Positive  # these two with do_sample only
    top_p: Annotated[Number, Field(gt=0, le=1)]
    repetition_penalty: Positive
    no_repeat_ngram_size: Annotated[
        int, Field(strict=True, ge=0, le=1000)
    ]  # 0: repeats are allowed
    length_penalty: Number  # of beams: above 0 longer, below 0 shorter


@dataclass(config=STRICT, frozen=True, kw_only=True)
class WritingConfig(AnyTaskConfig):
    """What tasks with generated answers share."""

    long_rows: LongRows
    generation: GenerationConfig


W = TypeVar("W", bound=WritingConfig)

# Of the target's tokens, each predicted from those before it.
_PER_TOKEN: Mapping[str, Direction] = {
    "loss": "minimize",
    "perplexity": "minimize",
    "token_accuracy": "maximize",
}
BITS_PER_BYTE = "bits_per_byte"
TOKEN_METRICS: Mapping[str, Direction] = {**_PER_TOKEN, BITS_PER_BYTE: "minimize"}

# Of every batch, so that evaluations differ only by their weights. The draws for a row still depend
# on its place in its batch: a generator per row would take a call per row.
_SAMPLING_SEED = 0


def end_token_id(checkpoint: Checkpoint) -> int:
    """Return the token that ends generated text; BERT's tokenizers use theirs as a separator.

    Raises:
        ModelError: for a tokenizer without any.
    """
    for end in (checkpoint.tokenizer.eos_token_id, checkpoint.tokenizer.sep_token_id):
        if end is not None:
            return int(end)
    raise ModelError(
        f"model.checkpoint={checkpoint.name}: its tokenizer has no end-of-text token, which a task "
        "with generated answers needs."
    )


def start_tokens(checkpoint: Checkpoint) -> list[int]:
    """Return the token that a tokenizer puts before every text, if it has one."""
    bos = checkpoint.tokenizer.bos_token_id
    return [bos] if bos in checkpoint.tokenizer("")["input_ids"][:1] else []


class WritingTask(Task[W]):
    """Cross-entropy over the target's tokens; scored on generated texts."""

    reads_once = False
    answers_untrained = True
    heads: ClassVar[tuple[str, ...]] = ("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
    per_token = frozenset(_PER_TOKEN)

    @property
    def auto_class(self) -> str:
        """A language model: an encoder-decoder if the checkpoint is one, else a decoder."""
        if self.is_encoder_decoder:
            return "AutoModelForSeq2SeqLM"
        return "AutoModelForCausalLM"

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the source, separate from the target."""
        return bool(self.checkpoint.config.is_encoder_decoder)

    def check(self) -> None:
        """Refuse a model that cannot generate, or has no end token.

        Raises:
            ConfigError: for texts that the model has no positions for.
            ModelError: naming the models of the menu that can write.
        """
        config = self.checkpoint.config
        if self.auto_class not in self.heads or not can(config, self.auto_class):
            able = [name for head in self.heads for name in families_with(head)]
            raise ModelError(
                f"task={self.config.name}: model.checkpoint={self.checkpoint.name} is a "
                f"{config.model_type}, which cannot generate such answers. Models that can: "
                f"{listing(sorted(able), most=30)}."
            )
        end_token_id(self.checkpoint)
        if self.is_encoder_decoder:
            self.check_positions(1)  # the token that a decoder starts with

    @property
    def positions(self) -> int | None:
        """Positions that the model has; None: no limit."""
        positions = getattr(self.checkpoint.config, "max_position_embeddings", None)
        return positions if positions and positions > 0 else None

    def check_positions(self, before: int) -> None:
        """Refuse to write beyond the model's last position.

        Args:
            before: tokens before the generated ones.

        Raises:
            ConfigError: naming how many tokens may be written.
        """
        most = self.config.generation.max_new_tokens
        if self.positions is not None and before + most > self.positions:
            raise ConfigError(
                f"task.generation.max_new_tokens={most}: {self.checkpoint.name} has "
                f"{self.positions} positions, up to {before} of which precede its answer; "
                f"expected at most {self.positions - before}."
            )

    @cached_property
    def end(self) -> int:
        """The token that ends a target."""
        return end_token_id(self.checkpoint)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return loss, weight (tokens) and correctly predicted tokens, each of shape [examples].

        Without targets there is nothing to compute before an answer is generated.
        """
        import torch

        labels = batch.get("labels")
        if labels is None:
            return {}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.is_encoder_decoder:
            decoder_ids = self._decoder_input_ids(model, labels)
            logits = model(**inputs, decoder_input_ids=decoder_ids, use_cache=False).logits
        else:
            logits = model(**inputs, use_cache=False).logits[:, :-1]
            labels = labels[:, 1:]
        counted = labels != IGNORED
        # Only the targets' positions, since the vocabulary is what takes the memory.
        chosen, targets = logits[counted].float(), labels[counted]  # [tokens, vocabulary], [tokens]
        losses = torch.nn.functional.cross_entropy(chosen, targets, reduction="none")
        example = counted.nonzero()[:, 0]  # [tokens]
        nothing = torch.zeros(len(labels), device=losses.device)
        right = (chosen.argmax(dim=-1) == targets).float()
        return {
            "loss": nothing.index_add(0, example, losses),
            "weight": counted.sum(dim=1).float(),
            "correct": nothing.index_add(0, example, right),
        }

    def generate(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the ids of the tokens that the model writes, of shape [examples, tokens]."""
        return {"written": self.write(model, batch)}

    def write(
        self, model: PreTrainedModel, batch: Batch, seed: int = _SAMPLING_SEED, **options: Any
    ) -> torch.Tensor:
        """Have the model write, and return the ids, of shape [examples, tokens].

        Args:
            model: on any device.
            batch: of examples with a prompt.
            seed: of what is drawn, where texts are sampled.
            options: of transformers' ``generate``, as a streamer.
        """
        import torch

        prefix = "" if self.is_encoder_decoder else LEFT
        prompt = {name: batch[prefix + name] for name in ("input_ids", "attention_mask")}
        config = self._generation(model)
        devices = [model.device] if model.device.type == "cuda" else []
        # Training draws from the same generators: its draws must not depend on evaluations.
        with torch.random.fork_rng(devices, enabled=config.do_sample):
            if config.do_sample:
                torch.manual_seed(seed)
            written = model.generate(**prompt, generation_config=config, **options)
        begin = 1 if self.is_encoder_decoder else prompt["input_ids"].shape[1]
        written = written[:, begin : begin + self.config.generation.max_new_tokens]
        ends = torch.isin(written, written.new_tensor(config.eos_token_id))
        after = (ends.cumsum(dim=1) - ends.int()) > 0  # what follows the first end is padding
        return torch.where(after, PADDING, written)

    @abstractmethod
    def text_scores(self, written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        """Score what was written by the task's metrics of texts."""

    def score(self, examples: Examples, outputs: Outputs) -> dict[str, float]:
        """Score the tokens of the targets, and what the model wrote, if it did, against them."""
        tokens = float(outputs["weight"].sum())
        mean = float(outputs["loss"].sum(dtype="float64")) / tokens
        scores = {
            "perplexity": math.exp(min(mean, 700.0)),  # beyond that a float overflows
            "token_accuracy": float(outputs["correct"].sum()) / tokens,
            BITS_PER_BYTE: self._bits_per_byte(examples, outputs),
        }
        if "written" in outputs:
            scores |= self.text_scores(self.texts(outputs), self.answers(examples.rows))
        return scores

    def _bits_per_byte(self, examples: Examples, outputs: Outputs) -> float:
        """Return the cross-entropy in bits over the UTF-8 bytes of the targets' texts.

        No tokenizer changes the bytes, so models with several can be compared (Gao et al., 2020:
        The Pile, section 3.1). Targets that are cut are left out, where any is whole.
        """
        if examples not in self._whole:  # the same at every evaluation
            self._whole[examples] = self._whole_targets(examples)
        kept, size = self._whole[examples]
        return float(outputs["loss"][kept].sum(dtype="float64")) / math.log(2) / size

    @cached_property
    def _whole(self) -> WeakKeyDictionary[Examples, tuple[Sequence[int], int]]:
        return WeakKeyDictionary()

    def _whole_targets(self, examples: Examples) -> tuple[Sequence[int], int]:
        """Return the examples whose targets are whole, and the bytes of these."""
        texts, rows = self.trained_texts(examples.rows), examples.row
        some = [i for i, row in enumerate(rows) if texts[row]]  # else there is nothing to write
        labels = examples.dataset["labels"]
        kept = [i for i in some if self.is_whole(labels[i])] or some
        return kept, sum(len(texts[rows[i]].encode()) for i in kept)

    def trained_texts(self, rows: Rows) -> Sequence[str]:
        """Return the text of each row that the model learns to write."""
        return self.answers(rows)

    def is_whole(self, labels: Sequence[int]) -> bool:
        """Whether an example's labels have all of its target: a target that is cut has no end."""
        return self.end in labels[-2:]  # a tokenizer may write the language after the end

    @override
    def decode(self, examples: Examples, outputs: Outputs) -> dict[str, list[Any]]:
        """Return what the model wrote, if it did."""
        return {"prediction": self.texts(outputs)} if "written" in outputs else {}

    def texts(self, outputs: Outputs) -> list[str]:
        """Return what the model wrote, one text an example."""
        decode = self.checkpoint.tokenizer.decode
        written = ([i for i in ids if i != PADDING] for ids in outputs["written"].tolist())
        return [str(decode(ids, skip_special_tokens=True)).strip() for ids in written]

    @override
    def teach_end(self, model: PreTrainedModel) -> None:
        """Add the end token that was trained, for servers that know no other than these."""
        model.generation_config.eos_token_id = self._ends(model)

    def _ends(self, model: PreTrainedModel) -> list[int]:
        own = model.generation_config.eos_token_id
        return sorted({self.end, *(own if isinstance(own, list) else [own])} - {None})

    def _decoder_input_ids(self, model: PreTrainedModel, labels: torch.Tensor) -> torch.Tensor:
        """Return what a decoder reads to predict labels: its start, and the labels before each."""
        import torch

        own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if own is not None:  # some start with the language's token, which stands last in labels
            shifted: torch.Tensor = own(labels)
            return shifted
        start = torch.full_like(labels[:, :1], decoder_start(model))
        before = labels[:, :-1]
        pad = self.checkpoint.tokenizer.pad_token_id
        return torch.cat([start, torch.where(before == IGNORED, pad, before)], dim=1)

    def _generation(self, model: PreTrainedModel) -> Any:
        """Return the settings, with the end tokens that the checkpoint has besides ours.

        transformers takes other settings from the checkpoint.
        """
        from transformers import GenerationConfig

        given = asdict(self.config.generation)
        if not given["do_sample"]:
            given = {k: v for k, v in given.items() if k not in ("temperature", "top_p")}
        if given["num_beams"] == 1:
            given.pop("length_penalty")
        own = model.generation_config
        return GenerationConfig(
            **given,
            min_length=0,
            num_return_sequences=1,
            return_dict_in_generate=False,
            top_k=0 if given["do_sample"] else None,  # transformers' own is 50
            eos_token_id=self._ends(model),
            pad_token_id=self.checkpoint.tokenizer.pad_token_id,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=decoder_start(model) if self.is_encoder_decoder else None,
            forced_bos_token_id=own.forced_bos_token_id,
        )


def decoder_start(model: PreTrainedModel) -> int:
    """Return the token that a decoder begins with."""
    own = model.generation_config.decoder_start_token_id
    return int(model.config.decoder_start_token_id if own is None else own)
