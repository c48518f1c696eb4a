"""A privacy statement in words: the same in the hub's report of a simulation and in an institution's own terminal."""

import math
from collections.abc import Mapping
from typing import Any

from common.report.formatting import format_count, format_epsilon, format_value, join_names

__all__ = ["paragraphs"]

_ADJACENCY = {"add-or-remove-one": "adding or removing one", "replace-one": "replacing one"}


def paragraphs(s: Mapping[str, Any]) -> list[str]:
    """The guarantee, the mechanism, its meaning to an attacker, against whom it holds, how it was computed.

    Facts that the statement lacks are left out. A run without privacy gives one sentence.
    """
    if s.get("epsilon_run") is None:
        return [
            f"No differential privacy. Batches: {format_value(s.get('sampler'))}. Nothing protects a single record."
        ]
    if not s.get("steps"):
        return ["Nothing of this run was trained here: nothing was spent."]
    return [_promise(s), _mechanism(s), *_curve(s), *_attack(s), *_groups(s), *_adversaries(s), _accounted(s)]


def _promise(s: Mapping[str, Any]) -> str:
    unit = format_value(s.get("unit"))
    adjacency = _ADJACENCY.get(str(s.get("adjacency")), format_value(s.get("adjacency")))
    words = (
        f"Protected is one {unit}: everything sent to the hub in this run is (ε, δ)-differentially private for "
        f"{adjacency} {unit}, with ε = {format_epsilon(s['epsilon_run'])} at δ = {format_value(s.get('delta'))}."
    )
    if s.get("delta_times_population") is not None:
        words += (
            f" There were {format_count(s.get('population'))} {unit}s: δ times their number is "
            f"{format_value(s['delta_times_population'])}."
        )
    return words


def _mechanism(s: Mapping[str, Any]) -> str:
    unit, probability = format_value(s.get("unit")), s.get("sampling_probability")
    drawn = f" with probability {format_value(probability)}" if probability is not None else ""
    others = len(s.get("mechanisms") or ()) - 1
    varied = f" (the last of {others + 1} settings that this run was trained with)" if others > 0 else ""
    return (
        f"In each of {format_count(s.get('steps'))} steps every {unit} was drawn independently{drawn} "
        f"({format_value(s.get('sampler'))} sampling); each drawn {unit}'s gradient over all trained parameters "
        f"was clipped "
        f"to norm {format_value(s.get('clipping_norm'))}; the sum got Gaussian noise of "
        f"{format_value(s.get('noise_multiplier'))} "
        f"times that norm{varied}. Source of the noise: {s.get('noise_source') or 'not stated'}."
        + (f" Assumed: {s['sampler_assumed']}." if s.get("sampler_assumed") else "")
        + (f" Implemented: {s['sampler_implemented']}." if s.get("sampler_implemented") else "")
    )


def _curve(s: Mapping[str, Any]) -> list[str]:
    points = [f"{format_epsilon(point['epsilon'])} at {point['delta']:.0e}" for point in s.get("curve") or ()]
    return [f"The same at other δ: ε = {join_names(points)}."] if points else []


def _attack(s: Mapping[str, Any]) -> list[str]:
    if not s.get("attack"):
        return []
    unit = format_value(s.get("unit"))
    hits = join_names([f"{_share(a['true_positive_rate'])} at {a['false_positive_rate']:.1%}" for a in s["attack"]])
    words = (
        f"Whoever tests whether one {unit} was among the data, knowing all others, finds it with probability at most "
        f"{hits} false alarms."
    )
    mu = s.get("gaussian_mu")
    if mu is not None and mu < float("inf"):
        words += (
            f" No test whose error rates are both at least δ does better than one that tells two normal distributions "
            f"{format_epsilon(mu)} standard deviations apart (μ, from the same proven bound)."
        )
    return [words]


def _share(value: float) -> str:
    """Percent at two decimals, rounded up."""
    return f"{math.ceil(round(value * 1e4, 6)) / 100:.2f}%"


def _groups(s: Mapping[str, Any]) -> list[str]:
    if not s.get("groups"):
        return []
    figures = join_names([f"{format_epsilon(g['epsilon'])} for {format_value(g['units'])}" for g in s["groups"]])
    return [f"Several {format_value(s.get('unit'))}s added or removed together, at the same δ: ε = {figures}."]


def _adversaries(s: Mapping[str, Any]) -> list[str]:
    return [
        f"Against {a['who']}: ε = {format_epsilon(a['epsilon_run'])} (all runs: "
        f"{format_epsilon(a['epsilon_all_runs'])}). "
        f"Seen: {a['sees']}."
        for a in s.get("adversaries") or ()
    ]


def _accounted(s: Mapping[str, Any]) -> str:
    words = f"Accountant: {format_value(s.get('accountant'))}."
    for key, name in (("epsilon_prv", "PRV"), ("epsilon_rdp", "RDP")):
        if s.get(key) is not None:
            words += f" Cross-check by {name}: {format_epsilon(s[key])}."
    if s.get("epsilon_cumulative") is not None:
        words += f" All runs in the ledger: ε = {format_epsilon(s['epsilon_cumulative'])}"
        words += f" ({format_count(s['ledger_entries'])} trainings)." if s.get("ledger_entries") is not None else "."
    if s.get("epsilon_of_limit_spent") is not None:
        words += (
            f" Of the officer's limit, {format_epsilon(s.get('max_epsilon'))} at δ = "
            f"{format_value(s.get('max_epsilon_delta'))}, "
            f"{format_epsilon(s['epsilon_of_limit_spent'])} is spent."
        )
    if s.get("steps_of_unfinished_trainings"):
        words += (
            f" {format_count(s['steps_of_unfinished_trainings'])} of the steps belong to trainings that never finished."
        )
    if s.get("data_fingerprints"):
        words += f" Keyed fingerprint of the data: {join_names([each[:16] for each in s['data_fingerprints']])}."
    return words
