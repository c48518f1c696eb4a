"""A privacy statement in words: the same in the hub's report of a simulation and in an institution's own terminal."""

import math

from common.report.by_institution import has_little_say
from common.report.formatting import format_count, format_epsilon, format_value, join_names
from common.report.statement_record import StatementRecord

__all__ = ["paragraphs"]

_ADJACENCY = {"add-or-remove-one": "adding or removing one", "replace-one": "replacing one"}


def paragraphs(s: StatementRecord) -> list[str]:
    """Return the guarantee, the mechanism, its meaning to an attacker, its adversaries and its computation in words.

    Facts that the statement lacks are left out. A run without privacy gives one sentence.
    """
    if s.epsilon_run is None:
        return [f"No differential privacy. Batches: {format_value(s.sampler)}. Nothing protects a single record."]
    if not s.steps:
        return ["Nothing of this run was trained here: nothing was spent."]
    figures = [*_curve(s), *_attack(s), *_groups(s)]
    if s.honest is not None:
        figures = [f"Under the same assumption: {words[0].lower()}{words[1:]}" for words in figures]
    meaning = [*figures, *_adversaries(s), *_global_model(s)]
    return [_promise(s), *_say(s), *_parts(s), _mechanism(s), *meaning, _accounted(s)]


def _promise(s: StatementRecord) -> str:
    unit = format_value(s.unit)
    adjacency = _ADJACENCY.get(str(s.adjacency), format_value(s.adjacency))
    words = (
        f"Protected is one {unit}: everything sent to the hub in this run is (ε, δ)-differentially private for "
        f"{adjacency} {unit}, with ε = {format_epsilon(s.epsilon_run)} at δ = {format_value(s.delta)}."
    )
    if s.honest is not None:
        words = (
            f"Protected is one {unit}, under an assumption: the sums that the hub learns in this run are (ε, δ)-"
            f"differentially private for {adjacency} {unit}, with ε = {format_epsilon(s.epsilon_run)} at δ = "
            f"{format_value(s.delta)}, if {s.honest} institutions of each sum, this one among them, add their noise "
            f"and keep it to themselves. If the hub and all other institutions work together: ε = "
            f"{format_epsilon(s.epsilon_run_alone)}."
        )
    if s.delta_times_num_units is not None:
        words += (
            f" There were {format_count(s.num_units)} {unit}s: δ times their number is "
            f"{format_value(s.delta_times_num_units)}."
        )
    return words


def _say(s: StatementRecord) -> list[str]:
    """Return the share in the weights beside the cost, with a warning if it is below a tenth of an equal share."""
    if s.share is None or not s.members:
        return []
    words = (
        f"For this ε its adapters had a mean share of {s.share:.3f} in the weights of the run, by the hub's statement. "
        f"An equal share of {s.members} institutions is {1 / s.members:.3f}."
    )
    if has_little_say(s.share, s.members):
        words += " LITTLE SAY: the share is below a tenth of an equal one."
    return [words]


_PARTS = {
    "prior": "the bias of its labels, from label shares that were counted without noise",
    "head": "its task head, which the same steps trained under the same clip",
    "proximal": "its own adapter, which follows from the noised sums of the rounds and costs nothing further",
    "after": "its own adapter, trained further from the final global one",
}


def _parts(s: StatementRecord) -> list[str]:
    """Return the part that left and the part that stayed. Empty if all that was trained left."""
    if s.personal not in _PARTS:
        return []
    words = f"Left: the adapter of each round. Stayed inside: {_PARTS[s.personal]}."
    if s.personal_steps:
        words += f" {format_count(s.personal_steps)} of the steps below trained only the part that stayed."
    if not s.personal_noised:
        words += " NOT PRIVATE: the part that stayed has no noise and is not in this ε. Its model must not leave."
    return [words]


def _mechanism(s: StatementRecord) -> str:
    unit, probability = format_value(s.unit), s.sampling_probability
    drawn = f" with probability {format_value(probability)}" if probability is not None else ""
    others = len(s.mechanisms) - 1
    whose = (
        f", of which this institution adds 1 / √{s.honest} and {s.honest} honest ones the whole"
        if s.honest is not None
        else ""
    )
    varied = f" (the last of {others + 1} settings that this run was trained with)" if others > 0 else ""
    return (
        f"In each of {format_count(s.steps)} steps every {unit} was drawn independently{drawn} "
        f"({format_value(s.sampler)} sampling); each drawn {unit}'s gradient over all trained parameters "
        f"was clipped "
        f"to norm {format_value(s.clipping_norm)}; the sum got Gaussian noise of "
        f"{format_value(s.noise_multiplier)} "
        f"times that norm{whose}{varied}. Source of the noise: {s.noise_source or 'not stated'}."
        + (f" Assumed: {s.sampler_assumed}." if s.sampler_assumed else "")
        + (f" Implemented: {s.sampler_implemented}." if s.sampler_implemented else "")
    )


