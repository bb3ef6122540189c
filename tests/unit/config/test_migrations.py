"""Records of older versions are read under today's names; commands have to use these."""

from pathlib import Path

import pytest

from pipeline.common.errors import ConfigError
from pipeline.config.migrations import (
    migrated,
    migrated_overrides,
    migrated_params,
    migrated_settings,
)


def test_old_names_in_records_are_read_under_new_names():
    assert migrated({"training": {"packing": True}})["training"]["unpadding"] is True
    assert migrated({"training": "no mapping"})["training"] == "no mapping"
    assert migrated_params({"training.prefix_cache": "True", "seed": "1"}) == {
        "training.frozen_layer_cache": "True",
        "seed": "1",
        "provider.name": "none",  # there was no other
    }
    overrides = ["+training.packing=true", "training.prefix_cache=false", "task=chat"]
    assert migrated_overrides(overrides) == [
        "+training.unpadding=true",
        "training.frozen_layer_cache=false",
        "task=chat",
    ]


def test_rerun_and_diff_of_a_record_with_old_names_find_no_difference(cli, tiny, tiny_model, runs):
    assert cli("train", *tiny, "training.unpadding=true").code == 0
    (run,) = runs("run")
    assert cli("export", run.info.run_id, "old").code == 0
    config = Path("old/config.yaml")
    text = config.read_text(encoding="utf-8")
    assert "  unpadding: true\n" in text
    old = text.replace("  unpadding: ", "  packing: ").replace("frozen_layer_cache", "prefix_cache")
    assert "  delimiter: null\n  quoting: minimal\n" in old
    old = old.replace("  delimiter: null\n  quoting: minimal\n", "")  # which are newer
    config.write_text(old, encoding="utf-8")

    rerun = cli("rerun", "old", "--verify", "--allow", str(tiny_model))
    assert rerun.code == 0, rerun.err
    assert "verdict: identical" in rerun.out
    assert "config      same" in rerun.out
    refused = cli("rerun", "old", "training.packing=false", "--allow", str(tiny_model))
    assert refused.code == 2
    assert "training.packing is now called training.unpadding." in refused.err


def test_old_records_get_the_former_meaning_of_new_keys():
    first = {"task": {"name": "classification"}, "data": {"text": "a"}, "training": {"epochs": 1}}
    now = migrated(first)
    assert first["training"] == {"epochs": 1}
    assert now["adapter"] == {"name": "none"}
    assert now["training"]["micro_batch_tokens"] is None
    assert now["task"]["stride"] == 32
    assert "stride" not in migrated({"task": {"name": "chat"}})["task"]
    assert "quoting" not in migrated({"data": {"source": "hub"}})["data"]


def test_settings_of_a_study_are_those_of_today_without_keys_for_messages():
    recorded = {"training.packing": True, "model.architecture": "bert", "task.name": "chat"}
    keys = ["data.layout", "task.stride", "adapter.name"]
    assert migrated_settings(recorded, keys) == {
        "training.unpadding": True,
        "task.name": "chat",
        "data.layout": "auto",
        "adapter.name": "none",
    }


def test_record_with_a_key_by_both_its_names_is_refused_where_they_differ():
    both = {"training": {"packing": False, "unpadding": True}}
    with pytest.raises(ConfigError, match=r"expected training\.unpadding alone"):
        migrated(both)
    assert migrated({"training": {"packing": True, "unpadding": True}})["training"]["unpadding"]
