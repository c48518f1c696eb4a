"""The section of the report on utility: metrics by round, by institution and beside the baselines."""

from common.report import page
from common.report.by_institution import describe_behind, describe_losers, describe_say, describe_spreads
from common.report.formatting import METRICS, capitalised, format_epsilon, format_metric
from common.report.html import Child, Html, join, table, tag
from common.report.plots import Bar, Line, Reference, bars, grouped_bars, line_plot
from common.report.records import Baseline, RoundRecord
from server.report.headline import alone, final_metrics
from server.report.run_files import RunFiles

__all__ = ["utility"]


def utility(run: RunFiles) -> Html:
    """Return the section on metrics by round and by institution, with the baselines."""
    evaluated = [r for r in run.rounds if r.metrics]
    present = [name for name in METRICS if any(name in (r.metrics or {}) for r in evaluated)]
    present = present or sorted({name for r in evaluated for name in r.metrics or {}})
    lines = [
        Line(METRICS.get(m, m), tuple((r.round, r.metrics[m]) for r in evaluated if r.metrics and m in r.metrics))
        for m in present
    ]
    rivals = [row.accuracy for row in alone(run) if row.accuracy is not None] if "accuracy" in present else []
    reference = [Reference("accuracy, best alone", max(rivals))] if rivals else []
    by_round = line_plot(lines, "Metrics of the global model by round", "round", reference)
    last = next((r for r in reversed(run.rounds) if r.by_institution), None)
    return join(
        tag("h2", "Utility", id="utility"),
        page.figure("Global model on the hub's test set, after each round", by_round)
        or tag("p", "No round was evaluated.", class_="note"),
        _by_institution(last, present[:2]) if last else None,
        _own_rows(run),
        _baselines(run),
    )


def _by_institution(last: RoundRecord, metrics: list[str]) -> Html:
    groups = [
        (name, [Bar(f"{name}, {METRICS.get(m, m)}", values[m]) for m in metrics if m in values])
        for name, values in sorted((last.by_institution or {}).items())
    ]
    plot = grouped_bars(groups, [METRICS.get(m, m) for m in metrics], "Metrics by institution")
    return page.figure(f"Global model on each institution's test rows, after round {last.round}", plot)


_MODELS = {"alone": "alone", "shared": "global model", "personal": "personal model"}


def _own_rows(run: RunFiles) -> Html | None:
    """Return the share, the epsilon and the metric of each institution on its own test rows, and who loses or has
    little say.
    """
    institutions = run.result.institutions
    if not institutions:
        return None
    models = [model for model in _MODELS if any(getattr(each, model) for each in institutions)]
    names = [*METRICS, "perplexity"]
    metric = next((m for m in names if any(m in getattr(each, model) for each in institutions for model in models)), "")
    rows: list[list[Child]] = []
    for each in institutions:
        share = "–" if each.share is None else f"{each.share:.3f}"
        values = [format_metric(getattr(each, model).get(metric)) for model in models]
        said = [*(["little say"] if each.name in run.result.little_say else [])]
        said += [describe_behind(each.behind)] if each.behind else []
        rows.append([each.name, share, format_epsilon(each.epsilon), *values, ", ".join(said)])
    columns = ["Institution", "Share", "ε", *(capitalised(_MODELS[model]) for model in models), ""]
    caption = (
        "Share: mean share in the weights of the rounds. Little say: below a tenth of an equal share. "
        f"{capitalised(METRICS.get(metric, metric))} on the institution's own test rows. An institution ends with its "
        "personal model, or with the global one if it has none. The last column says so if that is more than half a "
        "point below the model that it trains alone with the same privacy, or below the global one."
        if models
        else "Share: mean share in the weights of the rounds. Little say: below a tenth of an equal share. "
        "The hub has no test rows of single institutions, so each institution sees its own figures, inside."
    )
    groups = [
        (
            each.name,
            [Bar(f"{each.name}, {_MODELS[m]}", getattr(each, m)[metric]) for m in models if metric in getattr(each, m)],
        )
        for each in institutions
    ]
    plotted = len(models) > 1 and metric in METRICS
    plot = grouped_bars(groups, [_MODELS[m] for m in models], "Models by institution") if plotted else None
    warnings = [describe_say(run.result.little_say), describe_losers(institutions)]
    return join(
        tag("h3", "By institution"),
        *(
            tag("p", capitalised(line) + ".", class_="note")
            for line in (*describe_spreads(run.result), *warnings)
            if line
        ),
        table(columns, rows, caption, words=1),
        page.figure("Each institution's own test rows", plot) if plot is not None else None,
    )


def _baselines(run: RunFiles) -> Html:
    """Return all comparisons in one table, with the federation last and marked."""
    metrics = final_metrics(run)
    if not run.result.baselines:
        return tag("p", "No baselines were computed for this run.", class_="note")
    own = Baseline(
        name="federation",
        accuracy=metrics.get("accuracy"),
        weighted_f1=metrics.get("weighted_f1"),
        epsilon=run.largest_epsilon,
        note=f"all {len(run.institutions)} institutions, adapters only",
    )
    rows = [*run.result.baselines, own]
    body: list[list[Child]] = [
        [row.name, row.note, format_metric(row.accuracy), format_metric(row.weighted_f1), _protection(row)]
        for row in rows
    ]
    protected = "ε is that of the training rows, at the δ of the run; “none”: no differential privacy."
    if run.unprotected:
        protected += " The noise had a fixed seed: these ε protect nobody."
    seen = [Bar(row.name, row.accuracy, row is own) for row in rows if row.accuracy is not None]
    return join(
        tag("h3", "What it is compared with"),
        table(["Model", "", "Accuracy", "Weighted F1", "ε"], body, protected, words=2, marked=(len(rows) - 1,)),
        page.figure(
            "Accuracy on the hub's test set", bars(seen, "Accuracy of the federation and of what it is compared with")
        ),
    )


def _protection(row: Baseline) -> str:
    return "none" if row.epsilon is None else format_epsilon(row.epsilon)
