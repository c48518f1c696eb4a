"""Write the record of a training as one HTML page without links: result, course, and recommendations."""

import statistics
from collections.abc import Callable, Sequence

from client.inspection.report import section
from client.tracking.advice import Recommendation
from client.tracking.history import History, Summary, summarise
from client.tracking.recommendations import recommend
from client.tracking.resources import Usage
from common.report.formatting import METRICS, capitalised, format_bytes, format_count, format_metric, format_value
from common.report.html import Html, join, table, tag
from common.report.page import facts, figure, figures, page
from common.report.plots import Line, line_plot

__all__ = ["render"]

_POINTS = 100
"""Most points of a plotted line. More would not be visible, and each carries its number."""


def render(track: History) -> str:
    """Return the page as text. Equal records give equal pages."""
    run, summary = track.run, summarise(track)
    tasks = " and ".join(str(name).replace("_", " ") for name in run.get("tasks", ()))
    return page(
        f"{tasks or 'training'}: fine-tuning report",
        _banner(track),
        tag("header", tag("p", "Fine-tuning report", class_="kind"), tag("h1", capitalised(tasks) or "Training")),
        figures(
            [
                *[(_named(name), format_metric(value)) for name, value in summary.figures.items() if _is_shown(name)][
                    :4
                ],
                ("Examples/s", f"{summary.examples_per_second:.3g}"),
                ("Peak memory", format_bytes(summary.peak_memory)),
            ]
        ),
        tag("main", _section(track), _rows(track), _what_was_run(track, summary)),
        tag("footer", "Made by fedfin from tracker.json; it holds nothing that that file does not."),
    )


def _section(track: History) -> Html:
    """Return the course of the training with plots and recommendations, as a section of a page."""
    summary, advice = summarise(track), recommend(track)
    steps = [step.step for step in track.steps]
    plotted = (
        ("Loss of each step", [step.loss for step in track.steps], "loss"),
        ("Learning rate", [step.learning_rate for step in track.steps], "rate"),
        ("Gradient norm, before clipping", [step.gradient_norm for step in track.steps], "norm"),
        ("Update size: norm of the change of all trained numbers", [step.update_norm for step in track.steps], "norm"),
    )
    return join(
        tag("h2", "How the training went", id="training"),
        tag("p", _course(summary)),
        *(figure(caption, _by_step(caption, name, steps, values)) for caption, values, name in plotted),
        figure("Validation rows, after each epoch", _by_epoch(track)),
        tag("h2", "What to change", id="advice"),
        _advice(advice),
        tag("h2", "What it took", id="resources"),
        facts(_resources(track, summary)),
        figure("Share of the processors used", _by_second(track.usage, "processors", lambda u: u.cpu)),
        figure("Memory, GB", _by_second(track.usage, "memory", lambda u: u.memory / 1e9)),
        figure("Share of the time the GPU was busy", _by_second(track.usage, "GPU", lambda u: u.gpu)),
    )


def _rows(track: History) -> Html:
    found = track.setting("inspection")
    return section(found) if found else Html("")


def _banner(track: History) -> Html:
    words = (
        "This page shows losses and figures of the institution's own rows, with no noise on them. "
        + ("The ε of the training covers its adapter, and does not cover this page. " if track.private else "")
        + "Do not pass it on."
    )
    return tag("div", tag("strong", "Stays inside the institution"), tag("p", words), class_="banner", role="note")


def _course(summary: Summary) -> str:
    words = f"{format_count(summary.steps)} steps in {summary.seconds:.0f} s."
    if summary.converged_step is not None:
        words += f" The loss had converged at step {format_count(summary.converged_step)}."
    if summary.best_validation is not None:
        words += f" The best {METRICS.get(summary.metric, summary.metric.replace('_', ' '))} on the held-out rows was "
        words += f"{summary.best_validation:.3f}."
    if summary.best_epoch is not None:
        words += f" Epoch {summary.best_epoch} of {summary.epochs} was kept."
    if summary.overfits:
        words += f" It overfitted: {summary.lost_since_best:.3f} was lost from there to the last epoch."
    return words


