"""Section [privacy] of a run: its modes, and the values that each mode fixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from common.config.sections import Range, Section, format_value

__all__ = ["CLIPPING_NORMS", "LEVELS", "PrivacyConfig", "fixed_by"]

CLIPPING_NORMS = (1e-6, 1e6)
"""The smallest and the largest clipping norm. Gradients near the limits of float32 would not survive the scaling."""

LEVELS: Mapping[str, tuple[float, float]] = MappingProxyType({"high": (1.0, 1.0), "standard": (0.5, 2.0)})
"""Noise multiplier and clipping norm that a privacy mode fixes."""


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig(Section):
    """Differential privacy of one unit (add or remove one), over the whole run.

    unit: "record" (one row) or "customer": all rows that carry one customer's id at an institution.
    mode: "high" and "standard" fix noise and clip (see `LEVELS`). "custom" takes both. "target" takes a clip and the
    epsilon of the whole run, for which every institution calibrates its own noise. "none" trains without privacy.
    noise_multiplier: standard deviation of the noise over `clipping_norm` (L2, of one unit's gradient). With
        "none", `clipping_norm` is 0.
    """

    section = "privacy"
    mode: Literal["high", "standard", "target", "custom", "none"]
    unit: Literal["record", "customer"] = "record"
    noise_multiplier: Annotated[float | None, Range(0, 1000, above=True)] = None
    clipping_norm: Annotated[float, Range(0)]
    target_epsilon: Annotated[float | None, Range(0, above=True)] = None
    delta: Annotated[float | None, Range(0, 1, above=True, below=True)] = None

    def check(self) -> None:
        mode = f'mode = "{self.mode}"'
        if self.mode == "none" and self.clipping_norm != 0:
            self.refuse("clipping_norm", f"is given, but {mode} clips nothing: leave it out, or choose another mode")
        if self.mode == "none" and self.unit != "record":
            self.refuse("unit", f"is {format_value(self.unit)}, but {mode} protects nothing: leave it out")
        low, high = CLIPPING_NORMS
        if self.mode != "none" and not low <= self.clipping_norm <= high:
            self.refuse("clipping_norm", f"is {self.clipping_norm:g}: use a number from {low:g} to {high:g}")
        wanted = {
            "noise_multiplier": self.mode in (*LEVELS, "custom"),
            "target_epsilon": self.mode == "target",
            "delta": self.mode != "none",
        }
        for key, needed in wanted.items():
            if needed and getattr(self, key) is None:
                self.refuse(key, f"is missing: {mode} needs it")
            if not needed and getattr(self, key) is not None:
                self.refuse(key, f"is given, but {mode} does not use it: leave it out, or choose another mode")
        for key, fixed in fixed_by(self.mode).items():
            if getattr(self, key) != fixed:
                self.refuse(key, f'is {getattr(self, key):g}, but {mode} fixes it at {fixed:g}: use mode = "custom"')


def fixed_by(mode: object) -> dict[str, float]:
    """Return the values of [privacy] that a mode leaves no choice about. Empty for any other value."""
    if mode == "none":
        return {"clipping_norm": 0.0}
    noise_and_clip = LEVELS.get(mode) if isinstance(mode, str) else None
    return dict(zip(("noise_multiplier", "clipping_norm"), noise_and_clip, strict=True)) if noise_and_clip else {}
