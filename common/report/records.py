"""The records in a run's directory, typed and versioned: one class for the writer and the readers of each file.

`history.json` holds `RoundRecord`s, `result.json` a `ResultRecord`, `audit.json` an `AuditResult`. The record of
`institutions/NAME/statement.json` is in `common.report.statement_record`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Self

from common.canonical import canonical
from common.report.json_reader import JsonReader, Record

__all__ = [
    "AuditResult",
    "Baseline",
    "Check",
    "InstitutionFigures",
    "InversionResult",
    "MemorisationResult",
    "ResultRecord",
    "RoundRecord",
    "Spread",
]


@dataclass(frozen=True, kw_only=True)
class RoundRecord(Record):
    """The public facts of one round.

    Attributes:
        round: Number of the round, from 1.
        asked, contributed: Names of the institutions that were asked, and of those whose update counted.
        outcomes: A `common.protocol.outcomes.RoundOutcome` for each institution that was asked or replied unasked.
        metrics: On the hub's test set. None in a round without evaluation.
        by_institution: Metrics on each institution's share of the test set. None in a round without evaluation.
        epsilon: Each contributor's own figure for its run so far.
        epsilon_alone: The same without the noise of others. Empty without secure aggregation.
        bytes_up, bytes_down: Size of the sealed messages from and to all institutions.
        seconds: Wall-clock time.
        adapter_digest: SHA-256 of the global adapter after the round, in hex.
        contributions: SHA-256 of each combined adapter, in hex.
        weights: Share of each contributor in the mean. Empty if the round missed its quorum.
    """

    round: int
    asked: tuple[str, ...] = ()
    contributed: tuple[str, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] | None = None
    by_institution: Mapping[str, Mapping[str, float]] | None = None
    epsilon: Mapping[str, float] = field(default_factory=dict)
    epsilon_alone: Mapping[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    adapter_digest: str = ""
    contributions: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json.dumps` takes. It has no version: checkpoint and audit log have one of their own."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if not self.epsilon_alone:
            del values["epsilon_alone"]
        return values

    @cached_property
    def text(self) -> str:
        """`to_json` as canonical JSON, computed once because every later checkpoint holds it again."""
        return canonical(self.to_json()).decode()


@dataclass(frozen=True, kw_only=True)
class Baseline(Record):
    """A model that the federation is compared with. `epsilon` is None if its training rows are not protected.

    `own` holds the metrics of an institution alone on its own test rows. It is empty for every other model.
    """

    name: str = ""
    accuracy: float | None = None
    weighted_f1: float | None = None
    epsilon: float | None = None
    note: str = ""
    own: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over institutions, each on its own test rows: the mean, the worst, and the institution with the worst.

    Every institution counts alike in the mean, however many rows it has.
    """

    metric: str = ""
    mean: float = 0.0
    worst: float = 0.0
    institution: str = ""


