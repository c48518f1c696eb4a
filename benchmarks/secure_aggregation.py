"""Bytes and processor time of secure aggregation, and random absences. `python -m benchmarks.secure_aggregation`

No model is trained: each institution has random integers. A session of two rounds is measured for each number of
institutions. The bytes are those of a session of 32 rounds, without the envelopes to the hub (some 2 kB a message).

In the random absences the hub lies too: it asks each institution for another set, for the round once more, and for its
shares with fewer signatures. All that is released in a session is then searched for shares of both kinds and for masks
that were used twice.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar
from unittest.mock import patch

import numpy as np

from common.errors import SecureAggregationRefused
from common.identity.keys import PrivateKeys
from common.secure_aggregation.aggregator import Aggregator, RoundSum
from common.secure_aggregation.masks import SEED_BYTES, MaskAdder
from common.secure_aggregation.messages import Unmasking
from common.secure_aggregation.participant import Participant
from common.secure_aggregation.secrets import KEY_BYTES
from common.secure_aggregation.shares import digest
from common.secure_aggregation.sums import SumRange
from common.secure_aggregation.terms import MOST_ROUNDS, Terms

NUMBERS = 300_000
INSTITUTIONS = (2, 5, 10, 20, 50)
RANGE = SumRange(32, 2**20)
ROUNDS = 2
ROUNDS_OF_PATTERNS = 8
P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """Processor seconds of the hub, and of all institutions together, and bytes that institutions send."""

    def __init__(self) -> None:
        self.hub = self.institutions = 0.0
        self.bytes_up = 0

    def at_hub(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        started = time.process_time()
        found = call(*args, **named)
        self.hub += time.process_time() - started
        return found

    def at_institution(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        started = time.process_time()
        found = call(*args, **named)
        self.institutions += time.process_time() - started
        self.bytes_up += len(found) if isinstance(found, bytes) else len(getattr(found, "to_bytes", bytes)())
        return found


class Bench:
    """One session of `number` institutions, of which two thirds give a sum."""

    def __init__(self, number: int, size: int, clock: Clock, rounds: int = ROUNDS) -> None:
        self.clock, self.size = clock, size
        keys = [PrivateKeys.generate(f"bank{place:02d}") for place in range(number)]
        threshold = max(2, (2 * number + 2) // 3)
        honest = max(2, number - threshold + 1)
        self.terms = Terms("run", "c" * 64, 1, rounds, max(threshold, honest), honest, tuple(k.public for k in keys))
        self.parties = {k.name: Participant(k, self.terms, self.terms.keys, 256) for k in keys}
        self.hub = Aggregator(self.terms)
        self.once = 0
        """Bytes of the session's start that do not grow with its rounds, of all institutions."""
        for name, party in self.parties.items():
            answer = clock.at_institution(party.announce)
            self.once += len(answer.to_bytes())
            clock.at_hub(self.hub.announce, name, answer)
        for name, party in self.parties.items():
            dealt = clock.at_institution(party.deal, 32, self.hub.announcements)
            # A packet holds two shares a round, and a key if the other one has a higher number.
            held = sum(2 * SEED_BYTES + (KEY_BYTES if other > name else 0) for other in dealt.packets)
            self.once += sum(map(len, dealt.packets.values())) - rounds * held
            clock.at_hub(self.hub.deal, name, dealt)
        for name, party in self.parties.items():
            pads = clock.at_institution(party.receive, self.hub.packets_for(name))
            clock.at_hub(self.hub.pads, name, pads)

    def round(self, round_: int, lost: tuple[set[str], set[str], set[str]], draw: np.random.Generator) -> int:
        """Return the number of summands. The sum is compared with a plain one.

        Raises:
            SecureAggregationRefused: There is no sum.
            AssertionError: The sum is wrong.
        """
        clock, members = self.clock, self.hub.members
        total = self.hub.begin(round_, RANGE, self.size)
        plain = np.zeros(self.size, dtype=np.int64)
        for name in members:
            values = draw.integers(-(2**20), 2**20, self.size)
            party = self.parties[name]
            sent = clock.at_institution(party.mask, round_, members, values, RANGE)
            if name not in lost[0]:
                plain += values
                clock.at_hub(total.add, name, sent)
        for name in total.survivors:
            if name not in lost[1]:
                signed = clock.at_institution(self.parties[name].confirm, round_, total.survivors)
                clock.at_hub(total.confirm, name, signed)
        for name in tuple(total.signatures):
            if name not in lost[2]:
                shares = clock.at_institution(self.parties[name].unmask, round_, total.signatures)
                self.released(total, name, shares)
                clock.at_hub(total.unmask, name, shares)
        found = clock.at_hub(total.total)
        if not np.array_equal(found, plain):
            raise AssertionError("the sum is wrong")
        return len(total.survivors)

    def released(self, total: RoundSum, name: str, answer: Unmasking) -> None:
        """Do nothing. `Watched` looks at what an institution released."""


