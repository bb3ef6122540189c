"""Steering a search that runs, by the study's name: through its storage, from any terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError, TrackingError, amount
from pipeline.common.process import is_gone
from pipeline.config.compose import compose, hydra_app, without_hydra
from pipeline.config.flags import reading_by
from pipeline.jobs.doctor import at_work
from pipeline.jobs.trial import ExperimentTask
from pipeline.search.composer import Composer
from pipeline.search.options import Options
from pipeline.search.plan import make_spec
from pipeline.search.searchable import Searchable
from pipeline.search.space.conditions import check_point
from pipeline.search.space.dimension import encode
from pipeline.search.staging import read_space
from pipeline.search.study import steering
from pipeline.search.study.stages import Stages
from pipeline.search.study.storage import find_study
from pipeline.search.study.study import FINGERPRINT, SPACE, StudySpec
from pipeline.search.study.trials import ADDED, in_state, params_of
from pipeline.tracking import Store, commands, studies, tags
from pipeline.tracking.runs import process_of, state_of

if TYPE_CHECKING:
    import optuna

    from pipeline.tracking.runs import Run


@dataclass(frozen=True)
class Steered:
    """A study, and whether a search is at it as far as can be seen from here."""

    study: optuna.Study
    is_running: bool
    _store: Store
    _run: Run

    @classmethod
    def find(cls, store: Store, name: str, storage: str | None) -> Steered:
        """Find a study by its name, or by how its name begins.

        Raises:
            TrackingError: where there is none, or its storage cannot be opened.
        """
        run = studies.find_study(store, name)
        study = find_study(run.data.tags[tags.STUDY], commands.storage_of(store, run, storage))
        # Of a process on another machine nothing is known: it may be there.
        may_be = run.info.status == "RUNNING" and is_gone(process_of(run)) is None
        return cls(study, may_be or at_work(run, study) is not None, store, run)

    def stop(self, *, now: bool = False) -> str:
        """Have the search end, and say what becomes of it."""
        self._check_running("stop ends a search that runs")
        steering.stop(self.study, now=now)
        running, paused = (len(in_state(self.study, state)) for state in ("running", "paused"))
        then = "to end now and be begun again when it is resumed" if now else "to finish"
        which = f"{amount(running, 'running trial')} {then}"
        if paused:
            which += f", {amount(paused, 'paused one')} to be begun again when it is resumed"
        return f"{self.study.study_name}: no further trial begins, {which}."

    def stop_trial(self, number: int) -> str:
        """Have a trial end as a pruned one, and say so."""
        self._check_running("stop-trial ends a trial that runs")
        steering.stop_trial(self.study, number)
        return f"trial {number} of {self.study.study_name} ends as pruned, within seconds."

    def add(self, settings: Mapping[str, Any]) -> str:
        """Queue a point, given whole or in part, and say as which trial.

        Raises:
            ConfigError: where it is no point of the space, or was begun before.
        """
        if not settings:
            raise ConfigError("add: expected the keys of a point, such as training.batch_size=16.")
        study, spec = Stages(self.study, self._spec()).current()
        space = spec.space
        try:
            point = check_point(space, settings)
        except ValueError as error:
            raise ConfigError(f"study {self.study.study_name}, add: {error}") from error
        trial = steering.add(study, space, point, is_grid=spec.is_grid)
        known = space.settings(space.own(params_of(trial)))
        shown = ", ".join(f"{key}={encode(value)}" for key, value in known.items())
        counts = "one more than n_trials" if ADDED in trial.user_attrs else "queued before"
        when = "it begins next" if self.is_running else "the search's own command runs it"
        return f"trial {trial.number} of {self.study.study_name}: {shown}; {counts}, {when}."

    def _check_running(self, what: str) -> None:
        if not self.is_running:
            raise ConfigError(
                f"study {self.study.study_name} is not running ({state_of(self._run)}): {what}. "
                "The search's own command resumes what is unfinished."
            )

    def _spec(self) -> StudySpec:
        """Compose the study's space by its command line: a spec to queue points by."""
        command = commands.command_of(self._run, ())
        overrides = self._store.instead(command.overrides)
        with reading_by(command.flags), hydra_app(command.job) as hydra:
            config = compose(hydra, overrides, multirun=True)
            options = replace(Options.read(config.hydra.sweeper), pruner={})
            composer = Composer(hydra.config_loader, config, ExperimentTask())
            space = read_space(composer, options, list(config.hydra.overrides.task))
            base = without_hydra(config, resolve=False)
            spec = make_spec(options, space, base, Searchable(lambda _: None))
        described = json.loads(json.dumps(space.describe()))
        if described != self.study.user_attrs.get(FINGERPRINT, {}).get(SPACE):
            raise TrackingError(
                f"{command.place}: it gives another space here than the study's; expected the "
                "folder that the search was started in, with the configs of then."
            )
        return spec


def as_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words as the settings of a point."""
    from pipeline.config.compose import chosen
    from pipeline.search.space.transfer import read

    return {key: read(text) for key, text in chosen(words).items()}