@dataclass(frozen=True, kw_only=True)
class InstitutionFigures:
    """The share, the cost and the metrics of one institution in a run.

    Attributes:
        name: Name of the institution.
        share: Its mean share in the weights of the rounds. None if no round was combined.
        epsilon: Its privacy loss over the run. None without privacy.
        shared: Metrics of the global model on the institution's own test rows. Empty if the hub has none of them.
        alone: Metrics, on the same rows, of the model that it trains alone with the same privacy.
        personal: Metrics, on the same rows, of its personal model.
        behind: By how much it ends below "alone" and "shared", for each of them that is more than half a point better.
            An institution ends with its personal model, or with the global one if it has none.
    """

    name: str = ""
    share: float | None = None
    epsilon: float | None = None
    shared: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)
    personal: Mapping[str, float] = field(default_factory=dict)
    behind: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ResultRecord(Record):
    """The result of a run, deployed or simulated. In the file the metrics stand beside the other keys.

    Attributes:
        metrics: On the hub's test set after the last round. Empty without a test set.
        before_round_1: The same before round 1. Empty in a deployed run.
        rounds: Number of finished rounds.
        epsilon: Of each institution over this run, at `delta`. None without privacy.
        epsilon_alone: The same without the noise of other institutions. Empty without secure aggregation.
        epsilon_global_model: The same against those who see only the global models, by the noise of all contributors.
            None if it is not known. Empty in a deployed run.
        bytes_up, bytes_down: Size of all sealed messages.
        seconds: Wall-clock time of all rounds. `seconds_this_command` is that of the last command.
        adapter, report: Paths of the adapter's directory and of the report.
        adapter_digest: SHA-256 of the adapter's tensors, in hex.
        noise: "system", or "fixed", which protects nobody. Empty in a deployed run.
        institutions: Share, cost and metrics of each institution.
        over_institutions: Mean and worst of them, for the models "shared", "alone" and "personal" that all have.
        little_say: Institutions whose share in the weights is below a tenth of an equal one.
        losers: Institutions that are `behind` the model that they train alone or the global one.
    """

    name: str = ""
    task: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    before_round_1: Mapping[str, float] = field(default_factory=dict)
    rounds: int | None = None
    epsilon: Mapping[str, float | None] = field(default_factory=dict)
    epsilon_alone: Mapping[str, float] = field(default_factory=dict)
    epsilon_global_model: Mapping[str, float | None] = field(default_factory=dict)
    delta: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    seconds: float | None = None
    seconds_this_command: float | None = None
    adapter: str = ""
    adapter_digest: str = ""
    labels: tuple[str, ...] = ()
    unit: str = ""
    adjacency: str = ""
    parameters_trained: int | None = None
    parameters_total: int | None = None
    engine: str = ""
    noise: str = ""
    baselines: tuple[Baseline, ...] = ()
    institutions: tuple[InstitutionFigures, ...] = ()
    over_institutions: Mapping[str, Spread] = field(default_factory=dict)
    little_say: tuple[str, ...] = ()
    losers: tuple[str, ...] = ()
    report: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as one JSON object, with the metrics beside the other keys."""
        value = super().to_json()
        value["baselines"] = [{name: row[name] for name in row if name != "version"} for row in value["baselines"]]
        metrics: dict[str, Any] = value.pop("metrics")
        return metrics | value

    @classmethod
    def from_json(cls, source: str, value: object) -> Self:
        """Read a record. Raises CheckpointError as `Record.from_json` does."""
        reader, named = JsonReader(source, value), {entry.name for entry in fields(cls)} | {"version"}
        rest = {key: reader.number(key) for key in sorted(reader.value.keys() - named)}
        metrics = {key: number for key, number in rest.items() if number is not None}
        return super().from_json(source, {**reader.value, "metrics": metrics})


@dataclass(frozen=True)
class Check:
    """One property of the mechanism: a quantity as `measured`, beside the `stated` one.

    Attributes:
        name: Name of the check.
        quantity: The quantity, in words.
        p_value: Probability of so large a difference by chance. None if chance plays no part.
    """

    EARLIER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({"quantity": "what"})

    name: str = ""
    quantity: str = ""
    measured: float = 0.0
    stated: float = 0.0
    p_value: float | None = None
    passed: bool = False


@dataclass(frozen=True)
class InversionResult:
    """The tokens that were read back from updates of one sentence each, without special tokens.

    Attributes:
        rank: Rank of the attacked adapter, on the first layer's query projection.
        sentences, tokens: Number of sentences attacked, and of tokens in them.
        plain, clipped, private: Tokens found without privacy, with clipping alone, with clipping and noise.
        chance: Tokens that blind guessing would find.
        place: Mean rank of the true token among the vocabulary in the private update. 0 is the attacker's first
            choice, 0.5 is chance.
        example: One of the sentences, and the texts read from its plain and from its private update.
    """

    rank: int = 0
    sentences: int = 0
    tokens: int = 0
    plain: int = 0
    clipped: int = 0
    private: int = 0
    chance: float = 0.0
    place: float = 0.0
    example: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemorisationResult:
    """The secrets that a model which writes gave back, of those that it was trained on.

    Attributes:
        canaries, included: Number of canary sentences, and of those that the coins put into the data.
        most_bits: Exposure of a secret that ranks first among all candidates, in bits. By chance it is 1.4.
        plain_bits, private_bits: Mean exposure of the included secrets, without privacy and with the run's noise.
        absent_bits: The same of the secrets that were left out, with the run's noise.
        plain, private: Included secrets that greedy decoding wrote, without privacy and with the run's noise.
        guesses, right_guesses: Guesses about the coins, and right guesses.
        lower_bound: Of epsilon, that the guesses showed.
    """

    canaries: int = 0
    included: int = 0
    most_bits: float = 0.0
    plain_bits: float = 0.0
    private_bits: float = 0.0
    absent_bits: float = 0.0
    plain: int = 0
    private: int = 0
    guesses: int = 0
    right_guesses: int = 0
    lower_bound: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AuditResult(Record):
    """The findings of an audit. A lower bound is the least that the attack could show, never the guarantee.

    Attributes:
        claimed_epsilon, delta, unit: The claim of the run.
        lower_bound: Epsilon that the canaries showed, with probability `confidence`.
        canaries, guesses, right_guesses: Number of canaries, guesses about them, and right guesses.
        largest_possible_bound: The lower bound if every guess had been right.
        noise_multiplier, claimed_noise_multiplier: Noise that was added, and noise that the claim needs.
        planted: Whether the caller asked for other noise than the claim needs.
        checks: Noise, sampling and sensitivity, each measured beside its stated value.
        inversion: Sentences that were read back from an update.
        memorisation: Secrets that came back from the trained model. None if it does not write.
        failed: Names of the attacks and checks that refute the claim. Empty if none does.
        config_digest: SHA-256 of the run's configuration, in hex.
    """

    claimed_epsilon: float
    lower_bound: float
    confidence: float
    delta: float
    unit: str
    canaries: int
    guesses: int
    right_guesses: int
    largest_possible_bound: float
    noise_multiplier: float
    claimed_noise_multiplier: float
    planted: bool
    clipping_norm: float
    clipping: str = ""
    sampling_probability: float
    steps: int
    steps_attacked: int
    checks: tuple[Check, ...]
    inversion: InversionResult
    memorisation: MemorisationResult | None = None
    failed: tuple[str, ...]
    base_model: str = ""
    parameters_trained: int = 0
    config_digest: str
    seconds: float = 0.0
