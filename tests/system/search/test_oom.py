"""Running out of memory: a search that is drawn to the edge of memory learns where it is."""

from collections.abc import Callable
from statistics import mean, median
from typing import NamedTuple

import optuna
import pytest
import torch
from optuna.trial import Trial, TrialState

from pipeline.common.errors import reason_of
from pipeline.search.samplers import make_sampler
from pipeline.search.space.grammar import parse_space
from pipeline.search.study.budget import Budget
from pipeline.search.study.failures import tell_failure
from pipeline.search.study.liveness import Heartbeat
from pipeline.search.study.queue import claim
from pipeline.search.study.study import StudySpec
from pipeline.search.study.trials import kind_of_failure, state_of

SEEDS, TRIALS, STARTUP = 20, 60, 10
SPACE = (
    "batch_size=tag(log,int(interval(4,256)))",
    "max_length=tag(log,int(interval(32,512)))",
    "model=small,base,large",
)
LIMIT = 12e9  # bytes on the device
# Of a model: parameters, bytes that a token keeps for the backward pass, what it adds to the score.
MODELS = {"small": (22e6, 0.2e6, 0.0), "base": (110e6, 0.8e6, 0.2), "large": (335e6, 2e6, 0.4)}

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.9 GB, other allocations: 1 KB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory"
    ),
    MemoryError(),
]

Tell = Callable[[optuna.Study, Trial], None]


class Found(NamedTuple):
    """What a search came to."""

    study: optuna.Study
    failed: list[int]  # numbers of the trials that ran out of memory

    @property
    def again(self) -> int:
        """How many did so once the sampler had something to learn from."""
        return sum(number >= STARTUP for number in self.failed)


def bytes_of(trial: Trial) -> float:
    """Return a step's memory: weights, gradients and Adam's two moments, and activations."""
    parameters, of_a_token, _ = MODELS[trial.params["model"]]
    tokens = trial.params["batch_size"] * trial.params["max_length"]
    return 16 * parameters + of_a_token * tokens


def score_of(trial: Trial) -> float:
    """Return a score that rises with whatever takes memory, so that the best is at the edge."""
    batch_size, max_length = trial.params["batch_size"], trial.params["max_length"]
    return float(batch_size**0.25 + max_length**0.125 + MODELS[trial.params["model"]][2])


def told_as_failure(study: optuna.Study, trial: Trial) -> None:
    study.tell(trial, state=TrialState.FAIL)


def told_as_constraint(study: optuna.Study, trial: Trial) -> None:
    tell_failure(study, trial, OUT_OF_MEMORY[0])


def search(seed: int, tell: Tell) -> Found:
    """Search as a worker does, with the options of our `tpe`, in a study that is in memory."""
    tpe = {"_target_": "optuna.samplers.TPESampler", "constant_liar": True}
    spec = StudySpec(
        name="edge",
        storage="",
        directions=("maximize",),
        space=parse_space(SPACE),
        sampler={**tpe, "n_startup_trials": STARTUP},
        pruner={},
        reported="maximize",
        unit=1,
        seed=seed,
        budget=Budget(TRIALS),
        max_failure_rate=1.0,
        retries=2,
        trial_seconds=None,
    )
    sampler = make_sampler(spec.sampler, spec.space, seed)
    found = Found(optuna.create_study(sampler=sampler, direction="maximize"), [])
    heartbeat = Heartbeat(found.study)
    while (trial := claim(found.study, spec, heartbeat)) is not None:
        if bytes_of(trial) > LIMIT:
            found.failed.append(trial.number)
            tell(found.study, trial)
        else:
            found.study.tell(trial, score_of(trial))
    return found


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "mps", "cpu", "python"])
def test_out_of_memory_is_a_violated_constraint(error):
    assert reason_of(error).startswith("oom: ")
    study = optuna.create_study()
    tell_failure(study, study.ask(), error)
    (trial,) = study.trials
    assert (state_of(trial), kind_of_failure(trial)) == ("failed", "oom")
    assert trial.constraints == {"oom": 1.0}
    assert trial.state == TrialState.PRUNED  # samplers leave a FAIL out


def test_a_search_at_the_edge_of_memory_repeats_at_most_half_as_many_failures():
    ours = [search(seed, told_as_constraint) for seed in range(SEEDS)]
    others = [search(seed, told_as_failure) for seed in range(SEEDS)]
    assert all(len(f.study.trials) == TRIALS for f in [*ours, *others])
    at_random = mean(len(f.failed) - f.again for f in ours) / STARTUP
    assert 0.2 < at_random < 0.5, f"{at_random:.0%} of random points run out of memory"

    again, again_others = (median(f.again for f in found) for found in (ours, others))
    said = (
        f"of {TRIALS - STARTUP} trials after the first {STARTUP}, a median of {again:g} ran out of "
        f"memory told as a constraint, {again_others:g} told as FAIL"
    )
    assert again <= again_others / 2, said
    best, best_others = (median(f.study.best_value for f in found) for found in (ours, others))
    assert best >= best_others, f"best {best:.3f}, told as FAIL {best_others:.3f}; {said}"
