"""Models whose code lies beside them, and a count of the weights that are read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from pipeline.tracking.kept_models import MODEL_FOLDER


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Trap:
    """Touches a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("ran").absolute(),)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the checkpoints that are read from disk, as they come; not those that runs keep."""
    read: list[str] = []
    original = PreTrainedModel.from_pretrained.__func__

    def counted(cls, name, *args, **kwargs):
        if Path(name).name != MODEL_FOLDER:
            read.append(str(name))
        return original(cls, name, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted))
    return read


def with_own_code(model: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a model whose code lies beside it, and leaves a file `ran` where it is imported."""
    modules = str(working_folder / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)
    folder = working_folder / "own"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "code.Own", "AutoModelForSequenceClassification": "code.OwnModel"}
    config |= {"model_type": "own", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(
        "from pathlib import Path\n"
        "from transformers import BertConfig, BertForSequenceClassification\n"
        f"Path({str(working_folder / 'ran')!r}).touch()\n"
        "class Own(BertConfig):\n    model_type = 'own'\n"
        "class OwnModel(BertForSequenceClassification):\n    config_class = Own\n"
    )
    return folder
