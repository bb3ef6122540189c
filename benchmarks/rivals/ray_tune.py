"""Rival (c): Ray Tune with ASHA around a plain Trainer, two trials at a time, a core each.

As its documentation has it: a function that reports. At its best effort in bfloat16, and a class
with reset_config, whose actors go on with the next trial.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import common

CPUS = 2
HUNDREDTHS = "hundredths"  # of an epoch: what ASHA counts in


def main() -> None:
    """Search, and print what came out."""
    given = common.parse("Ray Tune", rungs={"action": "store_true", "help": "look at the rungs"})
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Where Ray looks for `common` in its workers.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    fixed = {
        "rows": str(given.rows),
        "out": str(given.out),
        "limit": given.limit_rows,
        "rungs": given.rungs,
    }
    grid = {name: tune.grid_search(values) for name, values in common.GRIDS[given.trials].items()}
    trainable = _class() if given.best_effort else _function
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={**grid, "fixed": fixed},
        tune_config=tune.TuneConfig(
            metric="f1_macro",
            mode="max",
            scheduler=ASHAScheduler(
                time_attr=HUNDREDTHS,
                grace_period=round(common.RUNGS[0] * 100),
                reduction_factor=3,
                max_t=100,
            ),
            reuse_actors=given.best_effort,
        ),
        run_config=tune.RunConfig(storage_path=str(given.out / "ray"), name="asha", verbose=0),
    )
    results = tuner.fit()
    common.finish([described(result) for result in results], "ray")
    ray.shutdown()


def described(result: Any) -> dict[str, Any]:
    """Return what a trial came to, with each report's time."""
    if result.error:
        raise result.error
    started, table = float(os.environ[common.STARTED]), result.metrics_dataframe
    reports = [
        {"step": int(row[HUNDREDTHS]), "score": row["f1_macro"], "ended": row["at"] - started}
        for _, row in table.iterrows()
        if row[HUNDREDTHS] > 0
    ]
    last = reports[-1]
    params = {name: result.config[name] for name in common.NAMES if name in result.config}
    seconds = last["ended"] + started - table["began"].iloc[0]
    is_complete = last["step"] >= 100
    score = last["score"] if is_complete else None
    return {"params": params, "score": score, "seconds": seconds, "ended": last["ended"]} | {
        "state": "complete" if is_complete else "pruned",
        "reports": reports,
    }


class Trained:
    """One trial's training; calls ``report`` at each evaluation."""

    def __init__(self, config: dict[str, Any], data: common.Data, bf16: bool, report: Any) -> None:
        from transformers import TrainerCallback, set_seed

        set_seed(common.SAME["seed"])
        fixed, began = config["fixed"], time.time()
        rungs = common.rung_steps(len(data.train), config["batch_size"]) if fixed["rungs"] else {}

        class Reports(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
                control.should_evaluate |= state.global_step in rungs

            def on_evaluate(self, _: Any, state: Any, __: Any, metrics: Any, **___: Any) -> None:
                share = rungs.get(state.global_step, 1.0)
                report(
                    {
                        "f1_macro": metrics["eval_f1_macro"],
                        HUNDREDTHS: round(share * 100),
                        "began": began,
                        "at": time.time(),
                    }
                )

        folder = Path(fixed["out"], f"trainer-{os.getpid()}")
        names = common.trainer_names(config)
        if rungs:
            names["warmup_steps"] = common.RUNG_WARMUP
        self.trainer = common.new_trainer(data, folder, common.new_model(data), bf16=bf16, **names)
        self.trainer.add_callback(Reports())

    def run(self) -> None:
        """Train to the end."""
        self.trainer.train()


def _load(config: dict[str, Any]) -> common.Data:
    return common.load(Path(config["fixed"]["rows"]), config["fixed"]["limit"])


def _function(config: dict[str, Any]) -> None:
    """Train, and report as the documentation does."""
    from ray import tune

    Trained(config, _load(config), bf16=False, report=tune.report).run()


def _class() -> type:
    """Return a class whose actor keeps what is read and imported for the next trial."""
    from ray import tune

    class Reused(tune.Trainable):
        """Trains from one evaluation to the next; the training waits between in a thread."""

        def setup(self, config: dict[str, Any]) -> None:
            self._data = _load(config)
            self._begin(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._leave()
            self._begin(new_config)
            return True

        def cleanup(self) -> None:
            self._leave()

        def step(self) -> dict[str, Any]:
            self._go.release()
            self._told.acquire()
            if self._error is not None:
                raise self._error
            return {**self._last, "done": self._last[HUNDREDTHS] >= 100}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            """Ray asks for one at a trial's end; nothing goes on from it."""
            del checkpoint_dir
            return {}

        def load_checkpoint(self, checkpoint: Any) -> None:
            del checkpoint

        def _begin(self, config: dict[str, Any]) -> None:
            self._go, self._told = threading.Semaphore(0), threading.Semaphore(0)
            self._last: dict[str, Any] = {}
            self._error: BaseException | None = None
            self._left = False
            self._thread = threading.Thread(target=self._train, args=(config,), daemon=True)
            self._thread.start()

        def _train(self, config: dict[str, Any]) -> None:
            self._go.acquire()
            try:
                if not self._left:
                    Trained(config, self._data, bf16=True, report=self._report).run()
            except SystemExit:  # the scheduler stopped this trial
                pass
            except BaseException as error:
                self._error = error
                self._told.release()

        def _report(self, metrics: dict[str, Any]) -> None:
            self._last = metrics
            self._told.release()
            if metrics[HUNDREDTHS] < 100:
                self._go.acquire()
                if self._left:
                    raise SystemExit

        def _leave(self) -> None:
            self._left = True
            self._go.release()
            self._thread.join(timeout=60)

    return Reused


if __name__ == "__main__":
    main()
