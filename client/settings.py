"""What only the institution decides. None of it is ever sent, and the hub cannot raise any of it."""

from dataclasses import dataclass
from typing import Literal

from common.errors import ConfigurationError

__all__ = ["InstitutionSettings"]


@dataclass(frozen=True)
class InstitutionSettings:
    """The privacy officer's limits and declarations for one institution.

    max_epsilon: what all trainings together, over all runs, may spend at the run's delta; None sets no limit.
    min_noise_multiplier: trainings with less noise than this are refused.
    allow_without_privacy: whether a run of privacy level "none" is accepted at all.
    size_band: declared power of two that the hub may weight by; a decision, not a statistic. None declares nothing.
    noise: "system" draws from the operating system; "fixed" repeats itself, protects nobody, and is for simulation.
    """

    name: str
    max_epsilon: float | None = None
    min_noise_multiplier: float = 0.0
    allow_without_privacy: bool = False
    size_band: int | None = None
    noise: Literal["system", "fixed"] = "system"

    def __post_init__(self) -> None:
        if self.max_epsilon is not None and not self.max_epsilon > 0:
            raise ConfigurationError(
                f"settings of {self.name}: max_epsilon is {self.max_epsilon}: use a number above 0, or leave it out"
            )
        if not self.min_noise_multiplier >= 0:
            raise ConfigurationError(f"settings of {self.name}: min_noise_multiplier must be 0 or more")
        band = self.size_band
        if band is not None and (band < 1 or band & (band - 1)):
            raise ConfigurationError(
                f"settings of {self.name}: size_band is {band}: use a power of two, or leave it out"
            )