def _curve(s: StatementRecord) -> list[str]:
    points = [f"{format_epsilon(point.epsilon)} at {point.delta:.0e}" for point in s.curve]
    return [f"The same at other δ: ε = {join_names(points)}."] if points else []


def _attack(s: StatementRecord) -> list[str]:
    if not s.attack:
        return []
    unit = format_value(s.unit)
    hits = join_names([f"{_share(a.true_positive_rate)} at {a.false_positive_rate:.1%}" for a in s.attack])
    words = (
        f"Whoever tests whether one {unit} was among the data, knowing all others, finds it with probability at most "
        f"{hits} false alarms."
    )
    mu = s.gaussian_mu
    if mu is not None and mu < float("inf"):
        words += (
            f" No test whose error rates are both at least δ does better than one that tells two normal distributions "
            f"{format_epsilon(mu)} standard deviations apart (μ, from the same proven bound)."
        )
    return [words]


def _share(value: float) -> str:
    """Percent at two decimals, rounded up."""
    return f"{math.ceil(round(value * 1e4, 6)) / 100:.2f}%"


def _groups(s: StatementRecord) -> list[str]:
    if not s.groups:
        return []
    figures = join_names([f"{format_epsilon(g.epsilon)} for {format_value(g.units)}" for g in s.groups])
    return [f"Several {format_value(s.unit)}s added or removed together, at the same δ: ε = {figures}."]


def _adversaries(s: StatementRecord) -> list[str]:
    return [
        f"Against {a.name}: ε = {format_epsilon(a.epsilon_run)} (all runs: "
        f"{format_epsilon(a.epsilon_all_runs)}). "
        f"Seen: {a.sees}."
        for a in s.adversaries
    ]


def _global_model(s: StatementRecord) -> list[str]:
    if not s.global_model:
        return []
    figures = join_names([f"{format_epsilon(g.epsilon)} with {format_value(g.others)}" for g in s.global_model])
    words = (
        f"Against those who see only the global adapters, ε by the number of other institutions that added their "
        f"noise: {figures}."
    )
    if s.epsilon_global_model is not None:
        words += f" With the institutions that were combined in this run: ε = {format_epsilon(s.epsilon_global_model)}."
    assumed = " ".join(f"({number}) {text}." for number, text in enumerate(s.global_model_assumes, start=1))
    return [f"{words} Assumed: {assumed} Against the hub only this institution's own noise counts."]


def _accounted(s: StatementRecord) -> str:
    words = f"Accountant: {format_value(s.accountant)}."
    for value, name in ((s.epsilon_prv, "PRV"), (s.epsilon_rdp, "RDP")):
        if value is not None:
            words += f" Cross-check by {name}: {format_epsilon(value)}."
    if s.epsilon_cumulative is not None:
        words += f" All runs in the ledger: ε = {format_epsilon(s.epsilon_cumulative)}"
        words += f" ({format_count(s.ledger_entries)} trainings)." if s.ledger_entries is not None else "."
    if s.epsilon_cumulative_alone is not None:
        words += f" Without the noise of others: ε = {format_epsilon(s.epsilon_cumulative_alone)}"
        limit = s.max_epsilon_alone
        words += "." if limit is None else f", of the officer's limit {format_epsilon(limit)}."
    if s.epsilon_of_limit_spent is not None:
        words += (
            f" Of the officer's limit, {format_epsilon(s.max_epsilon)} at δ = "
            f"{format_value(s.max_epsilon_delta)}, "
            f"{format_epsilon(s.epsilon_of_limit_spent)} is spent."
        )
    if s.steps_of_unfinished_trainings:
        words += (
            f" {format_count(s.steps_of_unfinished_trainings)} of the steps belong to trainings that never finished."
        )
    if s.data_fingerprints:
        words += f" Keyed fingerprint of the data: {join_names([each[:16] for each in s.data_fingerprints])}."
    return words
