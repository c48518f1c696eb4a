"""The hub's side of a session: collect what institutions send, and compute the sum of those that survive.

It checks every answer by itself. One that is wrong is refused, and its institution counts as absent.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from common.errors import SecureAggregationRefused
from common.secure_aggregation.masks import SEED_BYTES, MaskAdder
from common.secure_aggregation.messages import (
    Announcement,
    Confirmation,
    DealtShares,
    Pads,
    Unmasking,
)
from common.secure_aggregation.secrets import KEY_BYTES, RoundDigests, own_key, pad, pair_key
from common.secure_aggregation.session import announced_keys, confirmed_value, session_digest
from common.secure_aggregation.shares import combine, digest
from common.secure_aggregation.sums import SumRange, signed
from common.secure_aggregation.terms import Terms, is_signed

__all__ = ["Aggregator", "RoundSum"]

log = logging.getLogger("fedfin.run")


class Aggregator:
    """The hub in one session. Call its methods in the order in which they stand here."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.announcements: dict[str, bytes] = {}
        self.declared_units: dict[str, int | None] = {}
        self._dealt: dict[str, Mapping[str, bytes]] = {}
        self._digests: dict[str, dict[int, RoundDigests]] = {}
        self._pads: dict[str, Mapping[str, bytes]] = {}
        self._unopened: dict[str, frozenset[str]] = {}

    def announce(self, name: str, answer: Announcement) -> None:
        """Accept the keys of an institution.

        Raises:
            SecureAggregationRefused: It is not in the roster, or did not sign them.
        """
        announced_keys(self.terms, name, answer)
        self.announcements[name] = answer.to_bytes()
        self.declared_units[name] = answer.declared_units

    def deal(self, name: str, answer: DealtShares) -> None:
        """Accept the packets and digests of an institution that announced its keys.

        Raises:
            SecureAggregationRefused: They are not those of this session.
        """
        others = set(self.announcements) - {name}
        if name not in self.announcements or set(answer.packets) != others:
            _refuse(f"{name} did not deal to each institution that announced its keys")
        place = (len(self.terms.roster), self.terms.numbers[name])
        size = RoundDigests.size(*place)
        if len(answer.digests) != size * self.terms.rounds:
            _refuse(f"the digests of {name} have another length")
        parts = [answer.digests[start : start + size] for start in range(0, len(answer.digests), size)]
        rounds = range(self.terms.first_round, self.terms.first_round + self.terms.rounds)
        read = (RoundDigests.from_bytes(part, *place) for part in parts)
        self._dealt[name], self._digests[name] = answer.packets, dict(zip(rounds, read, strict=True))

    def dealers(self) -> tuple[str, ...]:
        """Return the institutions that dealt shares, sorted."""
        return tuple(sorted(self._dealt))

    def packets_for(self, name: str) -> dict[str, bytes]:
        """Return the packets that others sealed to an institution."""
        return {dealer: packets[name] for dealer, packets in self._dealt.items() if dealer != name}

    def pads(self, name: str, answer: Pads) -> None:
        """Accept the encrypted keys of an institution that dealt shares.

        Raises:
            SecureAggregationRefused: They are not those of this session.
        """
        numbers = self.terms.numbers
        unopened = frozenset(answer.unopened)
        if name not in self._dealt or not unopened <= self._dealt.keys() - {name}:
            _refuse(f"{name} dealt no shares, or names packets that it did not get")
        if set(answer.pads) != {each for each in self._dealt if numbers[each] < numbers[name]} - unopened:
            _refuse(f"the pads of {name} are not those of the institutions before it")
        if any(len(each) != KEY_BYTES * self.terms.rounds for each in answer.pads.values()):
            _refuse(f"the pads of {name} have another length")
        for dealer in answer.unopened:
            log.warning("secure aggregation: %s says that the packet of %s does not open", name, dealer)
        self._pads[name], self._unopened[name] = answer.pads, unopened

    @property
    def members(self) -> tuple[str, ...]:
        """The institutions that mask with each other, sorted: all that answered, and opened each other's packets.

        If one says that the packet of another does not open, either of them may be at fault. A dealer is left out if
        two or more say so, and more than may work with the hub. Otherwise the one that says so is left out. So those
        that lie put nobody out but themselves, as long as they are no more than may work with the hub.
        """
        most = max(1, self.terms.threshold - self.terms.honest)
        named = Counter(dealer for unopened in self._unopened.values() for dealer in unopened)
        kept = {name for name in self._pads if named[name] <= most}
        return tuple(sorted(name for name in kept if not self._unopened[name] & kept))

    @property
    def session(self) -> str:
        """Digest of all announcements."""
        return session_digest(self.announcements)

    def begin(self, round_: int, range_: SumRange, size: int) -> "RoundSum":
        """Return the empty sum of a round.

        Args:
            round_: The round.
            range_: Range of the sums.
            size: Number of integers.
        """
        digests = {name: self._digests[name][round_] for name in self.members}
        start = KEY_BYTES * (round_ - self.terms.first_round)
        pads = {
            name: {dealer: each[start : start + KEY_BYTES] for dealer, each in self._pads[name].items()}
            for name in self.members
        }
        value = confirmed_value(self.session, self.members)
        return RoundSum(self.terms, round_, self.members, range_, size, digests, pads, value)


