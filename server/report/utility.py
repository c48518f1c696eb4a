"""The headline of the report, and its sections on the run, on utility and on participation."""

from collections.abc import Mapping
from typing import Any, Literal

from common.protocol.outcomes import explain_outcome
from common.report import page
from common.report.by_institution import describe_losers, describe_say, describe_spreads
from common.report.formatting import (
    METRICS,
    capitalised,
    format_bytes,
    format_count,
    format_epsilon,
    format_metric,
    format_value,
    join_names,
)
from common.report.html import Child, Html, join, table, tag
from common.report.plots import Bar, Line, Reference, bars, grouped_bars, line_plot
from common.report.records import Baseline, RoundRecord
from server.report.run_files import RunFiles

__all__ = ["figures", "headline", "participation", "utility", "what_was_run"]


_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


def final_metrics(run: RunFiles) -> Mapping[str, float]:
    """Return the metrics of the global model: those of the result, else those of the last evaluated round."""
    last: Mapping[str, float] = next((r.metrics for r in reversed(run.rounds) if r.metrics), {})
    return {**last, **{name: value for name, value in run.result.metrics.items() if name in METRICS}}


def total_bytes(run: RunFiles, direction: Literal["bytes_up", "bytes_down"]) -> float | None:
    """Return the bytes of all rounds, from the result or else from the history. None if there is neither."""
    stated: int | None = getattr(run.result, direction)
    if stated is not None:
        return stated
    return sum(getattr(record, direction) for record in run.rounds) if run.rounds else None


def alone(run: RunFiles) -> list[Baseline]:
    """Return the baselines in which one institution trained without the others."""
    names = {f"{name} alone" for name in run.institutions}
    return [row for row in run.result.baselines if row.name in names]


def headline(run: RunFiles) -> Html:
    """Return the result in one sentence."""
    metrics, spent = final_metrics(run), run.largest_epsilon
    rounds, people = len(run.rounds) or run.result.rounds or 0, len(run.institutions)
    who = f"{_NUMBERS[people] if people < len(_NUMBERS) else people} institution{'s' if people != 1 else ''}"
    if not metrics:
        return tag("p", f"{who}, {rounds} rounds. The global model has not been evaluated.", class_="headline")
    best_name = next((name for name in METRICS if name in metrics), sorted(metrics)[0])
    value = metrics[best_name]
    words = f"{who}{' together' if people > 1 else ''} reached {value * 100:.1f} % {METRICS.get(best_name, best_name)}"
    words += " on the hub's test set"
    words += f" after {rounds:.0f} round{'s' if rounds != 1 else ''}"
    rivals: dict[str, float] = {}
    for row in alone(run):
        if (rival := getattr(row, best_name, None)) is not None:
            rivals[row.name.removesuffix(" alone")] = rival
    if rivals:
        best, figure = max(rivals.items(), key=lambda entry: entry[1])
        points = (value - figure) * 100
        side = "above" if points >= 0 else "below"
        words += f", {abs(points):.1f} points {side} the best of them alone ({best}, {figure * 100:.1f} %)"
    if run.without_privacy:
        words += ", without differential privacy"
    elif run.unprotected:
        words += ", with noise from a fixed seed, so that no record is protected"
    elif spent is None:
        words += ", and no ε was reported"
    else:
        delta = format_value(run.result.delta)
        words += f", and no institution's ε exceeded {format_epsilon(spent)} for one record, at δ = {delta}"
    over = run.result.over_institutions.get("shared")
    if over is not None:
        words += (
            f". Over institutions, each on its own test rows, the mean is {format_metric(over.mean)} and the worst is "
            f"{format_metric(over.worst)} ({over.institution})"
        )
    return tag("p", words + ".", class_="headline")


def figures(run: RunFiles) -> Html:
    """Return the few numbers that readers look for first."""
    metrics = final_metrics(run)
    shown = [(capitalised(METRICS[name]), format_metric(metrics[name])) for name in METRICS if name in metrics][:3]
    named = "ε, were noise real" if run.unprotected else "Largest ε"
    shown += [(named, format_epsilon(run.largest_epsilon)), ("δ", format_value(run.result.delta))]
    shown += [
        ("Sent up", format_bytes(total_bytes(run, "bytes_up"))),
        ("Sent down", format_bytes(total_bytes(run, "bytes_down"))),
    ]
    return page.figures(shown)


