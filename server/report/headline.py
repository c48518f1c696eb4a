"""The headline of the report, and the few numbers below it."""

from collections.abc import Mapping
from typing import Literal

from common.report import page
from common.report.formatting import METRICS, capitalised, format_bytes, format_epsilon, format_metric, format_value
from common.report.html import Html, tag
from common.report.records import Baseline
from server.report.run_files import RunFiles

__all__ = ["alone", "figures", "final_metrics", "headline", "total_bytes"]

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
        if run.result.epsilon_alone:
            most = format_epsilon(max(run.result.epsilon_alone.values()))
            words += f", under the assumption of secure aggregation, and {most} if the hub and all others work together"
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
    shown.append((named, format_epsilon(run.largest_epsilon)))
    if run.result.epsilon_alone:
        shown.append(("Without the noise of others", format_epsilon(max(run.result.epsilon_alone.values()))))
    shown.append(("δ", format_value(run.result.delta)))
    shown += [
        ("Sent up", format_bytes(total_bytes(run, "bytes_up"))),
        ("Sent down", format_bytes(total_bytes(run, "bytes_down"))),
    ]
    return page.figures(shown)
