"""Sections [aggregation] and [evaluation] of a run: the work of the hub in a round."""

from dataclasses import dataclass
from typing import Annotated, Literal

from common.config.sections import Range, Section
from common.weighting import Weighting

__all__ = ["AggregationConfig", "EvaluationConfig", "NumberType"]

NumberType = Literal["float32", "bfloat16"]
"""The type of an adapter's numbers on the wire. In memory they are float32."""


@dataclass(frozen=True, kw_only=True)
class AggregationConfig(Section):
    """How the hub combines a round. Uniform weights are also used if no institution declares its units.

    weighting: see `common.weighting.weights`. server_decay_rounds: over how many last rounds the server's
    learning rate falls to nothing, so that the noise of single rounds averages out. None keeps it.
    institutions_per_round: None asks all. quorum: contributions below which a round fails. max_update_norm: L2 norm of
        one institution's change. None sets no limit. deadline_s: seconds the hub waits in a round.
    update_dtype: type of the numbers of an update on the wire, see `common.protocol.updates`.
    secure: whether the hub learns the sum of the updates alone, see `common.secure_aggregation`. Each institution then
        adds 1 / honest of the variance of the noise. threshold: contributions that a round needs. honest:
        institutions assumed honest among any `threshold` of them.
    """

    section = "aggregation"
    weighting: Weighting = "declared_units"
    server_optimizer: Literal["none", "momentum", "adam"] = "none"
    server_learning_rate: Annotated[float, Range(0, above=True)] = 1.0
    server_momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    server_decay_rounds: Annotated[int | None, Range(1, 1_000_000)] = None
    institutions_per_round: Annotated[int | None, Range(1, 1_000_000)] = None
    quorum: Annotated[int, Range(1, 1_000_000)] = 1
    max_update_norm: Annotated[float | None, Range(0, above=True)] = None
    deadline_s: Annotated[float, Range(0, 604_800, above=True)] = 3600.0
    update_dtype: NumberType = "float32"
    secure: bool = False
    honest: Annotated[int | None, Range(2, 1000)] = None
    threshold: Annotated[int | None, Range(2, 1000)] = None

    def check(self) -> None:
        for key in ("honest", "threshold"):
            if self.secure and getattr(self, key) is None:
                self.refuse(key, "is missing: aggregation.secure = true needs it")
            if not self.secure and getattr(self, key) is not None:
                self.refuse(key, "is given, but aggregation.secure is false: leave it out, or set secure = true")
        if self.secure:
            self._check_secure()
        if self.institutions_per_round is not None and self.quorum > self.institutions_per_round:
            asked = f"institutions_per_round = {self.institutions_per_round}"
            self.refuse("quorum", f"is {self.quorum}, but {asked}: lower the quorum or ask more of them")

    @property
    def needed(self) -> int:
        """Contributions that a round needs: the threshold of secure aggregation, or the quorum."""
        return self.threshold if self.threshold is not None else self.quorum

    def check_institutions(self, number: int) -> None:
        """Refuse a threshold and an assumption that give no guarantee for a roster of `number` institutions.

        Raises:
            ConfigurationError: The first fault.
        """
        threshold, honest = self.threshold or 0, self.honest or 0
        if not self.secure:
            return
        if threshold > number:
            self.refuse("threshold", f"is {threshold}, but {number} institutions take part: lower it")
        if threshold + honest <= number:
            why = f"and honest = {honest} together are not above the {number} institutions"
            two = "the hub could get two different sums of one round: raise one of them"
            self.refuse("threshold", f"= {threshold} {why}: {two}")

    def _check_secure(self) -> None:
        """Refuse settings that do not go with secure aggregation."""
        if (self.honest or 0) > (self.threshold or 0):
            self.refuse("honest", f"is {self.honest}, more than threshold = {self.threshold}: lower it")
        if self.weighting != "declared_units":
            way = f'is "{self.weighting}", but with secure = true the sum weights by size: use "declared_units"'
            self.refuse("weighting", way)
        if self.update_dtype != "float32":
            way = f'is "{self.update_dtype}", but with secure = true updates travel as masked integers: leave it out'
            self.refuse("update_dtype", way)
        if self.institutions_per_round is not None:
            self.refuse("institutions_per_round", "is given, but with secure = true all are asked: leave it out")
        if self.quorum != 1:
            self.refuse("quorum", "is given, but with secure = true the threshold is the quorum: leave it out")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """The hub's evaluation on its own test set. The last round is always evaluated."""

    section = "evaluation"
    every_rounds: Annotated[int, Range(1, 1_000_000)] = 1