class RoundSum:
    """The sum of one round. Made by `Aggregator.begin`."""

    def __init__(
        self,
        terms: Terms,
        round_: int,
        members: tuple[str, ...],
        range_: SumRange,
        size: int,
        digests: Mapping[str, RoundDigests],
        pads: Mapping[str, Mapping[str, bytes]],
        value: str,
    ) -> None:
        self._terms, self._round, self.members = terms, round_, members
        self._digests, self._pads, self._value = digests, pads, value
        self._total: NDArray[np.unsignedinteger] = np.zeros(size, dtype=range_.dtype)
        self._survivors: list[str] = []
        self.signatures: dict[str, bytes] = {}
        self._own_seeds: dict[str, bytes] = {}
        self._shares: dict[str, dict[int, bytes]] = {}

    def add(self, name: str, values: bytes) -> None:
        """Add the masked integers of a member.

        Raises:
            SecureAggregationRefused: It is no member, was added before, or sent another number of integers.
        """
        if name not in self.members or name in self._survivors:
            _refuse(f"{name} is no member of this session, or sent its integers twice")
        if len(values) != self._total.nbytes:
            _refuse(f"{name} sent another number of integers")
        self._total += np.frombuffer(values, dtype=self._total.dtype)
        self._survivors.append(name)

    @property
    def survivors(self) -> tuple[str, ...]:
        """The members whose integers are in the sum, sorted."""
        return tuple(sorted(self._survivors))

    def confirm(self, name: str, answer: Confirmation) -> None:
        """Accept the signature of a survivor over all survivors.

        Raises:
            SecureAggregationRefused: It is not the signature of a survivor.
        """
        place = (self._terms, "survivors", self._round, self.survivors, self._value)
        if name not in self._survivors or not is_signed(answer.signature, self._terms.keys[name], *place):
            _refuse(f"{name} did not sign the survivors")
        self.signatures[name] = answer.signature

    def unmask(self, name: str, answer: Unmasking) -> None:
        """Accept the own mask of a survivor and its shares of the others. Those that are wrong are not used.

        Raises:
            SecureAggregationRefused: It is no survivor, or sent shares of others than the members.
        """
        if name not in self._survivors or set(answer.shares) != set(self.members) - {name}:
            _refuse(f"{name} is no survivor, or sent shares of others than the members")
        if digest(answer.seed) == self._digests[name].own_seed:
            self._own_seeds[name] = answer.seed
        else:
            log.warning("round %d: the own mask of %s is wrong: it is taken from the shares", self._round, name)
        number = self._terms.numbers[name]
        for owner, share in answer.shares.items():
            known = self._digests[owner]
            right = known.own_shares if owner in self._survivors else known.pair_shares
            # Two institutions that work together can have the digest of a share of another length.
            if len(share) == SEED_BYTES and digest(share) == right[number - 1]:
                self._shares.setdefault(owner, {})[number] = share
            else:
                log.warning("round %d: the share of %s that %s sent is wrong: not used", self._round, owner, name)

    def total(self) -> NDArray[np.int64]:
        """Take all masks off and return the sum of the survivors' integers, (P,).

        Raises:
            SecureAggregationRefused: Too few members survived, too few right shares of a secret came, or a member had
                dealt wrong ones.
        """
        if len(self._survivors) < self._terms.threshold:
            _refuse(f"{len(self._survivors)} institutions survived, and the threshold is {self._terms.threshold}")
        adder = MaskAdder(self._total.copy())
        for name in self.survivors:
            seed = self._own_seeds.get(name)
            if seed is None:
                seed = self._combined(name, self._digests[name].own_seed)
            adder.subtract(own_key(seed, self._terms, self._round, name))
        for absent in sorted(set(self.members) - set(self._survivors)):
            pair_seed = self._combined(absent, self._digests[absent].pair_seed)
            for name in self.survivors:
                key, chosen_by_absent = self._pair_key(pair_seed, absent, name)
                # The survivor subtracted the mask that the absent one chose, and added the one that it chose itself.
                (adder.add if chosen_by_absent else adder.subtract)(key)
        return signed(adder.total)

    def _combined(self, owner: str, expected: bytes) -> bytes:
        shares = self._shares.get(owner, {})
        if len(shares) < self._terms.threshold:
            _refuse(f"{len(shares)} right shares of {owner} came, and the threshold is {self._terms.threshold}")
        secret = combine(shares, self._terms.threshold)
        if digest(secret) != expected:
            _refuse(f"{owner} dealt shares of another secret")
        return secret

    def _pair_key(self, pair_seed: bytes, absent: str, name: str) -> tuple[bytes, bool]:
        """Return the key of a pair by the second secret of its absent member, and whether that one chose it."""
        numbers = self._terms.numbers
        if numbers[absent] < numbers[name]:
            key, chooser, other, first = pair_key(pair_seed, self._terms, self._round, absent, name), absent, name, True
        else:
            hidden = self._pads[absent][name]
            key = pad(pair_seed, self._terms, self._round, name, absent, hidden)
            chooser, other, first = name, absent, False
        if digest(key) != self._digests[chooser].pair_keys[numbers[other] - 1]:
            _refuse(f"{absent} encrypted another key than {name} chose")
        return key, first


def _refuse(why: str) -> NoReturn:
    raise SecureAggregationRefused("error", f"secure aggregation: {why}")
