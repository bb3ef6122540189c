"""An experiment without a store: its config, a record that keeps what it gets, a trial's report."""

from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.evaluation.names import is_cost
from pipeline.jobs.single import open_states
from pipeline.run import run
from pipeline.training.outcome import ALONE, Trial


class Log:
    """A record that keeps what it gets."""

    run_id = "none"

    def __init__(self):
        self.points = []

    def metrics(self, values, step=0):
        self.points += [(step, k, v) for k, v in values.items() if not is_cost(k)]

    def flush(self):
        return lambda: None

    def __getattr__(self, name):
        return lambda *_, **__: None


class Kept(Log):
    """A record that keeps points, predictions and the model's files."""

    def __init__(self):
        super().__init__()
        self.tables, self.weights = [], {}

    def table(self, columns, file):
        self.tables.append((file, columns))

    def model(self, folder, *_):
        self.weights = {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}


def experiment(tiny, *more):
    with hydra_app("train") as hydra:
        return validate(without_hydra(compose(hydra, [*tiny, *more])))


def trial(verdicts, snapshot=None) -> Trial:
    return Trial(
        lambda _: False, lambda *_: next(verdicts, "continue"), lambda: None, snapshot=snapshot
    )


def run_once(experiment, record, folder, trial=None, checkpoints=None):
    """Run an experiment, its states in the store of the working folder unless they are given."""
    if checkpoints is not None:
        return run(experiment, record, folder, checkpoints, trial or ALONE)
    with open_states(experiment, record.run_id, of_trial=trial is not None) as opened:
        return run(experiment, record, folder, opened, trial or ALONE)
