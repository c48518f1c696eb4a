"""Read `institution.toml`: everything that only the institution decides.

None of these values is sent, except the name and the declared size. The hub can raise none of the limits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from common.canonical import MAX_DECLARED_UNITS, is_name
from common.config.answers import check_answers
from common.config.metrics import MetricsSettings
from common.config.personalisation import METHODS
from common.config.sections import Range, Section, build, error_prefix, format_value, refuse_unknown
from common.config.token import TokenSettings
from common.config.toml import load_toml
from common.errors import ConfigurationError
from common.privacy.accounting import PrivacyLimit
from common.tasks import TASKS, task

__all__ = [
    "UNDECLARED_UNITS",
    "DataConfig",
    "InstitutionConfig",
    "LimitsConfig",
    "LocalModelConfig",
    "PersonalConfig",
    "ReleaseConfig",
    "load_institution_config",
    "power_of_two_at_most",
]

UNDECLARED_UNITS = 1024
"""Number of records or customers assumed for an institution that declares none."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Describe the institution's training rows.

    Attributes:
        train: A file, folder or pattern that `common.data.reading` reads. In `institution.toml` its path is relative to
            that file.
        text_column, label_column: Names of the columns with the text and its label. None takes the usual names for the
            task: "text" and "label", or "tokens" and "ner_tags".
        labels: Labels of the data, in the order of a model's outputs, for `finetune --home` with privacy. They
            are declared, so that no label is published only because some row carries it. Whole numbers in a file that
            does not name them are positions in this list.
        test: The institution's own test rows, in the format of `train`. Only the institution sees figures on them.
        customer_column: Name of the column with the customer's id. It is needed if a customer is the unit of privacy.
            In a CoNLL file each document belongs to one customer.
        answers: By kind of instruction, the answers of the data. A run that declares others for a kind is refused.
    """

    section = "data"
    train: Path
    text_column: str | None = None
    label_column: str | None = None
    labels: tuple[str, ...] = ()
    test: Path | None = None
    customer_column: str | None = None
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def check(self) -> None:
        check_answers(self.answers, task("instruction_tuning"), "data.answers")


@dataclass(frozen=True, kw_only=True)
class LocalModelConfig(Section):
    """Name the base models that may be trained, and the device that trains them.

    Attributes:
        allowed: Base models as a run or a command names them. A training on another one is refused.
        device: "auto", "cpu", "cuda" or "cuda:1".
    """

    section = "model"
    allowed: tuple[str, ...] = ("minilm",)
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(Section):
    """The privacy officer's limits. `client.institution.limits` enforces them for every training.

    Attributes:
        max_epsilon: Epsilon that all trainings of all runs together may spend at `delta`. None sets no limit.
        max_epsilon_alone: The same without the assumption of secure aggregation: if the hub and all other institutions
            work together. None takes `max_epsilon`.
        delta: Delta at which `max_epsilon` holds, whatever delta a run states. It is below 1 / (number of records).
            A training that states its epsilon at a larger delta is refused.
        min_noise_multiplier: Trainings with a smaller noise multiplier are refused.
        allow_without_privacy: Whether trainings without differential privacy are accepted.
        unit: Unit that `max_epsilon` protects: a record, or a customer with all records. Trainings that protect
            another unit are refused.
        tasks: Tasks that may be trained.
    """

    section = "limits"
    max_epsilon: Annotated[float | None, Range(0, above=True)] = None
    max_epsilon_alone: Annotated[float | None, Range(0, above=True)] = None
    delta: Annotated[float | None, Range(0, 1, above=True, below=True)] = None
    min_noise_multiplier: Annotated[float, Range(0)] = 0.0
    allow_without_privacy: bool = False
    unit: Literal["record", "customer"] = "record"
    tasks: tuple[str, ...] = tuple(TASKS)

    def check(self) -> None:
        if self.max_epsilon is not None and self.delta is None:
            self.refuse("delta", "is missing: max_epsilon means something only at a delta; give one below 1 / records")
        if self.max_epsilon_alone is not None and self.max_epsilon_alone < (self.max_epsilon or math.inf):
            way = "is below max_epsilon, or that is missing: no training costs less without the assumption"
            self.refuse("max_epsilon_alone", f"{way}; raise it, or leave it out")
        for name in self.tasks:
            if name not in TASKS:
                self.refuse("tasks", f"holds {format_value(name)}: use {', '.join(TASKS)}")

    @property
    def budget(self) -> PrivacyLimit | None:
        """The most that the ledger may hold. None sets no limit."""
        return None if self.max_epsilon is None or self.delta is None else PrivacyLimit(self.max_epsilon, self.delta)

    @property
    def budget_alone(self) -> PrivacyLimit | None:
        """The same without the assumption of secure aggregation."""
        limit = self.budget
        return (
            limit if limit is None or self.max_epsilon_alone is None else replace(limit, epsilon=self.max_epsilon_alone)
        )


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig(Section):
    """Facts about the data that the hub may learn.

    Attributes:
        declared_units: Power of two near the number of records or customers. The hub may weight by it, and gradient
            sums are divided by it. It is a decision of the privacy officer and not computed from the rows. None
            declares nothing, and sums are divided as if there were `UNDECLARED_UNITS`.
    """

    section = "release"
    declared_units: Annotated[int | None, Range(1, MAX_DECLARED_UNITS)] = None

    def check(self) -> None:
        units = self.declared_units
        if units is not None and units & (units - 1):
            self.refuse("declared_units", f"is {units}: use a power of two, or leave it out")


@dataclass(frozen=True, kw_only=True)
class PersonalConfig(Section):
    """The personal parts that the privacy officer allows. A run with another one is refused.

    Attributes:
        allowed: Methods of a run's [personalisation], see `common.config.personalisation`.
        allow_without_noise: Whether a personal part may be computed from private rows without noise. It stays inside.
    """

    section = "personalisation"
    allowed: tuple[str, ...] = ()
    allow_without_noise: bool = False

    def check(self) -> None:
        for name in self.allowed:
            if name not in METHODS[1:]:
                self.refuse("allowed", f"holds {format_value(name)}: use {', '.join(METHODS[1:])}")


@dataclass(frozen=True, kw_only=True)
class InstitutionConfig:
    """One institution's settings file.

    Attributes:
        data: None until the file names a data set, because an institution may enrol before it has one.
        noise: "system" draws noise from the operating system. "fixed" repeats itself and protects nobody. Only a
            simulation sets it. No file can.
        token: The token that holds the signing key. None if the key is in a file.
    """

    name: str
    data: DataConfig | None = None
    model: LocalModelConfig = field(default_factory=LocalModelConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    personalisation: PersonalConfig = field(default_factory=PersonalConfig)
    noise: Literal["system", "fixed"] = "system"
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    token: TokenSettings | None = None

    @property
    def assumed_units(self) -> int:
        """Number of units that gradient sums are divided by: the declared size, and never a counted one.

        The noise of an update shows the divisor, so the divisor must not depend on the rows.
        """
        return self.release.declared_units or UNDECLARED_UNITS


_SECTIONS = ("institution", "data", "model", "limits", "release", "personalisation", "metrics", "token")


def load_institution_config(path: Path) -> InstitutionConfig:
    """Read `institution.toml`. Relative paths start from its own directory.

    Raises:
        ConfigurationError: One line that names the file, `section.key`, the fault and the remedy.
    """
    tables = load_toml(path)
    with error_prefix(str(path)):
        refuse_unknown(tables, _SECTIONS)
        return _parse(tables, path.parent)


def _parse(tables: Mapping[str, Any], start: Path) -> InstitutionConfig:
    identity = tables.get("institution", {})
    if not isinstance(identity, Mapping) or not is_name(identity.get("name")):
        raise ConfigurationError("institution.name is missing or not a name: use letters, digits, ' ', '_', '.', '-'")
    refuse_unknown(identity, ("name",), "institution")
    data = build(DataConfig, tables["data"]) if "data" in tables else None
    return InstitutionConfig(
        name=identity["name"],
        data=_located(data, start) if data else None,
        model=build(LocalModelConfig, tables.get("model", {})),
        limits=build(LimitsConfig, tables.get("limits", {})),
        release=build(ReleaseConfig, tables.get("release", {})),
        personalisation=build(PersonalConfig, tables.get("personalisation", {})),
        metrics=build(MetricsSettings, tables.get("metrics", {})),
        token=build(TokenSettings, tables["token"]) if "token" in tables else None,
    )


def _located(data: DataConfig, start: Path) -> DataConfig:
    test = start / data.test.expanduser() if data.test else None
    return replace(data, train=start / data.train.expanduser(), test=test)


def power_of_two_at_most(units: int) -> int:
    """Return the largest power of two that is at most `units`, and 1 for 0 units.

    It is the size that an institution with `units` records or customers would declare.

    >>> power_of_two_at_most(1000)
    512
    """
    return 1 << (max(1, units).bit_length() - 1)
