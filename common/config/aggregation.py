"""Sections [aggregation] and [evaluation] of a run: the work of the hub in a round."""

from dataclasses import dataclass
from typing import Annotated, Literal

from common.config.sections import Range, Section
from common.weighting import Weighting

__all__ = ["AggregationConfig", "EvaluationConfig"]


@dataclass(frozen=True, kw_only=True)
class AggregationConfig(Section):
    """How the hub combines a round. Uniform weights are also used if no institution declares its units.

    weighting: see `common.weighting.weights`. server_decay_rounds: over how many last rounds the server's
    learning rate falls to nothing, so that the noise of single rounds averages out. None keeps it.
    institutions_per_round: None asks all. quorum: contributions below which a round fails. max_update_norm: L2 norm of
        one institution's change. None sets no limit. deadline_s: seconds the hub waits in a round.
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

    def check(self) -> None:
        if self.institutions_per_round is not None and self.quorum > self.institutions_per_round:
            asked = f"institutions_per_round = {self.institutions_per_round}"
            self.refuse("quorum", f"is {self.quorum}, but {asked}: lower the quorum or ask more of them")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """The hub's evaluation on its own test set. The last round is always evaluated."""

    section = "evaluation"
    every_rounds: Annotated[int, Range(1, 1_000_000)] = 1
