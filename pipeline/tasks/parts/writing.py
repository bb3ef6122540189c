"""Tasks whose answer is a text that the model writes, by a decoder or an encoder-decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.config import ChatConfig, SummarizationConfig, TranslationConfig
from pipeline.errors import ModelError
from pipeline.evaluation.names import Direction
from pipeline.tasks.base import PADDING, Batch, Outputs, Task
from pipeline.tasks.parts.batches import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.models import Checkpoint

W = TypeVar("W", bound=SummarizationConfig | TranslationConfig | ChatConfig)

# Of the target's tokens, each predicted from those before it.
TOKEN_METRICS: Mapping[str, Direction] = {
    "loss": "minimize",
    "perplexity": "minimize",
    "token_accuracy": "maximize",
}


def end_token_id(checkpoint: Checkpoint) -> int:
    """Return the token that ends what a model writes; BERT's tokenizers separate with theirs.

    Raises:
        ModelError: for a tokenizer without any.
    """
    for end in (checkpoint.tokenizer.eos_token_id, checkpoint.tokenizer.sep_token_id):
        if end is not None:
            return int(end)
    raise ModelError(
        f"model.checkpoint={checkpoint.name}: its tokenizer has no end-of-text token, which a task "
        "needs whose answers are written."
    )


def start_tokens(checkpoint: Checkpoint) -> list[int]:
    """Return the token that a tokenizer puts before every text, where it has one."""
    bos = checkpoint.tokenizer.bos_token_id
    return [bos] if bos in checkpoint.tokenizer("")["input_ids"][:1] else []


class WritingTask(Task[W]):
    """Cross-entropy over the target's tokens; scored on texts that the model writes."""

    @property
    def auto_class(self) -> str:
        """A language model: what the checkpoint is, or a decoder."""
        if self.is_encoder_decoder:
            return "AutoModelForSeq2SeqLM"
        return "AutoModelForCausalLM"

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the source is read by an encoder, apart from what is written."""
        return bool(self.checkpoint.config.is_encoder_decoder)

    def check(self) -> None:
        """Refuse a model that cannot write, or has no token that ends what it writes.

        Raises:
            ModelError: for the one or the other.
        """
        super().check()
        end_token_id(self.checkpoint)

    @cached_property
    def end(self) -> int:
        """The token that ends a target."""
        return end_token_id(self.checkpoint)

    def forward(self, model: PreTrainedModel, batch: Batch) -> dict[str, torch.Tensor]:
        """Return loss, weight (tokens) and correctly predicted tokens, each of shape [examples]."""
        import torch

        labels = batch.get("labels")
        if labels is None:
            return {"row": batch["row"]}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.is_encoder_decoder:
            decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)
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
        import torch

        prefix = "" if self.is_encoder_decoder else "prompt_"
        prompt = {name: batch[prefix + name] for name in ("input_ids", "attention_mask")}
        written = model.generate(**prompt, generation_config=self._generation(model))
        begin = 1 if self.is_encoder_decoder else prompt["input_ids"].shape[1]
        written = written[:, begin : begin + self.config.generation.max_new_tokens]
        ends = written == self.end
        after = (ends.cumsum(dim=1) - ends.int()) > 0  # what follows the first end is padding
        return {"written": torch.where(after, PADDING, written)}

    def token_scores(self, outputs: Outputs) -> dict[str, float]:
        """Return perplexity and accuracy over all tokens of the targets."""
        tokens = float(outputs["weight"].sum())
        mean = float(outputs["loss"].sum(dtype="float64")) / tokens
        return {
            "perplexity": math.exp(min(mean, 700.0)),  # of more there is no float
            "token_accuracy": float(outputs["correct"].sum()) / tokens,
        }

    def texts(self, outputs: Outputs) -> list[str]:
        """Return what the model wrote, one text an example."""
        decode = self.checkpoint.tokenizer.decode
        written = ([i for i in ids if i != PADDING] for ids in outputs["written"].tolist())
        return [str(decode(ids, skip_special_tokens=True)).strip() for ids in written]

    def _generation(self, model: PreTrainedModel) -> Any:
        """Return the settings, with the ends that the checkpoint's own name beside ours."""
        from transformers import GenerationConfig

        given = asdict(self.config.generation)
        if not given["do_sample"]:
            given = {k: v for k, v in given.items() if k not in ("temperature", "top_p")}
        if given["num_beams"] == 1:
            given.pop("length_penalty")
        own = model.generation_config
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        start = own.decoder_start_token_id
        return GenerationConfig(
            **given,
            eos_token_id=sorted({self.end, *(end for end in ends if end is not None)}),
            pad_token_id=self.checkpoint.tokenizer.pad_token_id,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=model.config.decoder_start_token_id if start is None else start,
            forced_bos_token_id=own.forced_bos_token_id,
        )
