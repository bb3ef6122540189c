"""The texts of the page: what was found, the best trials, and the failures."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from html import escape
from typing import Any

from optuna.trial import FrozenTrial

from pipeline.analysis.report.view import View, goal, short
from pipeline.common.html import note
from pipeline.common.tables import Cell, Table, render
from pipeline.search.space.dimension import encode
from pipeline.search.study.budget import seconds_of
from pipeline.search.study.trials import (
    COMMAND,
    REASON,
    REPEATS,
    RUN_ID,
    STAGE,
    all_params,
    is_run_again,
    kind_of_failure,
    score_texts,
    state_of,
    violation,
)

SHOWN_TRIALS = 10  # in the table of the best
MESSAGE = 600  # characters of a failure's message


def head(view: View) -> str:
    """Return the objectives, how many trials ended, and the best trial."""
    study, about = view.study, view.about
    goals = ", ".join(
        f"<strong>{escape(name)}</strong> ({goal(direction)})"
        for name, direction in zip(about.objectives, study.directions, strict=True)
    )
    counts = " · ".join(f"{count} {state}" for state, count in _counts(view).items())
    lines = [
        f"<header><p>study · {escape(about.state)}</p><h1>{escape(study.study_name)}</h1></header>",
        f"<p>{goals}<br>{len(view.over)} trials ended: {counts or 'none'}</p>",
    ]
    if not view.ranked:
        return "\n".join([*lines, "<p>No trial is complete.</p>"])
    best = view.ranked[0]
    known = all_params(best)
    params = [
        (escape(scale.key), f"<code>{escape(encode(known[scale.key]))}</code>")
        for scale in view.varying
        if scale.key in known
    ]
    facts = [
        *(
            (escape(n), f"<strong>{text}</strong>")
            for n, text in zip(about.objectives, score_texts(best, ".4g"), strict=True)
        ),
        *params,
        (
            f"MLflow run{_last_seed(best)}",
            f"<code>{escape(str(best.user_attrs.get(RUN_ID, 'none')))}</code>",
        ),
    ]
    by = ", by the objectives in their order" if len(about.objectives) > 1 else ""
    broken = " It violates its constraints, as all complete trials do." if violation(best) else ""
    broken += " Its run was deleted in MLflow." if about.best_is_lost else ""
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    lines.append(f"<h2>Best: trial {best.number}{by}</h2>{note(broken)}<dl>{rows}</dl>")
    return "\n".join(lines)


def _counts(view: View) -> dict[str, int]:
    states: Counter[str] = Counter(state_of(t) for t in view.trials)
    words = ("complete", "pruned", "failed", "running", "paused")
    counts = {**{state: states[state] for state in words}, "queued": states["waiting"]}
    counts["killed and run again"] = sum(map(is_run_again, view.trials))
    return {word: count for word, count in counts.items() if count}


def best_table(view: View) -> str:
    """Return the best trials as a table, each with its run and its command."""
    if not view.ranked:
        return ""
    shown = view.ranked[:SHOWN_TRIALS]
    broken = any(violation(t) for t in shown)
    # A long name may break after its dots, and so takes no more width than its values.
    keys = [escape(s.key).replace(".", ".<wbr>") for s in view.varying]
    has_stages = any(STAGE in t.user_attrs for t in shown)
    columns = ["trial", *["stage"] * has_stages, *(escape(n) for n in view.about.objectives), *keys]
    columns += ["violates"] if broken else []
    columns.append("run seconds")
    rows = []
    for trial in shown:
        cells = [encode(trial.user_attrs.get(STAGE))] if has_stages else []
        cells += score_texts(trial, ".4g")
        params = all_params(trial)
        cells += [_brief(params.get(s.key, "")) for s in view.varying]
        cells += [_broken(trial)] if broken else []
        cells.append(f"{seconds_of(trial):.1f}")
        row = "".join(f"<td>{escape(short(cell))}</td>" for cell in cells)
        lines = f"MLflow run {trial.user_attrs.get(RUN_ID, 'none')}", _command(trial)
        code = "<br>".join(f"<code>{escape(line)}</code>" for line in lines)
        again = f'<td></td><td colspan="{len(columns) - 1}"><div>{code}</div></td>'
        both = f'<tr><th>{trial.number}</th>{row}</tr><tr class="again">{again}</tr>'
        rows.append(f"<tbody>{both}</tbody>")
    titles = "".join(f"<th>{name}</th>" for name in columns)
    scope = f"The best {len(shown)} of" if len(shown) < len(view.ranked) else "All"
    caption = (
        f"{scope} the {len(view.ranked)} complete trials, with the parameters that vary. Below "
        f"each, its run{_last_seed(shown[0])} and the command to run it again."
    )
    table = f"<thead><tr>{titles}</tr></thead>{''.join(rows)}"
    return f'{note(caption)}<div class="wide"><table class="best">{table}</table></div>'


def _last_seed(trial: FrozenTrial) -> str:
    """Say of a trial's run that its scores are not the trial's, which are means."""
    return " of the last seed" if REPEATS in trial.user_attrs else ""


def _brief(value: Any) -> str:
    """Return a value in few digits: the command line has them all."""
    return f"{value:.4g}" if isinstance(value, float) else encode(value)


def _broken(trial: FrozenTrial) -> str:
    excess = {k: v for k, v in trial.constraints.items() if v > 0}
    return ", ".join(f"{name} by {value:.3g}" for name, value in excess.items())


def _command(trial: FrozenTrial) -> str:
    """Return the command that runs a trial again as it was run."""
    overrides = trial.user_attrs.get(COMMAND)
    if overrides is None:
        return "(its command was not recorded)"
    return f"tunewright train {shlex.join(overrides)}"


def failures(view: View) -> str:
    """Return the failures as a table, a row for each kind."""
    failed: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in view.trials:
        if state_of(trial) == "failed" or is_run_again(trial):
            again = " (run again)" if is_run_again(trial) else ""
            failed[(kind_of_failure(trial) or "unknown") + again].append(trial)
    if not failed:
        return note("No trial failed.")
    rows: list[list[Cell]] = [
        [kind, len(some), some[0].number, short(str(some[0].user_attrs.get(REASON, "")), MESSAGE)]
        for kind, some in sorted(failed.items(), key=lambda item: -len(item[1]))
    ]
    return render(Table(["reason", "trials", "first", "message of the first"], rows), "html")
