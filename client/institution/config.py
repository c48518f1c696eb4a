"""What only the institution decides: `institution.toml`. None of it is sent, and the hub cannot raise any of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from common.canonical import is_name
from common.config.sections import Range, Section, build, error_prefix, format_value, refuse_unknown
from common.config.toml import load_toml
from common.errors import ConfigurationError
from common.privacy.accounting import PrivacyLimit
from common.tasks import TASKS

__all__ = [
    "DataSettings",
    "InstitutionConfig",
    "InstitutionSettings",
    "ModelSettings",
    "load_institution_config",
    "power_of_two_at_most",
]


@dataclass(frozen=True)
class InstitutionSettings:
    """The privacy officer's limits and declarations for one institution.

    max_epsilon: what all trainings together, over all runs, may spend at `delta`; None sets no limit.
    delta: at which `max_epsilon` is meant, whatever a run says; below one over the number of records. A run that
        states its epsilon at a larger delta is refused.
    min_noise_multiplier: trainings with less noise than this are refused.
    allow_without_privacy: whether a run with privacy mode "none" is accepted at all.
    declared_units: power of two near the number of records or customers. The hub may weight by it, and gradient sums
        are divided by it. It is a decision, not a statistic. None declares nothing: sums are divided by 1,024 q.
    unit: what `max_epsilon` protects: a record, or a customer with all its records. Runs of another unit are refused.
    noise: "system" draws from the operating system; "fixed" repeats itself, protects nobody, and is for simulation.
    """

    name: str
    max_epsilon: float | None = None
    delta: float | None = None
    min_noise_multiplier: float = 0.0
    allow_without_privacy: bool = False
    declared_units: int | None = None
    noise: Literal["system", "fixed"] = "system"
    unit: Literal["record", "customer"] = "record"

    def __post_init__(self) -> None:
        if self.max_epsilon is not None and not self.max_epsilon > 0:
            raise ConfigurationError(
                f"settings of {self.name}: max_epsilon is {self.max_epsilon}: use a number above 0, or leave it out"
            )
        if self.delta is not None and not 0 < self.delta < 1:
            raise ConfigurationError(f"settings of {self.name}: delta is {self.delta}: use a number between 0 and 1")
        if self.max_epsilon is not None and self.delta is None:
            raise ConfigurationError(
                f"settings of {self.name}: max_epsilon means something only at a delta: give one below 1 / records"
            )
        if not self.min_noise_multiplier >= 0:
            raise ConfigurationError(f"settings of {self.name}: min_noise_multiplier must be 0 or more")
        band = self.declared_units
        if band is not None and (band < 1 or band & (band - 1)):
            raise ConfigurationError(
                f"settings of {self.name}: declared_units is {band}: use a power of two, or leave it out"
            )

    @property
    def limit(self) -> PrivacyLimit | None:
        """What the ledger may hold at most."""
        return None if self.max_epsilon is None or self.delta is None else PrivacyLimit(self.max_epsilon, self.delta)


@dataclass(frozen=True, kw_only=True)
class DataSettings(Section):
    """The institution's training rows: a CSV, JSONL, Parquet or (for token tasks) CoNLL file, and its columns.

    customer_column: whose a row is, where customers are the unit of privacy. In a CoNLL file each document is one.
    """

    section = "data"
    train: Path
    text_column: str = "text"
    label_column: str = "label"
    customer_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Section):
    """Which base models may be trained, as runs name them, and where. `device` is "auto", "cpu", "cuda", "cuda:1"."""

    section = "model"
    allowed: tuple[str, ...] = ("minilm",)
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class _Limits(Section):
    section = "limits"
    max_epsilon: Annotated[float | None, Range(0, above=True)] = None
    delta: Annotated[float | None, Range(0, 1, above=True, below=True)] = None
    min_noise_multiplier: Annotated[float, Range(0)] = 0.0
    allow_without_privacy: bool = False
    unit: Literal["record", "customer"] = "record"
    tasks: tuple[str, ...] = tuple(TASKS)

    def check(self) -> None:
        if self.max_epsilon is not None and self.delta is None:
            self.refuse("delta", "is missing: max_epsilon means something only at a delta; give one below 1 / records")
        for name in self.tasks:
            if name not in TASKS:
                self.refuse("tasks", f"holds {format_value(name)}: use {', '.join(TASKS)}")


@dataclass(frozen=True, kw_only=True)
class _Release(Section):
    section = "release"
    declared_units: Annotated[int | None, Range(1, 2**40)] = None


@dataclass(frozen=True)
class InstitutionConfig:
    """One institution's settings file. `limits` are the privacy officer's; `tasks` those it trains at all.

    `data` is None until the file names a data set: an institution may enrol before it has one.
    """

    limits: InstitutionSettings
    tasks: tuple[str, ...] = tuple(TASKS)
    data: DataSettings | None = None
    model: ModelSettings = field(default_factory=ModelSettings)


_SECTIONS = ("institution", "data", "model", "limits", "release")


def load_institution_config(path: Path) -> InstitutionConfig:
    """Read `institution.toml`; relative paths start from its own directory.

    Raises:
        ConfigurationError: one line naming the file, `section.key`, what is wrong and what to do.
    """
    tables = load_toml(path)
    with error_prefix(str(path)):
        refuse_unknown(tables, _SECTIONS)
        return _settings(tables, path.parent)


def _settings(tables: Mapping[str, Any], start: Path) -> InstitutionConfig:
    identity = tables.get("institution", {})
    if not isinstance(identity, Mapping) or not is_name(identity.get("name")):
        raise ConfigurationError("institution.name is missing or not a name: use letters, digits, ' ', '_', '.', '-'")
    refuse_unknown(identity, ("name",), "institution")
    limits, release = build(_Limits, tables.get("limits", {})), build(_Release, tables.get("release", {}))
    data = build(DataSettings, tables["data"]) if "data" in tables else None
    return InstitutionConfig(
        limits=InstitutionSettings(
            name=identity["name"],
            max_epsilon=limits.max_epsilon,
            delta=limits.delta,
            min_noise_multiplier=limits.min_noise_multiplier,
            allow_without_privacy=limits.allow_without_privacy,
            declared_units=release.declared_units,
            unit=limits.unit,
        ),
        tasks=limits.tasks,
        data=replace(data, train=start / data.train.expanduser()) if data else None,
        model=build(ModelSettings, tables.get("model", {})),
    )


def power_of_two_at_most(units: int) -> int:
    """Return the largest power of two that is at most `units`, and 1 for 0 units.

    It is the size that an institution with `units` records or customers would declare.

    >>> power_of_two_at_most(1000)
    512
    """
    return 1 << (max(1, units).bit_length() - 1)
