"""Whether a model serves one group worse: metrics by slice, predictions that a swapped term flips.

A slice is a column of the data, a group one of its values.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import ConfigError
from pipeline.common.html import note, page
from pipeline.common.tables import Table, render
from pipeline.common.timing import booked
from pipeline.config.flags import folders
from pipeline.data.sources import slice_values
from pipeline.evaluation.identity import Terms, read_terms
from pipeline.evaluation.names import FLIP_RATE, GROUP_GAP, SHIFT, WORST_GROUP
from pipeline.training.hooks import Infer, TrainingHook
from pipeline.training.prepare import shape_of, splits_of

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.config.experiment import Experiment
    from pipeline.data import Rows
    from pipeline.tasks.base import Examples, Outputs
    from pipeline.training.prepare import Prepared
    from pipeline.training.results import Judged

LEAST = 20  # rows of a group that is compared; with fewer, chance decides
SHOWN = 20  # changed predictions that are shown
METRIC = "f1_macro"
FILE = "bias.json"  # artifact of a run


@dataclass(frozen=True)
class Group:
    """The rows of a split that share a value of a column."""

    slice: str
    group: str
    n: int
    f1_macro: float
    accuracy: float
    interval: tuple[float, float]  # 95 % of f1_macro, by bootstrap


@dataclass(frozen=True)
class Flip:
    """A row whose prediction a swapped term changes."""

    id: str
    category: str
    text: str
    swapped: str
    prediction: str
    swapped_prediction: str


@dataclass(frozen=True)
class Bias:
    """What was found on a split."""

    split: str
    groups: Sequence[Group]
    metrics: Mapping[str, float]
    swapped: Mapping[str, int]  # rows by category
    flipped: Mapping[str, int]  # of them, those whose prediction changed
    flips: Sequence[Flip]


@dataclass(frozen=True)
class Swapped:
    """The rows of a split that have a term of identity, with the term swapped."""

    examples: Examples  # of the swapped texts
    origins: Sequence[int]  # position of the row that each was made from
    categories: Sequence[str]  # whose terms were swapped


@dataclass
class Fairness(TrainingHook):
    """Computes what `evaluation.slices` and `evaluation.counterfactual` ask for."""

    experiment: Experiment  # that asks
    task: Any  # decodes predictions: a classification, where anything is asked for
    _swapped: dict[str, Swapped | None] = field(default_factory=dict)  # by digest of the rows

    @property
    def _slices(self) -> tuple[str, ...]:
        return self.experiment.evaluation.slices

    def prepare(self, data: Prepared) -> list[Dataset]:
        """Encode the swapped rows of what the run is judged by; return what they are made of."""
        if self.experiment.evaluation.counterfactual is None:
            return []
        judged = (examples for name, examples in data.examples.items() if name != "train")
        found = (self._swap(examples) for examples in judged)
        return [swapped.examples.dataset for swapped in found if swapped is not None]

    def more_metrics(self, examples: Examples, outputs: Outputs, infer: Infer) -> dict[str, float]:
        """Return what is asked for of a split's outputs."""
        found: dict[str, float] = {}
        if self._slices:
            predicted, groups = self.task.predicted(examples, outputs), self._groups(examples.rows)
            scores = [self._scores(examples.rows, predicted, some)[METRIC] for *_, some in groups]
            found[WORST_GROUP] = min(scores)
            found[GROUP_GAP] = max(scores) - found[WORST_GROUP]
        if self.experiment.evaluation.counterfactual is not None:
            found |= self._compare(examples, outputs, infer)[0]
        return found

    @booked("evaluation")
    def report(self, judged: Judged, infer: Infer, run_id: str) -> dict[str, str]:
        """Return the report on the best weights, by file name; empty where nothing is asked for."""
        asked = self.experiment.evaluation
        if not asked.slices and asked.counterfactual is None:
            return {}
        bias = json.dumps(asdict(self._bias(judged, infer)), ensure_ascii=False)
        return {FILE: bias, "bias.html": page("bias", run_id, bias_section(json.loads(bias)))}

    def _bias(self, judged: Judged, infer: Infer) -> Bias:
        examples, outputs = judged.read, judged.evaluation.outputs
        predicted = self.task.predicted(examples, outputs)
        groups = [
            self._group(name, value, examples.rows, predicted, some)
            for name, value, some in self._groups(examples.rows)
        ]
        metrics = self.more_metrics(examples, outputs, infer)
        flips: list[Flip] = []
        swapped, flipped = Counter[str](), Counter[str]()
        found = self._swap(examples) if self.experiment.evaluation.counterfactual else None
        if found is not None:
            _, before, after = self._compare(examples, outputs, infer)
            swapped.update(found.categories)
            pairs = zip(found.origins, found.categories, strict=True)
            for i, (origin, category) in enumerate(pairs):
                if before[i] != after[i]:
                    flipped[category] += 1
                    row = examples.rows.ids[origin]
                    texts = examples.rows["text"][origin], found.examples.rows["text"][i]
                    flips.append(Flip(row, category, *texts, str(before[i]), str(after[i])))
        return Bias(judged.split, groups, metrics, dict(swapped), dict(flipped), flips[:SHOWN])

    def _groups(self, rows: Rows) -> list[tuple[str, str, list[int]]]:
        """Return column, value and positions of the groups that have enough rows."""
        values = slice_values(self.experiment.data, self._slices)
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, row_id in enumerate(rows.ids):
            for name, value in zip(self._slices, values[row_id], strict=True):
                found[name, value].append(i)
        large = {key: some for key, some in found.items() if len(some) >= LEAST}
        # A sample of the rows may have no large group, a whole split has: `check_fairness`.
        return [(*key, some) for key, some in sorted((large or found).items())]

    def _scores(
        self, rows: Rows, predicted: Sequence[str], some: Sequence[int]
    ) -> dict[str, float]:
        labels = [rows["label"][i] for i in some]
        scores: dict[str, float] = self.task.scores([predicted[i] for i in some], labels)
        return scores

    def _group(
        self, name: str, value: str, rows: Rows, predicted: Sequence[str], some: Sequence[int]
    ) -> Group:
        import numpy as np

        from pipeline.evaluation.significance import interval

        scores = self._scores(rows, predicted, some)
        position = {label: i for i, label in enumerate(self.task.labels)}
        guessed = np.array([position[predicted[i]] for i in some])
        truth = np.array([position[rows["label"][i]] for i in some])
        around = interval(guessed, truth, METRIC, self.task.labels)
        return Group(name, value, len(some), scores[METRIC], scores["accuracy"], around)

    def _swap(self, examples: Examples) -> Swapped | None:
        """Return a split's swapped rows; None where no row of it, or of a sample, has a term."""
        key = examples.rows.digest
        if key not in self._swapped:
            self._swapped[key] = self._make(examples.rows)
        return self._swapped[key]

    def _make(self, rows: Rows) -> Swapped | None:
        terms = terms_of(self.experiment)
        texts, origins, categories = [], [], []
        for i, text in enumerate(rows["text"]):
            for category, new in terms.swapped(text).items():
                texts.append(new)
                origins.append(i)
                categories.append(category)
        if not texts:
            return None
        taken = rows.take(origins)
        other = type(rows)(rows.shape, taken.ids, {**taken.columns, "text": texts})
        return Swapped(self.task.encode(other), origins, categories)

    def _compare(
        self, examples: Examples, outputs: Outputs, infer: Infer
    ) -> tuple[dict[str, float], list[Any], list[Any]]:
        """Return metrics, and the prediction for each swapped row before and after."""
        import numpy as np

        swapped = self._swap(examples)
        if swapped is None:
            return dict.fromkeys((FLIP_RATE, SHIFT), 0.0), [], []
        others = infer(swapped.examples)
        every = self.task.predicted(examples, outputs)
        before = [every[i] for i in swapped.origins]
        after = self.task.predicted(swapped.examples, others)
        was = self.task.probabilities(examples, outputs)[list(swapped.origins)]
        shift = np.abs(self.task.probabilities(swapped.examples, others) - was).mean()
        changed = sum(a != b for a, b in zip(before, after, strict=True))
        return {FLIP_RATE: changed / len(before), SHIFT: float(shift)}, before, after


