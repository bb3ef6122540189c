"""Keys as other tools call them, and what they are here: for messages, and for docs/migrating.md.

The names are those of transformers' ``TrainingArguments``, of peft's ``LoraConfig`` and of the
scripts that are written with them.
"""

from pipeline.config.migrations import renamed

_BATCH = "training.batch_size: rows per optimizer step, however they are split to fit memory"
_AT_ONCE = "not needed: training.batch_size is the whole batch, and training.micro_batch_tokens is \
what is computed at once"
_WARMUP = "schedule.warmup: 100 is steps, 0.06 a share of all steps"
_EVALUATE = "training.eval_every: 50 is steps, 0.5 epochs"
_SAVE = "training.checkpoint_every: 50 is steps, 0.5 epochs, null never"
_BEST = "not needed: the weights of the best evaluation are kept"

FOREIGN = {
    "per_device_train_batch_size": _BATCH,
    "train_batch_size": _BATCH,
    "gradient_accumulation_steps": _AT_ONCE,
    "auto_find_batch_size": _AT_ONCE,
    "per_device_eval_batch_size": "evaluation.batch_size",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "lr": "optimizer.learning_rate",
    "optim": "optimizer, a group: optimizer=adamw",
    "adam_beta1": "optimizer.beta1",
    "adam_beta2": "optimizer.beta2",
    "adam_epsilon": "optimizer.eps",
    "lr_scheduler_type": "schedule, a group: schedule=cosine",
    "warmup_ratio": _WARMUP,
    "warmup_steps": _WARMUP,
    "gradient_checkpointing": "not offered: training.micro_batch_tokens bounds the memory of a \
step",
    "dataloader_num_workers": "not needed: batches are made of token ids that are in memory",
    "run_name": "not needed: a run is named by model, data and time",
    "push_to_hub": "not needed: tunewright push RUN hub:OWNER/NAME publishes a kept model",
    "fp16": "training.precision: training.precision=float16",
    "bf16": "training.precision: training.precision=bfloat16",
    "eval_strategy": _EVALUATE,
    "evaluation_strategy": _EVALUATE,
    "eval_steps": _EVALUATE,
    "logging_strategy": "training.logging_steps",
    "save_strategy": _SAVE,
    "save_steps": _SAVE,
    "save_total_limit": "training.keep_checkpoints",
    "resume_from_checkpoint": "an option: tunewright train --resume, or tunewright resume RUN",
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": "evaluation.objective: evaluation.objective=val/accuracy",
    "greater_is_better": "not needed: the metric that evaluation.objective names has its direction",
    "early_stopping_patience": "training.early_stopping_patience",
    "label_smoothing_factor": "task.label_smoothing",
    "group_by_length": "not needed: a batch is split by length, to training.micro_batch_tokens",
    "train_sampling_strategy": "not needed: a batch is split by length",
    "full_determinism": "training.deterministic",
    "data_seed": "data.split_seed for the splits, seed for the order of rows",
    "output_dir": "tracking.dir",
    "report_to": "not needed: each run is logged to MLflow, at tracking.uri or in tracking.dir",
    "max_seq_length": "training.max_length",
    "max_seq_len": "training.max_length",
    "model_max_length": "training.max_length",
    "cutoff_len": "training.max_length",
    "model_name_or_path": "model, a group: model=bert-base, or model=hub model.checkpoint=NAME",
    "tokenizer_name": "model.tokenizer",
    "dataset_name": "data, a group: data=imdb, or data=hub data.name=NAME",
    "train_file": "data.train: data=files data.train=FILE",
    "validation_file": "data.validation: data=files data.validation=FILE",
    "test_file": "data.test: data=files data.test=FILE",
    "max_steps": "training.max_steps",
    "lora_r": "adapter.r: adapter=lora adapter.r=8",
    "lora_rank": "adapter.r: adapter=lora adapter.r=8",
    "lora_alpha": "adapter.alpha: adapter=lora adapter.alpha=16",
    "lora_dropout": "adapter.dropout: adapter=lora adapter.dropout=0.1",
    "target_modules": "adapter.targets: adapter=lora adapter.targets=[query,value]",
}


def other_name(key: str) -> str | None:
    """Return the sentence on a key that is called otherwise here; None for one that is not known.

    It had its name in an older version, or has it in another tool.
    """
    group, _, last = key.rpartition(".")
    here = None if group.startswith("provider") else FOREIGN.get(last)  # whose keys are a service's
    if here and here.partition(":")[0] != key:
        return f"{key} is not a key of the config. Here it is {here}."
    return renamed(key)