def what_was_run(run: RunFiles) -> Html:
    """Return the section on model, task, adapter, training and versions, in the words of the configuration."""
    part = {name: run.config[name] if isinstance(run.config.get(name), dict) else {} for name in
            ("model", "adapter", "training", "privacy", "aggregation")}  # fmt: skip
    model, adapter = part["model"], part["adapter"]
    rank = (
        f"LoRA, rank {format_value(adapter.get('rank'))}, alpha {format_value(adapter.get('alpha'))}"
        if adapter.get("rank")
        else ""
    )
    modules = (
        f"on {format_value(adapter.get('target_modules'))}, layers {format_value(adapter.get('layers'))}"
        if rank
        else ""
    )
    trained = {"B": "B trained, A frozen from the run's seed", "AB": "A and B trained"}.get(
        str(adapter.get("trained_factors") or adapter.get("train")), ""
    )
    if adapter.get("layers") == "none":
        rank, modules, trained = "the head alone, no LoRA", "", ""
    parameters, whole = run.result.parameters_trained, run.result.parameters_total
    share = f" of {format_count(whole)} ({parameters / whole:.2%})" if parameters and whole else ""
    rows = [
        ("Task", format_value(run.result.task or run.config.get("task"))),
        ("Labels", format_value(run.result.labels or run.config.get("labels"))),
        ("Institutions", join_names([_named(run, name) for name in run.institutions])),
        ("Data", " ".join(run.notes)),
        (
            "Base model",
            "; ".join(v for k, v in ((0, format_value(model.get("base"))), (1, _pooling(model))) if v not in {"", "–"}),
        ),
        ("Adapter", "; ".join(v for v in (rank, modules, trained) if v)),
        ("Parameters trained", f"{format_count(parameters)}{share}"),
        *((name.capitalize(), _settings(part[name])) for name in ("training", "privacy", "aggregation")),
        ("Seed", format_value(run.config.get("seed"))),
        ("Engine", format_value(run.result.engine)),
        ("Time in rounds", f"{run.result.seconds:.0f} s" if run.result.seconds is not None else ""),
        ("Versions", ", ".join(f"{name} {format_value(value)}" for name, value in run.versions.items())),
    ]
    return join(tag("h2", "What was run", id="run"), page.facts(rows))


def _named(run: RunFiles, name: str) -> str:
    """Return the name of an institution, with its name in the data if that is another."""
    return f"{name} ({run.names[name]})" if name in run.names else name


def _pooling(model: Mapping[str, Any]) -> str:
    words = [f"{format_value(model['pooling'])} pooling"] if model.get("pooling") else []
    words += [f"{format_value(model['max_tokens'])} tokens at most"] if model.get("max_tokens") else []
    return "; ".join([*words, *([format_value(model["dtype"])] if model.get("dtype") else [])])


def _settings(values: Mapping[str, Any]) -> str:
    named = ((key.replace("_", " "), value) for key, value in values.items() if value is not None)
    return ", ".join(f"{name} {format_value(value)}" for name, value in named)


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
        or _nothing("No round was evaluated."),
        _by_institution(last, present[:2]) if last else None,
        _own_rows(run),
        _baselines(run),
    )


def _nothing(words: str) -> Html:
    return tag("p", words, class_="note")


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
        said += ["worse than alone"] if each.name in run.result.losers else []
        rows.append([each.name, share, format_epsilon(each.epsilon), *values, ", ".join(said)])
    columns = ["Institution", "Share", "ε", *(capitalised(_MODELS[model]) for model in models), ""]
    caption = (
        "Share: mean share in the weights of the rounds. Little say: below a tenth of an equal share. "
        f"{capitalised(METRICS.get(metric, metric))} on the institution's own test rows. Worse than alone: more than "
        "half a point below the model that it trains alone with the same privacy."
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
    warnings = [describe_say(run.result.little_say), describe_losers(run.result.losers)]
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
        return _nothing("No baselines were computed for this run.")
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


def participation(run: RunFiles) -> Html:
    """Return the section on participation: who was asked, contributed or was refused, with bytes and seconds."""
    head = tag("h2", "Rounds", id="rounds")
    if not run.rounds:
        return join(head, _nothing("No history was found."))
    everyone = set(run.institutions)
    rows: list[list[Any]] = []
    codes: set[str] = set()
    for r in run.rounds:
        # An institution that answered without being asked has an outcome too.
        missing = {name: r.outcomes.get(name) or "no answer" for name in {*r.asked, *r.outcomes} - {*r.contributed}}
        codes |= set(missing.values())
        refused = tag("span", "; ".join(f"{n} {code}" for n, code in sorted(missing.items())), class_="refused")
        asked, contributed = _names(r.asked, everyone), _names(r.contributed, {*r.asked})
        if 4 < len(r.contributed) < len(r.asked):  # who is missing stands beside it
            contributed = f"{len(r.contributed)} of {len(r.asked)}"
        figures_ = [format_bytes(r.bytes_up), format_bytes(r.bytes_down), f"{r.seconds:.1f} s"]
        digest = tag("code", r.adapter_digest[:10], title=r.adapter_digest)
        rows.append([str(r.round), asked, contributed, refused if missing else "none", digest, *figures_])
    sums = [format_bytes(sum(getattr(r, key) for r in run.rounds)) for key in ("bytes_up", "bytes_down")]
    rows.append(["all", "", "", "", "", *sums, f"{sum(r.seconds for r in run.rounds):.1f} s"])
    meanings = [(code, explain_outcome(code)) for code in sorted(codes)]
    glossary = [join(tag("dt", tag("code", code)), tag("dd", words)) for code, words in meanings if words]
    columns = ["Round", "Asked", "Contributed", "Refused or absent", "Adapter", "Sent up", "Sent down", "Time"]
    caption = (
        "Sent up: from the institutions to the hub, sealed. Sent down: from the hub to them. "
        "Adapter: the global adapter's digest after the round."
    )
    return join(
        head,
        table(columns, rows, caption, words=5, marked=(len(rows) - 1,)),
        tag("dl", *glossary, class_="facts") if glossary else None,
    )


def _names(names: tuple[str, ...], everyone: set[str]) -> str:
    if not names:
        return "none"
    return f"all {len(names)}" if set(names) == everyone and len(names) > 1 else ", ".join(sorted(names))
