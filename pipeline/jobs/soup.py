"""A soup: the weights of a study's best models averaged, tested beside the winner, and logged.

The greedy one of Wortsman et al. (2022), see `pipeline.models.soup`. What it is made of is chosen
by the validation split; the test split, on which nothing was chosen, says what that brought.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pipeline.common.errors import ConfigError, TrackingError, amount, listing
from pipeline.config.compose import run_single
from pipeline.config.experiment import validate
from pipeline.config.hydra_parts import Hydra
from pipeline.jobs.single import Command, fix_open_choices
from pipeline.jobs.soup_run import SOUP, Ingredient, Recipe, Tasting, serve
from pipeline.models.digests import weights_digest
from pipeline.models.soup import Tried, greedy, why_apart
from pipeline.search.study.storage import find_study
from pipeline.search.study.trials import RUN_ID, best_first
from pipeline.serving import description
from pipeline.tasks import get_task
from pipeline.tasks.objective import objectives
from pipeline.tracking import Store, commands, open_store, studies, tags
from pipeline.tracking.kept_models import has_model, trials_with_model
from pipeline.tracking.logged import LoggedRun, find_run
from pipeline.tracking.registry import model_folder
from pipeline.tracking.runs import find_runs, quoted
from pipeline.training.outcome import RUN_LOGGER, Result
from pipeline.training.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.tracking.runs import Run

log = logging.getLogger(RUN_LOGGER)


@dataclass(frozen=True)
class Kept:
    """The kept models of a study, the best trial's first."""

    store: Store
    study: str
    parent: Run
    runs: Mapping[int, Run]  # by trial
    left_out: Mapping[int, str]  # trials whose models do not fit the first one, and why

    @property
    def best(self) -> str:
        """The run of the best of them."""
        return str(next(iter(self.runs.values())).info.run_id)


def kept_models(store: Store, name: str, storage: str | None) -> Kept:
    """Find the kept models of a study whose weights have an average.

    Raises:
        TrackingError: where there is no such study, or its storage is not known.
        ConfigError: for fewer than two models.
    """
    parent = studies.find_study(store, name)
    full = parent.data.tags[tags.STUDY]
    study = find_study(full, commands.storage_of(store, parent, storage))
    known = {run.info.run_id: run for run in trials_with_model(store)}
    ranked = {t.number: known.get(t.user_attrs[RUN_ID]) for t in best_first(study)}
    runs = {number: run for number, run in ranked.items() if run is not None}
    if len(runs) < 2:
        raise ConfigError(
            f"study {full}: it keeps {amount(len(runs), 'model')} of {amount(len(ranked), 'trial')}"
            "; expected two at least to average. Run the search with tracking.keep_models=4, for "
            "example, under another hydra.sweeper.study_name: trials that are over keep what "
            "they have."
        )
    left_out = dict(_unfit(store, runs))
    if len(runs) - len(left_out) < 2:
        reasons = "; ".join(f"trial {number}: {why}" for number, why in left_out.items())
        raise ConfigError(
            f"study {full}: no kept model can be averaged with that of trial {next(iter(runs))}, "
            f"the best: {reasons}. Expected models that began with the same weights."
        )
    return Kept(store, full, parent, runs, left_out)


def _unfit(store: Store, runs: Mapping[int, Run]) -> Iterator[tuple[int, str]]:
    (_, best), *others = runs.items()
    with model_folder(store, best.info.run_id) as first:
        own = description.read(first)
        for number, run in others:
            with model_folder(store, run.info.run_id) as other:
                theirs = description.read(other)
                if _base(run) != _base(best):
                    why = f"it began with another model, {run.data.params['model.checkpoint']}"
                elif list(theirs.label_counts) != list(own.label_counts):
                    why = f"its labels are {listing(theirs.label_counts)}"
                elif theirs.moments != own.moments:
                    why = "its numbers have another scale, that of other training rows"
                elif _asked(theirs) != _asked(own):
                    why = "it answers another task, or in another way"
                else:
                    why = why_apart(first, other)
            if why:
                yield number, why


def _asked(model: description.Description) -> dict[str, Any]:
    """Return the settings of a model's task without those of training and decoding."""
    apart = get_task(model.task).after_encoding
    return {key: value for key, value in asdict(model.task).items() if key not in apart}


def _base(run: Run) -> dict[str, str]:
    return {key: value for key, value in run.data.params.items() if key.startswith("model.")}


