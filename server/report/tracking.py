"""The hub's record of a run as values: rounds, summary and recommendations, from what the hub may see.

It holds metrics on the hub's test set, sizes, times and each institution's own epsilon. It holds no loss, no step and
no number of rows of an institution. Those stay in the institution's own record (`client.tracking.rounds`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.report.formatting import METRICS
from common.report.html import Html, join, table, tag
from common.report.records import RoundRecord
from server.report.run_files import RunFiles

__all__ = ["Advice", "advice_section", "advise", "tracker_record"]

_LEADING = ("entity_f1", "high_risk_macro_f1", "weighted_f1", "macro_f1", "accuracy", "perplexity")
_GAIN = 0.005
_VERSION = 1


@dataclass(frozen=True)
class Advice:
    """One recommended change of the run's file, with the reason and its numbers."""

    action: str
    advice: str
    because: str


def tracker_record(run: RunFiles) -> dict[str, Any]:
    """Return the content of the hub's `tracker.json`."""
    rounds = [record for record in run.rounds if record.contributed]
    name, values = _measured(rounds)
    best = _best(name, values)
    return {
        "version": _VERSION,
        "side": "hub",
        "run": run.run_id,
        "rounds": [
            {
                "round": record.round,
                "asked": len(record.asked),
                "contributed": len(record.contributed),
                "metrics": record.metrics,
                "epsilon": dict(record.epsilon),
                "bytes_up": record.bytes_up,
                "bytes_down": record.bytes_down,
                "seconds": record.seconds,
            }
            for record in run.rounds
        ],
        "summary": {
            "rounds": len(rounds),
            "metric": name,
            "best_round": best[0] if best else None,
            "best_value": best[1] if best else None,
            "seconds": round(sum(record.seconds for record in run.rounds), 3),
            "bytes_up": sum(record.bytes_up for record in run.rounds),
            "bytes_down": sum(record.bytes_down for record in run.rounds),
            "parameters_trained": run.result.parameters_trained,
            "parameters_total": run.result.parameters_total,
        },
        "recommendations": [asdict(each) for each in advise(run)],
    }


def advise(run: RunFiles) -> tuple[Advice, ...]:
    """Return recommendations for the next run, from the metrics of the rounds on the hub's test set."""
    rounds = [record for record in run.rounds if record.contributed]
    name, values = _measured(rounds)
    best = _best(name, values)
    if best is None or len(values) < 2:
        return ()
    number, value = best
    last, before = values[-1], values[-2]
    sign = -1 if name == "perplexity" else 1
    shown = METRICS.get(name, name.replace("_", " "))
    scale = abs(value) if name == "perplexity" else 1.0
    if number == last[0] and sign * (last[1] - before[1]) >= _GAIN * scale:
        gained = abs(last[1] - before[1])
        why = f"round {last[0]}, the last, still improved {shown} by {gained:.3f}"
        return (Advice("more_rounds", f"run.rounds = {2 * last[0]}", why),)
    if number <= 0.6 * last[0] and last[0] - number >= 2 and sign * (value - last[1]) >= _GAIN * scale:
        why = f"{shown} was best after round {number} of {last[0]}, and {abs(value - last[1]):.3f} worse at the end"
        return (Advice("fewer_rounds", f"run.rounds = {number}", why),)
    return ()


def advice_section(run: RunFiles) -> Html:
    """Return the recommendations as part of the page. Empty if there are none."""
    rows: list[list[str | int | None]] = [
        [tag("code", each.advice), f"{each.because[:1].upper()}{each.because[1:]}."] for each in advise(run)
    ]
    return join(tag("h3", "What to change"), table(["In the run's file", "Because"], rows)) if rows else join()


def _measured(rounds: Sequence[RoundRecord]) -> tuple[str, list[tuple[int, float]]]:
    """Return the name of the leading metric, and its value after each evaluated round."""
    found = [record for record in rounds if record.metrics]
    name = next((each for each in _LEADING if found and each in (found[-1].metrics or {})), "")
    return name, [(r.round, r.metrics[name]) for r in found if r.metrics and name in r.metrics]


def _best(name: str, values: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    if not values:
        return None
    return (min if name == "perplexity" else max)(values, key=lambda each: each[1])
