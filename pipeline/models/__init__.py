"""The pre-trained model and its tokenizer: step one of a run."""

from pipeline.models.checkpoint import Checkpoint, find_checkpoint

__all__ = ["Checkpoint", "find_checkpoint"]