class Watched(Bench):
    """A session in which the hub lies, and in which everything that institutions release is looked at.

    Raises:
        AssertionError: In `round`: an institution broke one of its rules.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, 5, Clock(), ROUNDS_OF_PATTERNS)
        self._kinds: dict[tuple[int, str, str], set[str]] = {}
        self.masks = Counter[bytes]()

    def round(self, round_: int, lost: tuple[set[str], set[str], set[str]], draw: np.random.Generator) -> int:
        """Do one round, and then lie to everybody."""
        self._round = round_
        add, subtract = MaskAdder.add, MaskAdder.subtract
        with patch.multiple(MaskAdder, add=self._counted(add), subtract=self._counted(subtract)):
            try:
                return super().round(round_, lost, draw)
            finally:
                self._lie(round_, draw)

    def released(self, total: RoundSum, name: str, answer: Unmasking) -> None:
        """Note of which secret of each other institution this one gave a share, by the digests that the hub has."""
        place = self.terms.numbers[name] - 1
        for owner, share in answer.shares.items():
            known = self.hub._digests[owner][self._round]
            of = {known.own_shares[place]: "own", known.pair_shares[place]: "pair"}
            kinds = self._kinds.setdefault((self._round, name, owner), set())
            kinds.add(of[digest(share)])
            if len(kinds) > 1:
                raise AssertionError("an institution gave shares of both secrets of another one")

    def _counted(self, change: Callable[[MaskAdder, bytes], None]) -> Callable[[MaskAdder, bytes], None]:
        def noted(adder: MaskAdder, key: bytes) -> None:
            if sys._getframe(1).f_code.co_name == "mask":
                self.masks[key] += 1
            change(adder, key)

        return noted

    def _lie(self, round_: int, draw: np.random.Generator) -> None:
        members, least = self.hub.members, self.terms.threshold
        for name, party in self.parties.items():
            others = [other for other in members if other != name]
            chosen = tuple(sorted([name, *draw.permutation(others)[: least - 1].tolist()]))
            values = np.zeros(self.size, dtype=np.int64)
            for question in (
                partial(party.mask, round_, members, values, RANGE),
                partial(party.confirm, round_, chosen),
                partial(party.unmask, round_, dict.fromkeys(chosen, b"")),
            ):
                with suppress(SecureAggregationRefused):
                    answer = question()
                    if isinstance(answer, bytes):
                        raise AssertionError("an institution masked a round twice")
                    if isinstance(answer, Unmasking):
                        self.released(self.hub.begin(round_, RANGE, self.size), name, answer)


def measure(number: int) -> str:
    """Return one line of the table."""
    draw, start = np.random.default_rng(number), Clock()
    bench = Bench(number, NUMBERS, start)
    names = sorted(bench.parties)
    lost = set(names[: min(5, number - bench.terms.threshold)])
    clocks = (Clock(), Clock())
    for round_, (clock, gone) in enumerate(zip(clocks, (set(), lost), strict=True), start=1):
        bench.clock = clock
        bench.round(round_, (gone, set(), set()), draw)
    all_there, some_gone = clocks
    each_round = all_there.bytes_up + (start.bytes_up - bench.once) / ROUNDS
    up = (each_round + bench.once / MOST_ROUNDS) / number
    return (
        f"{number:>4}{bench.terms.threshold:>10}{up / 4 / NUMBERS:>12.4f}{(up - 4 * NUMBERS) / number:>12.0f}"
        f"{start.institutions / number / ROUNDS:>10.3f}{all_there.institutions / number:>10.3f}"
        f"{all_there.hub:>8.3f}{len(lost):>6}{some_gone.hub:>8.3f}"
    )


def patterns(wanted: int, seed: int) -> tuple[int, int]:
    """Return how many random patterns of absences gave the exact sum, and how many gave none."""
    draw, summed, failed = random.Random(seed), 0, 0  # noqa: S311 - nothing secret is drawn
    while summed + failed < wanted:
        number = draw.randint(3, 50)
        bench = Watched(number)
        names = sorted(bench.parties)
        for round_ in range(1, min(ROUNDS_OF_PATTERNS, wanted - summed - failed) + 1):
            lost: tuple[set[str], set[str], set[str]] = (set(), set(), set())
            for name in draw.sample(names, draw.randint(0, number // 2)):
                lost[draw.randrange(3)].add(name)
            try:
                bench.round(round_, lost, np.random.default_rng(draw.randrange(2**32)))
                summed += 1
            except SecureAggregationRefused:
                failed += 1
        # Two institutions take the mask of a pair, and one takes its own.
        if max(bench.masks.values()) > 2 or 1 not in bench.masks.values():
            raise AssertionError("a mask was used twice")
    return summed, failed


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, default=100, help="random patterns of absences (0 leaves them out)")
    parser.add_argument("--institutions", type=int, nargs="+", default=INSTITUTIONS)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"{NUMBERS:,} numbers of 32 bits; processor seconds; institution: start and round are for one round")
    print(
        f"{'n':>4}{'threshold':>10}{'times 4 B':>12}{'B by peer':>12}{'start':>10}{'round':>10}{'hub':>8}{'gone':>6}"
        f"{'hub':>8}"
    )
    for number in args.institutions:
        print(measure(number), flush=True)
    if args.patterns:
        summed, failed = patterns(args.patterns, args.seed)
        print(f"{args.patterns} patterns of absences, n from 3 to 50: {summed} exact sums, {failed} rounds without one")


if __name__ == "__main__":
    main()
