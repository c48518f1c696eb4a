"""The second figure of a statement: epsilon against parties that see only the global models.

It depends on the number of other institutions that added their noise. See `common.privacy.global_model`.
"""

from collections.abc import Iterable, Sequence

from client.personalisation.record import PersonalRecord
from common.config.personalisation import KEEPING
from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.global_model import alike, seen_in_global_models
from common.report.statement_record import GlobalModelPrivacy

__all__ = ["ASSUMES", "OTHERS", "by_others", "keeps_tensors"]

OTHERS = (1, 4, 19, 49)
"""Numbers of other institutions for which the figure is stated."""
ASSUMES = (
    "in every round at least that many other institutions each add at least as much noise to the combined adapter as "
    "this one, weighted as the hub weights them, and keep it to themselves",
    "all train with plain SGD, and a round's last local step alone counts with the noise of the others",
    "the hub shows nothing but the global adapters, and refuses no contribution for its size",
    "numbers are real numbers: the rounding of adapters to float32 is not covered, unlike in the figure for the hub",
)
"""Assumptions of the figure, one sentence each."""


def by_others(
    events: Sequence[DpSgdEvent], delta: float, alone: Iterable[DpSgdEvent] = ()
) -> tuple[GlobalModelPrivacy, ...]:
    """Return epsilon at `delta` for each number of `OTHERS`.

    Args:
        events: Trainings of rounds, one event each.
        delta: Of the figures.
        alone: Trainings that count with this institution's own noise.
    """
    own = list(alone)

    def seen(others: int) -> list[DpSgdEvent]:
        return [*own, *seen_in_global_models((event, alike(others)) for event in events)]

    return tuple(GlobalModelPrivacy(others=n, epsilon=epsilon(seen(n), delta), delta=delta) for n in OTHERS)


def keeps_tensors(part: PersonalRecord | None) -> bool:
    """Return whether own tensors stay from round to round, so that the noise of others is not counted on."""
    return part is not None and part.method in KEEPING
