"""Studies on disk, and a search of the sphere function in this process."""

import re
import socket
from collections.abc import Collection
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from pipeline.search.space.grammar import parse_space
from pipeline.search.study.budget import Budget
from pipeline.search.study.liveness import Heartbeat, Watch
from pipeline.search.study.queue import claim, settle
from pipeline.search.study.study import FINGERPRINT, StudySpec
from pipeline.search.study.trials import counted, ended


def open_study(folder: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))


def rename(folder: Path, names: dict[str, str], without: Collection[str] = ()) -> None:
    """Give a study's record other names of keys, and take some from its fingerprint."""
    journal = folder / "study.journal"
    text = journal.read_text(encoding="utf-8")
    for name, other in names.items():
        text = re.sub(rf"\b{re.escape(name)}\b", other, text)
    journal.write_text(text, encoding="utf-8")
    study = open_study(folder)
    recorded = study.user_attrs[FINGERPRINT]
    kept = {key: value for key, value in recorded.items() if key not in without}
    assert len(kept) == len(recorded) - len(without)
    study.set_user_attr(FINGERPRINT, kept)


def trials_in(folder: Path) -> list[FrozenTrial]:
    """Return a study's trials so far; none where it is not in its journal yet."""
    journal = folder / "study.journal"
    if not journal.is_file():
        return []
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    return [t for s in storage.get_all_studies() for t in storage.get_all_trials(s._study_id)]


def points(study: optuna.Study) -> list[dict]:
    """Return the parameters of a study's complete trials."""
    return [t.params for t in ended(study, "complete")]


def spec(folder: Path, sampler: str, n_trials: int) -> StudySpec:
    return StudySpec(
        name="sphere",
        storage=str(folder / "study.journal"),
        directions=("minimize",),
        space=parse_space(["x=interval(-5.0,5.0)", "y=interval(-5.0,5.0)"]),
        sampler={"_target_": f"optuna.samplers.{sampler}", "n_startup_trials": 3},
        pruner={},
        reported="minimize",
        unit=1,
        seed=1,
        budget=Budget(n_trials),
        max_failure_rate=1.0,
        retries=2,
        trial_seconds=None,
    )


def search_sphere(study_spec: StudySpec) -> list[dict[str, float]]:
    """Run what a start of a search runs, and return all points so far."""
    study = study_spec.open()
    settle(study, study_spec, Watch())
    while (trial := claim(study, study_spec, Heartbeat(study))) is not None:
        study.tell(trial, trial.params["x"] ** 2 + trial.params["y"] ** 2)
    return [t.params for t in counted(study)]


DEAD = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 0}


REMOTE = {"host": "another", "pid": 1, "started": 0}
