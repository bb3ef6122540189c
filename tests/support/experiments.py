"""An experiment without a store: its config, a record that keeps what it gets, a trial's report."""

from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.experiment import validate
from pipeline.training.outcome import Trial


class Log:
    """A record that keeps what it gets."""

    run_id = "none"

    def __init__(self):
        self.points = []

    def metrics(self, values, step=0):
        self.points += [(step, k, v) for k, v in values.items() if not k.startswith("cost/")]

    def __getattr__(self, name):
        return lambda *_, **__: None


def experiment(tiny, *more):
    with hydra_app("train") as hydra:
        return validate(without_hydra(compose(hydra, [*tiny, *more])))


def trial(verdicts, snapshot=None) -> Trial:
    return Trial(lambda _: False, lambda *_: next(verdicts), lambda: None, snapshot=snapshot)
