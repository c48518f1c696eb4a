"""The record of a privacy statement, `institutions/NAME/statement.json`, for its writer and its readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from common.report.json_reader import Record

__all__ = ["Adversary", "Attack", "CurvePoint", "GlobalModelPrivacy", "GroupPrivacy", "Mechanism", "StatementRecord"]


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """Steps of one run that share noise multiplier, sampling probability and clipping norm."""

    noise_multiplier: float = 0.0
    sampling_probability: float = 0.0
    clipping_norm: float = 0.0
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Largest true positive rate of any test whether one unit was among the data, at a false positive rate."""

    false_positive_rate: float = 0.0
    true_positive_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of the privacy curve."""

    delta: float = 0.0
    epsilon: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GroupPrivacy:
    """Epsilon for `units` units that are added or removed together."""

    units: int = 0
    epsilon: float = 0.0
    delta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GlobalModelPrivacy:
    """Epsilon against those who see only the global models, if `others` more institutions added their noise."""

    others: int = 0
    epsilon: float = 0.0
    delta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """An adversary, the data that it sees, and its epsilon over this run and over all runs."""

    EARLIER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({"name": "who"})

    name: str = ""
    sees: str = ""
    epsilon_run: float = 0.0
    epsilon_all_runs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StatementRecord(Record):
    """The privacy statement of one institution and run. It stays inside the institution: it holds `num_units`.

    Attributes:
        unit, adjacency: The neighbouring relation, such as one "record" added or removed.
        requesters, tasks, base_models, data_fingerprints: Of the run's trainings, in order of first appearance.
        num_units, delta_times_num_units: Largest number of units of a training, and delta times that number.
        sampler, sampler_assumed, sampler_implemented: The sampling of units in words.
        noise_multiplier, clipping_norm, sampling_probability: The mechanism of the last training.
        steps, steps_of_unfinished_trainings: Steps that count, and those of trainings that never finished.
        epsilon_run: Over this run, at `delta`. None if a training of the run had no privacy.
        epsilon_cumulative: Over the whole ledger, at `delta`.
        epsilon_rdp, epsilon_prv: `epsilon_run` by two other accountants.
        global_model, global_model_assumes: Epsilon of this run against those who see only the global models, by number
            of other institutions, and the assumptions behind it, one sentence each.
        epsilon_global_model: The same with the noise of the institutions that were combined in each round. None unless
            the writer knows them, as a simulation does.
        honest: With secure aggregation, the number of institutions, this one among them, whose noise `epsilon_run`
            counts. None without it. Then no figure rests on others.
        epsilon_run_alone, epsilon_cumulative_alone: The same as `epsilon_run` and `epsilon_cumulative`, with this
            institution's own noise alone. None if no training of the ledger had secure aggregation.
        gaussian_mu: The mu of Gaussian differential privacy that covers the run.
        ledger_entries, runs: Number of trainings and names of runs in the whole ledger.
        max_epsilon, max_epsilon_delta, epsilon_of_limit_spent: The officer's limit and the part that is spent.
        max_epsilon_alone: The officer's limit of `epsilon_cumulative_alone`.
        share, members: Mean share in the weights of the run, and the number of institutions that had one. None if the
            hub has not stated it.
        personal, personal_steps, personal_noised: Method of the part that stays inside, the private steps that were
            charged for it alone, and whether all of it was noised.
        covers, does_not_cover: One sentence each.
    """

    EARLIER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"requesters": "asked_by", "num_units": "population", "delta_times_num_units": "delta_times_population"}
    )

    institution: str = ""
    run_id: str = ""
    unit: str = ""
    adjacency: str = ""
    requesters: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    data_fingerprints: tuple[str, ...] = ()
    num_units: int | None = None
    delta_times_num_units: float | None = None
    noise_source: str = ""
    sampler: str = ""
    sampler_assumed: str = ""
    sampler_implemented: str = ""
    noise_multiplier: float | None = None
    clipping_norm: float | None = None
    sampling_probability: float | None = None
    steps: int | None = None
    steps_of_unfinished_trainings: int | None = None
    mechanisms: tuple[Mechanism, ...] = ()
    delta: float | None = None
    accountant: str = ""
    epsilon_run: float | None = None
    epsilon_cumulative: float | None = None
    epsilon_rdp: float | None = None
    epsilon_prv: float | None = None
    honest: int | None = None
    epsilon_run_alone: float | None = None
    epsilon_cumulative_alone: float | None = None
    gaussian_mu: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    attack: tuple[Attack, ...] = ()
    groups: tuple[GroupPrivacy, ...] = ()
    global_model: tuple[GlobalModelPrivacy, ...] = ()
    global_model_assumes: tuple[str, ...] = ()
    epsilon_global_model: float | None = None
    adversaries: tuple[Adversary, ...] = ()
    ledger_entries: int | None = None
    runs: tuple[str, ...] = ()
    max_epsilon: float | None = None
    max_epsilon_delta: float | None = None
    max_epsilon_alone: float | None = None
    epsilon_of_limit_spent: float | None = None
    share: float | None = None
    members: int | None = None
    personal: str = "none"
    personal_steps: int = 0
    personal_noised: bool = True
    covers: tuple[str, ...] = ()
    does_not_cover: tuple[str, ...] = ()

    @property
    def is_fixed_noise(self) -> bool:
        """Whether the noise came from a fixed seed, so that no unit is protected."""
        return "NOT PRIVATE" in self.noise_source.upper()