def make(hydra: Hydra, config: DictConfig, command: Command, kept: Kept) -> Result | None:
    """Choose, average, test and log; the config is the best trial's, and reads its test split.

    None where no other model helps: then nothing is logged.
    """
    task = partial(_choose, command=command, kept=kept)
    result: Result | None = run_single(hydra, config, task)
    return result


def _choose(config: DictConfig, command: Command, kept: Kept) -> Result | None:
    from pipeline.training.determinism import repeatable

    fix_open_choices(config)
    experiment = validate(config)
    fit = {number: run for number, run in kept.runs.items() if number not in kept.left_out}
    for number, why in kept.left_out.items():
        log.info("trial %d is left out: %s", number, why)
    with ExitStack() as stack:
        folders = [
            stack.enter_context(model_folder(kept.store, run.info.run_id)) for run in fit.values()
        ]
        stack.enter_context(repeatable(experiment.training))
        tasting = Tasting(experiment, prepare(experiment))
        objective = objectives(experiment)[0]
        sign = 1.0 if objective.direction == "maximize" else -1.0

        def score(some: Sequence[int]) -> float:
            return tasting.score([folders[i] for i in some])

        tried = greedy(len(folders), score, sign)
        chosen = [one.position for one in tried if one.is_in]
        rows = list(_rows(list(fit), tried, kept.left_out))
        for trial, *_, said in rows[: len(fit)]:
            log.info("trial %s: %s", trial, said)
        if len(chosen) < 2:
            log.info("no other model raises %s: the winner stays as it is", objective.metric)
            return None
        numbers = list(fit)
        ingredients = [
            Ingredient(numbers[i], fit[numbers[i]].info.run_id, weights_digest(folders[i]))
            for i in chosen
        ]
        recipe = Recipe(kept.study, ingredients, len(kept.runs), rows)
        own = {tags.STUDY: kept.study}
        return serve(config, tasting, recipe, fit, own, command, kept.parent.info.run_id)


def _rows(
    trials: Sequence[int], tried: Sequence[Tried], left_out: Mapping[int, str]
) -> Iterator[Sequence[Any]]:
    for one in tried:
        said = f"{one.score:.4f} " + ("with it, added" if one.is_in else "with it, left out")
        yield trials[one.position], one.score, one.is_in, said
    for number, why in left_out.items():
        yield number, None, False, why


def recipe_of(record: LoggedRun) -> Recipe | None:
    """Return what the record of a soup says that it is made of; None of another run.

    Raises:
        TrackingError: for a record that is not as a soup's.
    """
    origin = record.provenance.get("origin")
    if not isinstance(origin, dict) or SOUP not in origin:
        return None
    try:
        made = origin[SOUP]
        models = [Ingredient(int(m["trial"]), m["run_id"], m["weights"]) for m in made["models"]]
        return Recipe(str(origin["study"]), models, int(made["tried"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TrackingError(f"{record.place}: its origin is none of a soup ({error!r}).") from error


def make_again(
    hydra: Hydra, config: DictConfig, command: Command, recipe: Recipe, run_tags: Mapping[str, str]
) -> Result:
    """Average the same models again, and test them likewise."""
    result: Result = run_single(
        hydra, config, partial(_again, command=command, recipe=recipe, run_tags=run_tags)
    )
    return result


def _again(
    config: DictConfig, command: Command, recipe: Recipe, run_tags: Mapping[str, str]
) -> Result:
    from pipeline.training.determinism import repeatable

    experiment = validate(config)
    store = open_store(experiment.tracking)
    runs = {one.trial: _source(store, one) for one in recipe.ingredients}
    with repeatable(experiment.training):
        tasting = Tasting(experiment, prepare(experiment))
        return serve(config, tasting, recipe, runs, run_tags, command)


def _source(store: Store, one: Ingredient) -> Run:
    """Return the run that has an ingredient's weights: the trial's, or one that repeated it.

    Raises:
        TrackingError: where no run has them any more.
    """
    own = find_run(store, one.run_id)  # by its id alone: a record could name a folder
    again = find_runs(store, f"tags.`{tags.RERUN_OF}` = '{quoted(one.run_id)}'")
    for run in filter(partial(has_model, store), [own, *again]):
        with model_folder(store, run.info.run_id) as folder:
            if weights_digest(folder) == one.weights:
                return run
    raise TrackingError(
        f"run {one.run_id}: trial {one.trial}, of which the soup is made, keeps its model no "
        "longer: its search has found better ones, or it was deleted. "
        f"`tunewright rerun {one.run_id}` trains it again; if its weights are the same, this "
        "command takes them."
    )
