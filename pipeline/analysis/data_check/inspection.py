"""The two inspections: of every row for ``tunewright check``, of the split rows for a sweep."""

from __future__ import annotations

from collections import Counter

from pipeline.analysis.data_check.corpus import Corpus
from pipeline.analysis.data_check.duplicates import duplicate_findings
from pipeline.analysis.data_check.files import file_findings
from pipeline.analysis.data_check.labels import RARE, label_findings, label_table, spellings
from pipeline.analysis.data_check.report import DataReport, Finding, error_findings
from pipeline.analysis.data_check.texts import language_findings, script_findings, text_findings
from pipeline.analysis.data_check.tokens import token_findings
from pipeline.analysis.preflight import check_inputs, check_settings
from pipeline.common.errors import DataError, TunewrightError
from pipeline.common.tables import Cell, Table
from pipeline.config.experiment import Experiment
from pipeline.data import Splits, Targets, count_labels, load_splits, read_split
from pipeline.data.sources import SPLITS
from pipeline.evaluation.names import is_detail
from pipeline.tasks.objective import objectives
from pipeline.training.prepare import shape_of, splits_of, task_of

FOLDS = 5
MOST_JUDGED = 50_000  # rows searched for label issues; more take minutes
_SCORES = ("accuracy", "f1_macro")  # of baselines that are compared


def inspect_data(experiment: Experiment) -> DataReport:
    """Inspect every row that the config names, those of a test file and their tokens included.

    Raises:
        ConfigError: for settings that no rows could fit.
        ModelError: for a model that does not exist or cannot do the task.
    """
    shape = shape_of(experiment)
    refused: dict[str, list[DataError]] = {split: [] for split in SPLITS}
    read = {
        split: read_split(experiment.data, shape, split, refused[split].append) for split in SPLITS
    }
    found = {split: rows for split, rows in read.items() if rows is not None}
    errors = list(dict.fromkeys(str(e) for some in refused.values() for e in some))
    splits: Splits | None = None
    if not errors:
        try:
            check_settings(experiment)
            check_inputs(experiment)
            splits = load_splits(experiment.data, shape, with_test=True)
        except TunewrightError as error:
            errors.append(str(error))
    findings = error_findings(errors)
    findings += file_findings(experiment.data, found, refused)
    if not found:
        return DataReport(findings)
    corpus = Corpus(splits.by_name if splits else found)
    tokens, odd = Table((), ()), list[Finding]()  # a service's tokenizer is not known here
    if not experiment.hosted:
        first = next(iter(found.values()))
        targets = Targets(count_labels(list(found.values())), shape.moments(first))
        tokens, odd = token_findings(experiment, found, targets)
    findings += [
        *_findings(corpus, splits),
        *language_findings(corpus),
        *odd,
        *_label_issues(corpus),
    ]
    judged = None if experiment.hosted else splits
    scores = _baselines(experiment, judged) if judged else Table((), ())
    return DataReport(
        list(dict.fromkeys(findings)),
        tokens,
        label_table(corpus, are_split=splits is not None),
        scores,
    )


def inspect_splits(experiment: Experiment) -> DataReport:
    """Inspect the rows that a run trains on and is evaluated on, in their splits.

    Raises:
        DataError: for rows that cannot be read, labelled or split.
    """
    splits = splits_of(experiment)
    corpus = Corpus(splits.by_name)
    findings = [*file_findings(experiment.data, splits.by_name, {}), *_findings(corpus, splits)]
    return DataReport(list(dict.fromkeys(findings)), labels=label_table(corpus))


def _findings(corpus: Corpus, splits: Splits | None) -> list[Finding]:
    warnings = splits.warnings if splits else ()
    return [
        *(Finding("warning", "row", warning) for warning in warnings),
        *label_findings(corpus),
        *duplicate_findings(corpus),
        *text_findings(corpus),
        *script_findings(corpus),
    ]


def _baselines(experiment: Experiment, splits: Splits) -> Table:
    """Return the validation scores of baselines without a language model."""
    task = task_of(experiment)
    rows = {task.baseline_name: task.baseline(splits.train, splits.validation)}
    if splits.train.shape.has_one_label:
        from pipeline.evaluation.baselines import tfidf_predictions
        from pipeline.evaluation.metrics import classification_scores

        train, judged = splits.train, splits.validation
        answers = tfidf_predictions(train.groups, train["label"], judged.groups)
        rows["tfidf"] = classification_scores(answers, judged["label"], list(splits.targets.counts))
    known = rows[task.baseline_name]
    names = [name for name in _SCORES if name in known] or [n for n in known if not is_detail(n)]
    goal = objectives(experiment)[0].name
    names = [goal, *names] if goal in known and goal not in names else names
    lines: list[list[Cell]] = [
        [kind, *(round(scores[name], 4) for name in names)] for kind, scores in rows.items()
    ]
    return Table(("baseline", *(f"val/{name}" for name in names)), lines)


def _label_issues(corpus: Corpus) -> list[Finding]:
    """Find labels that a bag of words, trained on the other rows, is confident are wrong."""
    rows = corpus.splits.get("train")
    if rows is None or not rows.shape.has_one_label:
        return []
    from pipeline.evaluation.baselines import out_of_fold
    from pipeline.evaluation.label_errors import confident_learning

    usual = spellings(corpus)
    some = range(0, len(rows), -(-len(rows) // MOST_JUDGED))
    given = {i: usual.get(rows["label"][i], rows["label"][i]) for i in some}
    counts = Counter(given.values())
    judged = [i for i in some if counts[given[i]] >= RARE]
    labels, names = [given[i] for i in judged], sorted({given[i] for i in judged})
    if len(names) < 2:
        return []
    texts = [rows.groups[i] for i in judged]
    found = confident_learning(out_of_fold(texts, labels, names, FOLDS), labels, names)
    if not found.ranked:
        return []
    first = found.ranked[0]
    ids = [[rows.ids[judged[issue.position]]] for issue in found.ranked]
    message = (
        f"train: a bag of words trained on the other rows prefers another label for {len(ids)} of "
        f"{len(judged)} rows, and about {found.estimate} labels look wrong; the clearest is "
        f"{ids[0][0]}, labelled {first.given!r}, predicted {first.suggested!r}"
    )
    return [Finding.about("note", "label issue", message, ids)]
