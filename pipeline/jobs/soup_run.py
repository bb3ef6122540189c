"""The run of a soup: weights averaged, tested beside the winner's, and logged."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pipeline.analysis import winner as winners
from pipeline.analysis.fairness import Fairness
from pipeline.common.private import make_folder
from pipeline.common.process import identity
from pipeline.config.experiment import Experiment
from pipeline.config.flat import flat
from pipeline.jobs.single import Command, open_record
from pipeline.models.soup import average
from pipeline.serving import description
from pipeline.serving.predictor import Interface, Predictor
from pipeline.serving.saved import interface_of
from pipeline.tasks.objective import objectives
from pipeline.tracking import open_store, tags
from pipeline.tracking.descriptions import described
from pipeline.tracking.kept_models import MODEL_FOLDER, name_inputs
from pipeline.tracking.mlmodel import weights_of
from pipeline.tracking.registry import model_folder
from pipeline.tracking.run_log import RunLog
from pipeline.training.outcome import Result
from pipeline.training.prepare import Prepared

if TYPE_CHECKING:
    from pipeline.tracking import Record
    from pipeline.tracking.runs import Run
    from pipeline.training.best import Evaluation

SOUP = "soup"  # kind of its run, and key of its origin
TABLE = "soup.json"  # artifact: which models were tried, and what each brought
_COLUMNS = ("trial", "score with it", "is in", "said")


@dataclass(frozen=True)
class Ingredient:
    """A kept model of a trial."""

    trial: int
    run_id: str
    weights: str  # digest of its files


@dataclass(frozen=True)
class Recipe:
    """What a soup is made of; the first is the winner, which it is tested beside."""

    study: str
    ingredients: Sequence[Ingredient]
    tried: int  # models among which they were chosen
    rows: Sequence[Sequence[Any]] = field(default=(), compare=False)  # of the table

    @property
    def trials(self) -> str:
        """Their numbers."""
        return ", ".join(str(one.trial) for one in self.ingredients)

    def as_tree(self) -> dict[str, Any]:
        """Return it as the record has it."""
        return {"models": [asdict(one) for one in self.ingredients], "tried": self.tried}


@dataclass(frozen=True)
class Tasting:
    """Scores averages of models as a run scores its own."""

    experiment: Experiment
    data: Prepared

    @cached_property
    def _fairness(self) -> Fairness:
        made = Fairness(self.experiment, self.data.task)
        made.prepare(self.data)
        return made

    def score(self, folders: Sequence[Path]) -> float:
        """Return the first objective's metric of an average on the validation split."""
        with tempfile.TemporaryDirectory(prefix="tunewright-soup-") as made:
            self.mix(folders, Path(made))
            found = self.evaluations(Path(made), "validation")
        return found["validation"].metrics[objectives(self.experiment)[0].name]

    def mix(self, folders: Sequence[Path], out: Path) -> None:
        """Write a model whose weights are the mean of others' into a folder."""
        average(folders, out)
        for path in weights_of(folders[0]):  # not its adapter, which has no mean
            if path.is_file() and path.suffix != ".safetensors":
                shutil.copy(path, out)
        for path in out.glob("*.safetensors"):
            shutil.copymode(out / "config.json", path)
        description.write(description.describe(self.experiment, self.data.task.targets), out)

    def evaluations(self, folder: Path, *splits: str) -> dict[str, Evaluation]:
        """Load a model and evaluate it on splits."""
        from pipeline.training.best import Evaluation

        model, task = Predictor.load(folder).model, self.data.task
        rows = self.experiment.evaluation.batch_size or self.experiment.training.batch_size
        precision = self.experiment.training.precision
        assert precision != "auto"  # a run has settled it
        infer = partial(task.infer, model, batch_size=rows, precision=precision)
        found = {}
        for split in splits:
            examples = self.data.examples[split]
            outputs = infer(examples)
            loss = float(outputs["loss"].sum(dtype="float64") / outputs["weight"].sum())
            metrics = {"loss": loss, **task.score(examples, outputs)}
            metrics |= self._fairness.more_metrics(examples, outputs, infer)
            found[split] = Evaluation(0, 0.0, metrics, outputs)
        return found