def _advice(advice: Sequence[Recommendation]) -> Html:
    if not advice:
        return tag("p", "Nothing: none of the figures asks for a change.")
    rows = [[tag("code", each.advice), f"{capitalised(each.because)}."] for each in advice]
    return table(["Change", "Because"], [list(row) for row in rows], words=2)


def _resources(track: History, summary: Summary) -> list[tuple[str, str]]:
    whole = summary.total_parameters
    share = f" of {format_count(whole)} ({summary.trainable_parameters / whole:.2%})" if whole else ""
    return [
        ("Parameters trained", f"{format_count(summary.trainable_parameters)}{share}"),
        (
            "Memory saved",
            f"{format_bytes(summary.memory_saved)} of gradients and optimiser state (computed)" if whole else "",
        ),
        ("Peak memory", f"{format_bytes(summary.peak_memory)} of {format_bytes(track.memory_limit)}"),
        ("Processors", f"{summary.cpu:.0%} used on average" if summary.cpu is not None else ""),
        ("GPU", f"busy {summary.gpu:.0%} of the time" if summary.gpu is not None else ""),
        ("Speed", f"{summary.examples_per_second:.3g} examples/s, {summary.tokens_per_second:.4g} tokens/s"),
        ("Time", f"{summary.seconds:.1f} s"),
    ]


def _what_was_run(track: History, summary: Summary) -> Html:
    run = track.run
    rows = [
        (name.replace("_", " ").capitalize(), format_value(run.get(name)))
        for name in ("base_model", "strategy", "method")
    ]
    settings = run.get("settings", {})
    rows += [
        (key.replace("_", " ").capitalize(), format_value(v)) for key, v in settings.items() if not isinstance(v, dict)
    ]
    privacy = run.get("privacy")
    rows += [(capitalised(key.replace("_", " ")), format_value(value)) for key, value in (privacy or {}).items()]
    if privacy is None:
        rows.append(("Privacy", "none: trained without differential privacy"))
    every = [[_named(name), format_metric(value)] for name, value in summary.figures.items()]
    return join(
        tag("h2", "On the test rows", id="test"),
        table(["Figure", "Value"], [list(row) for row in every]) if every else tag("p", "None were measured."),
        tag("h2", "What was run", id="run"),
        facts(rows),
    )


def _by_step(caption: str, name: str, steps: Sequence[int], values: Sequence[float | None]) -> Html:
    points = [(float(step), value) for step, value in zip(steps, values, strict=True) if value is not None]
    return line_plot([Line(name, _thinned(points))], caption, "step", from_zero=True, decimals=3)


def _by_epoch(track: History) -> Html:
    names = sorted({name for event in track.epochs for name in event.metrics})
    shown = [name for name in names if _is_shown(name)]
    lines = [
        Line(_named(name), tuple((e.epoch, e.metrics[name]) for e in track.epochs if name in e.metrics))
        for name in shown
    ]
    return line_plot(lines, "Validation figures by epoch", "epoch")


def _by_second(usage: Sequence[Usage], name: str, value: Callable[[Usage], float | None]) -> Html:
    points = [(round(u.seconds), found) for u in usage if (found := value(u)) is not None]
    return line_plot([Line(name, _thinned(points))], f"{capitalised(name)} by second", "second", from_zero=True)


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return at most `_POINTS` points: means of neighbouring points, each at the last of them."""
    size_ = -(-len(points) // _POINTS)
    groups = [points[start : start + size_] for start in range(0, len(points), size_ or 1)]
    return tuple((group[-1][0], statistics.fmean(y for _, y in group)) for group in groups)


def _is_shown(name: str) -> bool:
    return name.rpartition(".")[2] in METRICS


def _named(name: str) -> str:
    task, _, own = name.rpartition(".")
    words = METRICS.get(own, own.replace("_", " "))
    return capitalised(f"{task.replace('_', ' ')}: {words}" if task else words)
