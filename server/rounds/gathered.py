"""The outcome of asking the institutions of a round, whichever way their updates came."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.protocol.adapter_codec import Tensors
from common.report.records import RoundRecord

__all__ = ["Gathered"]


@dataclass(frozen=True)
class Gathered:
    """The facts of a round before the hub's optimiser.

    Attributes:
        record: Outcomes, bytes and statements.
        needed: Contributions that the round needs.
        mean: The weighted mean of the adapters. None without enough contributions.
        shares: Weight of each contributor in it.
    """

    record: RoundRecord
    needed: int
    mean: Tensors | None
    shares: Mapping[str, float]