def check_fairness(experiment: Experiment) -> None:
    """Refuse slices and terms that cannot be, before a model is loaded.

    Raises:
        ConfigError: for another task, or a list of terms that cannot be read.
        DataError: for a column that the data lacks.
    """
    asked = experiment.evaluation
    for key, value in (("slices", asked.slices), ("counterfactual", asked.counterfactual)):
        if value and not shape_of(experiment).has_one_label:
            raise ConfigError(
                f"evaluation.{key}={value}: groups are compared by {METRIC}; expected "
                "task=classification with one label a row."
            )
    if asked.slices:
        values = slice_values(experiment.data, asked.slices)
        judged = splits_of(experiment).validation
        for i, name in enumerate(asked.slices):
            sizes = Counter(values[row_id][i] for row_id in judged.ids)
            if max(sizes.values()) < LEAST:
                raise ConfigError(
                    f"evaluation.slices={name}: the largest of its {len(sizes)} groups has "
                    f"{max(sizes.values())} rows in the validation split; expected a column with "
                    f"a value in at least {LEAST} rows; with fewer, chance decides."
                )
    if asked.counterfactual is not None:
        terms, judged = terms_of(experiment), splits_of(experiment).validation
        if not any(terms.swapped(text) for text in judged["text"]):
            raise ConfigError(
                f"evaluation.counterfactual={asked.counterfactual}: no row of the validation split "
                "has any of its terms; expected a list of terms that stand in the texts."
            )


def terms_of(experiment: Experiment) -> Terms:
    """Read the list of terms that the config names."""
    name = experiment.evaluation.counterfactual
    assert name is not None
    return read_terms(name, folders("conf"))


def bias_section(bias: Mapping[str, Any]) -> str:
    """Return a `Bias` as it was logged as a part of a page."""
    parts = []
    if bias["groups"]:
        worst = min(bias["groups"], key=lambda group: group["f1_macro"])
        metrics = bias["metrics"]
        parts.append(
            note(
                f"{bias['split']} split. Worst group: {worst['slice']}={worst['group']}, f1_macro "
                f"{worst['f1_macro']:.4f} on {worst['n']} rows; gap to the best "
                f"{metrics[GROUP_GAP]:.4f}. Groups of fewer than {LEAST} rows are left out."
            )
        )
        rows = []
        for group in bias["groups"]:
            low, high = group["interval"]
            shown = {k: v for k, v in group.items() if k != "interval"}
            rows.append({**shown, "95 %": f"{low:.3f} to {high:.3f}"})
        parts.append(render(Table.of(rows), "html"))
    if bias["swapped"]:
        rate, shift = bias["metrics"][FLIP_RATE], bias["metrics"][SHIFT]
        parts.append(
            note(
                f"Identity terms swapped: {rate:.1%} of {sum(bias['swapped'].values())} "
                f"predictions change, and label probabilities by {shift:.4f} on average."
            )
        )
        rows = [
            {"terms": name, "rows": n, "changed": bias["flipped"].get(name, 0)}
            for name, n in bias["swapped"].items()
        ]
        parts += [render(Table.of(rows), "html"), render(Table.of(bias["flips"]), "html")]
    return "".join(parts)
