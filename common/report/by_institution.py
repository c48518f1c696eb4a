"""Figures by institution: the mean over institutions, the worst one, and each one's share in the weights.

A figure over all rows is the figure of the largest institutions. It hides a member that ends worse than alone.
"""

from collections.abc import Mapping, Sequence

from common.report.formatting import METRICS, format_metric, join_names
from common.report.records import InstitutionFigures, ResultRecord, RoundRecord, Spread

__all__ = [
    "describe_behind",
    "describe_losers",
    "describe_say",
    "describe_spreads",
    "differences_behind",
    "figures_by_institution",
    "has_little_say",
    "little_say",
    "losers",
    "mean_shares",
    "spread",
    "spreads",
]

_LITTLE = 0.1
"""An institution has little say if its share in the weights is below this part of an equal share."""
_HALF_A_POINT = 0.005
_LOWER_IS_BETTER = ("perplexity",)


def mean_shares(rounds: Sequence[RoundRecord]) -> dict[str, float]:
    """Return each institution's mean share in the weights of the finished rounds. A round without it counts as 0."""
    weighted = [record.weights for record in rounds if record.weights]
    names = sorted({name for weights in weighted for name in weights})
    return {name: sum(weights.get(name, 0.0) for weights in weighted) / len(weighted) for name in names}


def has_little_say(share: float, members: int) -> bool:
    """Return whether a share in the weights is below a tenth of an equal one.

    >>> has_little_say(0.004, 3), has_little_say(0.059, 3)
    (True, False)
    """
    return share * members < _LITTLE


def little_say(shares: Mapping[str, float]) -> tuple[str, ...]:
    """Return the institutions whose share in the weights is below a tenth of an equal one, by name."""
    return tuple(sorted(name for name, share in shares.items() if has_little_say(share, len(shares))))


def spread(by_institution: Mapping[str, Mapping[str, float]]) -> Spread | None:
    """Return the mean over institutions and the worst of them, in the first metric that all of them have.

    Args:
        by_institution: Metrics of each institution's own test rows, by its name.

    Returns:
        None if there are fewer than two institutions, or no metric that all have.

    >>> spread({"a": {"accuracy": 0.8}, "b": {"accuracy": 0.4}})
    Spread(metric='accuracy', mean=0.6000000000000001, worst=0.4, institution='b')
    """
    metric = next((m for m in (*METRICS, *_LOWER_IS_BETTER) if all(m in v for v in by_institution.values())), None)
    if len(by_institution) < 2 or metric is None:
        return None
    values = {name: metrics[metric] for name, metrics in sorted(by_institution.items())}
    worst = (max if metric in _LOWER_IS_BETTER else min)(values, key=values.__getitem__)
    return Spread(metric=metric, mean=sum(values.values()) / len(values), worst=values[worst], institution=worst)


def figures_by_institution(
    rounds: Sequence[RoundRecord],
    epsilon: Mapping[str, float | None],
    alone: Mapping[str, Mapping[str, float]],
    personal: Mapping[str, Mapping[str, float]],
) -> tuple[InstitutionFigures, ...]:
    """Return the figures of each institution of a finished run, by name.

    Args:
        rounds: Records of the finished rounds, oldest first.
        epsilon: Of each institution over this run. None without privacy.
        alone: Metrics of each institution's model trained alone. Empty if none was trained.
        personal: Metrics of each institution's personal model. Empty without one.
    """
    shares = mean_shares(rounds)
    shared = next((r.by_institution for r in reversed(rounds) if r.by_institution), {})
    figures: list[InstitutionFigures] = []
    for name in sorted({*shares, *epsilon, *personal}):
        models = {"alone": alone.get(name, {}), "shared": shared.get(name, {})}
        own = personal.get(name, {})
        behind = differences_behind(own or models["shared"], models)
        found = InstitutionFigures(
            name=name, share=shares.get(name), epsilon=epsilon.get(name), personal=own, behind=behind, **models
        )
        figures.append(found)
    return tuple(figures)


def spreads(institutions: Sequence[InstitutionFigures]) -> dict[str, Spread]:
    """Return the spread over institutions of each model that all of them have: "shared", "alone" and "personal"."""
    found: dict[str, Spread] = {}
    for model in ("shared", "alone", "personal"):
        each = spread({figures.name: getattr(figures, model) for figures in institutions})
        if each is not None:
            found[model] = each
    return found


def differences_behind(ends: Mapping[str, float], models: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return by how much an institution ends below each model that is more than half a point better.

    Args:
        ends: Metrics of the model that the institution ends with, on its own test rows.
        models: Metrics of other models on the same rows.

    Returns:
        The difference in the first metric that both models have, by the name of the other model.

    >>> differences_behind({"accuracy": 0.75}, {"alone": {"accuracy": 0.875}, "shared": {"accuracy": 0.754}})
    {'alone': 0.125}
    """
    behind: dict[str, float] = {}
    for name, metrics in models.items():
        metric = next((m for m in METRICS if m in ends and m in metrics), None)
        if metric is not None and ends[metric] < metrics[metric] - _HALF_A_POINT:
            behind[name] = metrics[metric] - ends[metric]
    return behind


def losers(institutions: Sequence[InstitutionFigures]) -> tuple[str, ...]:
    """Return the institutions that end behind the model that they train alone or behind the global one, by name."""
    return tuple(sorted(figures.name for figures in institutions if figures.behind))


_MODELS = {"shared": "global model", "alone": "each alone", "personal": "personal models"}
_BEHIND = {"alone": "alone", "shared": "the global model"}


def describe_spreads(result: ResultRecord) -> list[str]:
    """Return one sentence for each model: the metric over all rows, the mean over institutions, and the worst one."""
    lines: list[str] = []
    for model, each in result.over_institutions.items():
        whole = f"{format_metric(result.metrics[each.metric])} over all rows, " if model == "shared" else ""
        lines.append(
            f"{_MODELS[model]}, {METRICS.get(each.metric, each.metric)}: {whole}{format_metric(each.mean)} mean over "
            f"institutions, {format_metric(each.worst)} at the worst ({each.institution})"
        )
    return lines


def describe_say(names: Sequence[str]) -> str:
    """Return the warning about institutions with little say. Empty if there are none."""
    if not names:
        return ""
    have = "has" if len(names) == 1 else "have"
    return (
        f"{join_names(names)} {have} less than a tenth of an equal share in the weights, and spend as much privacy as "
        "the others: see aggregation.weighting"
    )


def describe_behind(behind: Mapping[str, float]) -> str:
    """Return how many points an institution ends below which model. Empty if it is behind none.

    >>> describe_behind({"alone": 0.125, "shared": 0.0101})
    '12.5 points below alone and 1.0 below the global model'
    """
    points = [f"{difference * 100:.1f}" for difference in behind.values()]
    said = [f"{each} below {_BEHIND.get(name, name)}" for each, name in zip(points, behind, strict=True)]
    return " and ".join(said).replace(" below", " points below", 1)


def describe_losers(institutions: Sequence[InstitutionFigures]) -> str:
    """Return the sentence about institutions that end behind a model that they could have had. Empty without any."""
    worse = [f"{figures.name} ({describe_behind(figures.behind)})" for figures in institutions if figures.behind]
    return f"worse off, on its own test rows: {join_names(worse)}" if worse else ""