def serve(
    config: DictConfig,
    tasting: Tasting,
    recipe: Recipe,
    runs: Mapping[int, Run],
    run_tags: Mapping[str, str],
    command: Command,
    parent: str | None = None,
) -> Result:
    """Average, test and log the models of a recipe, which these runs have, by trial."""
    from hydra.core.hydra_config import HydraConfig

    store = open_store(tasting.experiment.tracking)
    output = Path(HydraConfig.get().runtime.output_dir)
    own = {
        tags.KIND: SOUP,
        tags.PROCESS: json.dumps(identity()),
        tags.OUTPUT: store.relative(output),
        **run_tags,
    }
    chosen = [runs[one.trial] for one in recipe.ingredients]
    record = open_record(
        store,
        config,
        f"soup of trials {recipe.trials}",
        own,
        command,
        {"study": recipe.study, SOUP: recipe.as_tree()},
        parent,
        more={"soup.trials": recipe.trials},
        apart=_differing(chosen, flat(config)),
    )
    with described(store, record.run_id), record, ExitStack() as stack:
        name_inputs(store, record.run_id, chosen)
        folders = [stack.enter_context(model_folder(store, run.info.run_id)) for run in chosen]
        if recipe.rows:
            columns = zip(*recipe.rows, strict=True)
            record.table({k: list(v) for k, v in zip(_COLUMNS, columns, strict=True)}, TABLE)
        soup = stack.enter_context(_new_folder(output / MODEL_FOLDER))
        tasting.mix(folders, soup)
        winner = tasting.evaluations(folders[0], "test")["test"]
        found = tasting.evaluations(soup, "validation", "test")
        result = _logged(RunLog(record, tasting.experiment, tasting.data), tasting, found, record)
        record.tag(soup=_said(tasting, recipe, found["test"], winner))
        record.model(soup, _interface(soup, tasting), 0)
    return result


def _logged(
    log: RunLog, tasting: Tasting, found: Mapping[str, Evaluation], record: Record
) -> Result:
    """Log a soup's scores and predictions as a run logs its own."""
    from pipeline.training.best import Evaluations
    from pipeline.training.results import Judged, named

    data, objective = tasting.data, objectives(tasting.experiment)[0]
    best = found["validation"]
    log.on_start(None)
    log.on_metrics(best.named, best.step)
    seen = Evaluations(objective, None, history=[best.metrics], best=best, last=best)
    baseline = named(data.task.baseline_name, data.encoded.baseline)
    examples = data.examples["test"]
    judged = Judged("test", examples, examples, found["test"], baseline)
    score = best.metrics[objective.name]
    result = Result("complete", record.run_id, (score,), {}, dict(best.named))
    return log.outcome(result, seen, judged, set(), None)


def _said(tasting: Tasting, recipe: Recipe, soup: Evaluation, winner: Evaluation) -> str:
    """Say how a soup compares with the winner on the test split, on which nothing was chosen."""
    experiment, data = tasting.experiment, tasting.data
    name, with_rows = objectives(experiment)[0].name, winners.has_rows(experiment)
    first = recipe.ingredients[0].trial
    tables = [data.task.predictions(data.examples["test"], one.outputs) for one in (soup, winner)]
    own, other = (
        winners.Side(side, [one.metrics[name]], [table["prediction"]] if with_rows else [])
        for side, one, table in zip(
            ("the soup", f"the winner, trial {first}"), (soup, winner), tables, strict=True
        )
    )
    among = f"{len(recipe.ingredients)} of {recipe.tried} models, trials {recipe.trials}"
    answer = f"test/{name} {own.mean:.4f} of a soup of {among}"
    if not with_rows:
        return (
            f"{answer}; {other.name}, alone has {other.mean:.4f}, and one score each gives no test"
        )
    labels = list(data.task.labels)
    return f"{answer}: {winners.judge(own, other, tables[0]['label'], name, labels).words}"


def _interface(folder: Path, tasting: Tasting) -> Interface:
    return interface_of(Predictor.load(folder), tasting.data.examples["validation"].rows)


def _differing(runs: Sequence[Run], known: Mapping[str, Any]) -> set[str]:
    """Return the parameters in which runs differ: they are none of a soup of them."""
    every = [run.data.params for run in runs]
    return {key for key in known if len({params.get(key) for params in every}) > 1}


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
