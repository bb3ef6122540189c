"""What a secret is, and that none is written down."""

import logging
from pathlib import Path

import pytest

from pipeline.masking import Masking, masked_message, masked_override, masked_value


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("+hydra.job.env_set.HF_TOKEN=hf_x", "+hydra.job.env_set.HF_TOKEN=***"),
        ("hydra.job.env_set={HF_TOKEN:sesame,A:1}", "hydra.job.env_set={HF_TOKEN:***,A:1}"),
        ("tracking.uri=http://me:sesame@host", "tracking.uri=http://me:***@host"),
        ("s3.api_key='a, b'", "s3.api_key=***"),
        ("a=postgresql://h/d?password=sesame&b=1", "a=postgresql://h/d?password=***&b=1"),
        ("model.pad_token=<pad>", "model.pad_token=<pad>"),
        ("training.max_tokens=3", "training.max_tokens=3"),
    ],
)
def test_an_override_is_shown_without_its_secrets(override, shown):
    assert masked_override(override) == shown


def test_a_tree_is_shown_without_its_secrets():
    tree = {"a": {"password": "sesame", "n": 3}, "b": ["x.token=sesame"], "token": None}
    shown = {"a": {"password": "***", "n": 3}, "b": ["x.token=***"], "token": None}
    assert masked_value("", tree) == shown


def test_a_message_is_shown_without_its_secrets():
    said = "401 for https://me:sesame@host/?token=sesame with {'api_key': 'x', token=sesame}"
    assert "sesame" not in masked_message(said)
    assert masked_message("step 3: loss 0.4, eos_token=</s>") == "step 3: loss 0.4, eos_token=</s>"


def test_a_log_has_no_secrets_in_messages_or_tracebacks():
    log, handler = logging.getLogger("masked"), logging.FileHandler("job.log")
    handler.addFilter(Masking())
    log.addHandler(handler)
    try:
        raise ValueError("no answer from http://me:sesame@host")
    except ValueError:
        log.exception("password=%s", "sesame")
    log.removeHandler(handler)
    text = Path("job.log").read_text(encoding="utf-8")
    assert "ValueError" in text
    assert "sesame" not in text


def test_a_run_leaves_no_secret_anywhere(cli, tiny, working_folder):
    given = "+hydra.job.env_set.HF_TOKEN=sesame", "data.train=gone://me:sesame@host/a.csv"
    cli("train", "-m", *tiny, "seed=1,2", given[0])
    ended = cli("train", *tiny, *given)
    assert ended.code == 2
    assert "sesame" not in ended.out + ended.err
    files = [path for path in working_folder.rglob("*") if path.is_file()]
    assert any(path.name == "hydra.yaml" for path in files)
    assert [path for path in files if b"sesame" in path.read_bytes()] == []
