"""A federation without models: institutions, a hub between them, and rounds with absences at every exchange."""

from collections.abc import Collection
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.identity.keys import PrivateKeys
from common.secure_aggregation.aggregator import Aggregator, RoundSum
from common.secure_aggregation.participant import Participant
from common.secure_aggregation.sums import SumRange
from common.secure_aggregation.terms import Terms

SIZE = 7
RANGE = SumRange(32, 2**20)


@cache
def keys_of(name: str) -> PrivateKeys:
    return PrivateKeys.generate(name)


def terms_of(names: Collection[str], threshold: int, honest: int, rounds: int = 2, run_id: str = "run") -> Terms:
    roster = tuple(keys_of(name).public for name in sorted(names))
    return Terms(run_id, "c" * 64, 1, rounds, threshold, honest, roster)


class Federation:
    """All parties of one session, after its shares were dealt.

    Args:
        number: Institutions in the roster.
        absent: Those that do not answer at each of the three exchanges before the first round.
    """

    def __init__(
        self,
        number: int,
        threshold: int,
        honest: int,
        rounds: int = 2,
        absent: tuple[Collection[str], Collection[str], Collection[str]] = ((), (), ()),
    ) -> None:
        self.names = tuple(f"bank{place:02d}" for place in range(number))
        self.terms = terms_of(self.names, threshold, honest, rounds)
        self.parties = {name: Participant(keys_of(name), self.terms, self.terms.keys, 64) for name in self.names}
        self.hub = Aggregator(self.terms)
        for name in self.names:
            if name not in absent[0]:
                self.hub.announce(name, self.parties[name].announce())
        for name in self.hub.announcements:
            if name not in absent[1]:
                self.hub.deal(name, self.parties[name].deal(RANGE.bits, self.hub.announcements))
        for name in self.hub.dealers():
            if name not in absent[2]:
                self.hub.pads(name, self.parties[name].receive(self.hub.packets_for(name)))
        self.members = self.hub.members

    def masked(self, round_: int, values: dict[str, NDArray[np.int64]], absent: Collection[str] = ()) -> RoundSum:
        """Return the round's sum with the masked integers of all members that are present."""
        total = self.hub.begin(round_, RANGE, SIZE)
        for name in self.members:
            if name not in absent:
                total.add(name, self.parties[name].mask(round_, self.members, values[name], RANGE))
        return total

    def confirm(self, total: RoundSum, round_: int, absent: Collection[str] = ()) -> None:
        for name in total.survivors:
            if name not in absent:
                total.confirm(name, self.parties[name].confirm(round_, total.survivors))

    def unmask(self, total: RoundSum, round_: int, absent: Collection[str] = ()) -> None:
        for name in total.signatures:
            if name not in absent:
                total.unmask(name, self.parties[name].unmask(round_, total.signatures))

    def round(
        self,
        round_: int,
        values: dict[str, NDArray[np.int64]],
        absent: tuple[Collection[str], Collection[str], Collection[str]] = ((), (), ()),
    ) -> tuple[RoundSum, NDArray[np.int64]]:
        """Return the round and its sum, with those that are absent from the integers, the set and the unmasking."""
        total = self.masked(round_, values, absent[0])
        self.confirm(total, round_, absent[1])
        self.unmask(total, round_, absent[2])
        return total, total.total()


def values_of(names: Collection[str], seed: int) -> dict[str, NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    return {name: draw.integers(-(2**20), 2**20, SIZE) for name in names}


def slow_sum(values: dict[str, NDArray[np.int64]], names: Collection[str], bits: int = 32) -> list[int]:
    """The sum in plain Python, modulo 2^bits, as a signed number."""
    total = [0] * SIZE
    for name in names:
        for place, value in enumerate(values[name].tolist()):
            total[place] = (total[place] + value) % 2**bits
    return [number - 2**bits if number >= 2 ** (bits - 1) else number for number in total]
