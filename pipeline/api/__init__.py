"""The Python interface, on which the command line is written: ``import tunewright`` is this module.

    compose(overrides)          an `Experiment`: its config, composed and checked
    train(overrides)            a `Run`: score, metrics, their history, the model
    sweep(space, overrides)     a `Study`: trials as a table, the best one, Optuna's
    study(name)                 a `Study` that was begun before
    load(model)                 a `Model` that predicts

A notebook shows each of them as a short table; `Study.report` and `Experiment.inspect` are pages.
Overrides are those of the command line, as texts or as a mapping of keys to values. What goes wrong
raises `TunewrightError`; nothing exits. A call leaves the process as it found it, so it may be a
notebook, a service or another Hydra program: see `pipeline.api.guest`.
"""

from pipeline.api.experiments import Experiment, compose, train
from pipeline.api.models import Model, load
from pipeline.api.overrides import Overrides
from pipeline.api.reports import Inspection, Report
from pipeline.api.runs import Run, run
from pipeline.api.studies import Study, study, sweep
from pipeline.common.errors import TunewrightError

__all__ = [
    "Experiment",
    "Inspection",
    "Model",
    "Overrides",
    "Report",
    "Run",
    "Study",
    "TunewrightError",
    "compose",
    "load",
    "run",
    "study",
    "sweep",
    "train",
]
