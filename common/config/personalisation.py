"""Section [personalisation] of a run: how each institution makes the global model its own. Nothing of it travels."""

from dataclasses import dataclass
from typing import Annotated, Literal

from common.config.sections import Range, Section, format_value

__all__ = ["KEEPING", "METHODS", "Method", "PersonalisationConfig"]

Method = Literal["none", "prior", "head", "proximal", "after"]
METHODS: tuple[Method, ...] = ("none", "prior", "head", "proximal", "after")
"""All methods, simplest first."""
KEEPING = ("head", "proximal")
"""Methods with own tensors that stay from round to round."""


@dataclass(frozen=True, kw_only=True)
class PersonalisationConfig(Section):
    """The personal part of each institution, which stays inside.

    Attributes:
        method: "none"; "prior", the global model with a bias for each label that fits the institution's own label
            shares (Saerens et al. 2002); "head", an own task head on the common adapter; "proximal", an own adapter
            that is trained toward the global one (MR-MTL, arXiv 2206.07902); "after", further steps from the final
            global adapter.
        proximal_weight: Weight lambda of the distance to the global adapter. At the start of each round the own adapter
            moves the part lambda / (1 + lambda) of the way to it.
        steps: Optimiser steps of "after".
        learning_rate: Of these steps, for adapter and head. None takes the run's.
        without_noise: Whether "after" trains without differential privacy. Its model must then stay inside.
    """

    section = "personalisation"
    method: Method = "none"
    proximal_weight: Annotated[float | None, Range(0, 1e6)] = None
    steps: Annotated[int | None, Range(1, 1_000_000)] = None
    learning_rate: Annotated[float | None, Range(0, above=True)] = None
    without_noise: bool = False

    def check(self) -> None:
        chosen = f"method = {format_value(self.method)}"
        for key, method in (("proximal_weight", "proximal"), ("steps", "after")):
            if self.method == method and getattr(self, key) is None:
                self.refuse(key, f"is missing: {chosen} needs it")
        for key, method in (("proximal_weight", "proximal"), ("steps", "after"), ("learning_rate", "after")):
            if self.method != method and getattr(self, key) is not None:
                self.refuse(key, f"is given, but {chosen} does not use it: leave it out")
        if self.without_noise and self.method != "after":
            self.refuse("without_noise", f"is true, but {chosen} does not use it: leave it out")

    @property
    def is_unnoised(self) -> bool:
        """Whether own label shares or further steps come from private rows without noise. They stay inside."""
        return self.method == "prior" or self.without_noise

    @property
    def keeps_tensors(self) -> bool:
        """Whether own tensors stay from round to round.

        Then an update depends on noised sums that the global models show only in part, and the noise of other
        institutions is not counted on (`common.privacy.global_model`).
        """
        return self.method in KEEPING

    @property
    def noised_steps(self) -> int:
        """Number of private steps beside those of the rounds. They are charged to the same budget."""
        return 0 if self.without_noise else self.steps or 0
