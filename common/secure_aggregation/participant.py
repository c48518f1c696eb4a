"""The institution's side of a session. It trusts neither the hub nor any other institution.

Its own rules, whatever it is asked: it counts only institutions that its officer approved, masks a round once, signs
one set of survivors a round, and releases for each other institution one share of one of its two secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from common.errors import EnvelopeError, SecureAggregationRefused
from common.identity.keys import PrivateKeys, PublicKeys
from common.protocol.envelope import open_sealed, seal
from common.secure_aggregation.masks import SEED_BYTES, MaskAdder
from common.secure_aggregation.messages import Announcement, Confirmation, DealtShares, Pads, Unmasking
from common.secure_aggregation.secrets import KEY_BYTES, RoundDigests, RoundSecrets, own_key, pad, pair_key
from common.secure_aggregation.session import (
    announced_keys,
    announced_value,
    confirmed_value,
    packet_context,
    session_digest,
)
from common.secure_aggregation.sums import SumRange
from common.secure_aggregation.terms import Terms, is_signed, sign

__all__ = ["Participant"]


@dataclass
class _Masked:
    """The round that was masked last, and everything that was said about it."""

    round: int
    survivors: tuple[str, ...] = ()
    released: Unmasking | None = None


class Participant:
    """One institution in one session.

    Args:
        keys: The institution's own keys.
        terms: Terms that the hub proposes.
        approved: Public keys of the institutions that the officer approved, by name.
        declared_units: Size that the officer declares, or None.

    Raises:
        SecureAggregationRefused: The roster holds an institution that the officer did not approve, or not this one.
    """

    def __init__(
        self, keys: PrivateKeys, terms: Terms, approved: Mapping[str, PublicKeys], declared_units: int | None
    ) -> None:
        if terms.keys.get(keys.name) != keys.public:
            _refuse("this institution, with its keys, is not in the roster")
        for name, known in terms.keys.items():
            if name != keys.name and approved.get(name) != known:
                _refuse(f"{name}, with these keys, is not among the institutions that the officer approved")
        self.terms = terms
        self._keys = keys
        # The signing key is the institution's own. The keys to seal to belong to this session alone.
        self._session_keys = replace(
            keys,
            mlkem768=MLKEM768PrivateKey.generate().private_bytes_raw(),
            x25519=X25519PrivateKey.generate().private_bytes_raw(),
        )
        self._declared_units = declared_units
        self._rounds = range(terms.first_round, terms.first_round + terms.rounds)
        self._secrets: dict[int, RoundSecrets] = {}
        self._pair_keys: dict[int, dict[str, bytes]] = {}
        self._held: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        self._announced: dict[str, PublicKeys] = {}
        self._session = ""
        self._members: tuple[str, ...] = ()
        self._masked: _Masked | None = None
        self.bits = 0

    def announce(self) -> Announcement:
        """Return the keys of this session, signed."""
        sealing, units = self._session_keys.public.sealing, self._declared_units
        terms = self.terms
        unsigned = Announcement(terms.digest, terms.first_round, sealing, units, b"")
        value = (terms, "announcement", terms.first_round, (self._keys.name,), announced_value(unsigned))
        return Announcement(terms.digest, terms.first_round, sealing, units, sign(self._keys, *value))

    def deal(self, bits: int, announcements: Mapping[str, bytes]) -> DealtShares:
        """Draw the secrets of all rounds and seal each other institution's part to its announced key.

        Args:
            bits: Width of the sums, 32 or 64.
            announcements: Announcements by institution, this one's among them.

        Raises:
            SecureAggregationRefused: One is not signed by an institution of the roster, too few announced, or shares
                were dealt before.
        """
        if self._announced:
            _refuse("shares of this session were dealt already", "replay")
        found = {
            name: announced_keys(self.terms, name, Announcement.from_bytes(data))
            for name, data in announcements.items()
        }
        if found.get(self._keys.name) != self._session_keys.public:
            _refuse("this institution's own announcement is absent or another")
        if len(found) < self.terms.threshold:
            _refuse(f"{len(found)} institutions announced their keys, and the threshold is {self.terms.threshold}")
        if bits not in (32, 64):
            _refuse("sums have 32 or 64 bits")
        self.bits, self._announced, self._session = bits, found, session_digest(announcements)
        self._secrets = {round_: RoundSecrets.draw(self.terms) for round_ in self._rounds}
        packets = {name: self._packet(name) for name in found if name != self._keys.name}
        digests = [RoundDigests.of(self._secrets[r], self.terms, r, self._keys.name) for r in self._rounds]
        mine = self.terms.numbers[self._keys.name]
        return DealtShares(
            self.terms.digest, self.terms.first_round, packets, b"".join(each.to_bytes(mine) for each in digests)
        )

    def _packet(self, name: str) -> bytes:
        number, chooses = self.terms.numbers[name] - 1, self._chooses(name)
        parts: list[bytes] = []
        for round_, secrets in self._secrets.items():
            parts += [secrets.own_shares[number], secrets.pair_shares[number]]
            if chooses:
                key = pair_key(secrets.pair_seed, self.terms, round_, self._keys.name, name)
                self._pair_keys.setdefault(round_, {})[name] = key
                parts.append(key)
        place = packet_context(self.terms, self._keys.name, name)
        return seal(b"".join(parts), self._session_keys, self._announced[name], place)

    def _chooses(self, name: str) -> bool:
        """Return whether this institution chooses the key of the pair."""
        return self.terms.numbers[self._keys.name] < self.terms.numbers[name]

    def receive(self, packets: Mapping[str, bytes]) -> Pads:
        """Open the packets of others, and encrypt the keys that they chose for the case of this one's absence.

        A dealer whose packet does not open, was made for another session or has another length is named in the answer.
        This institution holds no share of it, and masks no round of which it is a member.

        Raises:
            SecureAggregationRefused: A packet is not of an institution that announced its keys, fewer than the
                threshold hold shares, or packets came before.
        """
        if not self._announced or self._held:
            _refuse("packets come once, after shares were dealt", "replay")
        pads: dict[str, bytes] = {}
        unopened: list[str] = []
        held: dict[int, dict[str, tuple[bytes, bytes]]] = {round_: {} for round_ in self._rounds}
        keys: dict[int, dict[str, bytes]] = {round_: dict(self._pair_keys.get(round_, {})) for round_ in self._rounds}
        for name, packet in packets.items():
            if name == self._keys.name or name not in self._announced:
                _refuse(f"a packet of {name}, that announced no keys")
            place = packet_context(self.terms, name, self._keys.name)
            chosen = not self._chooses(name)
            size = 2 * SEED_BYTES + (KEY_BYTES if chosen else 0)
            try:
                content = open_sealed(packet, self._session_keys, self._announced[name], place)
            except EnvelopeError:
                content = b""
            if len(content) != size * len(self._rounds):
                unopened.append(name)
                continue
            hidden: list[bytes] = []
            for place_, round_ in enumerate(self._rounds):
                part = content[place_ * size : (place_ + 1) * size]
                held[round_][name] = (part[:SEED_BYTES], part[SEED_BYTES : 2 * SEED_BYTES])
                if chosen:
                    key, seed = part[2 * SEED_BYTES :], self._secrets[round_].pair_seed
                    keys[round_][name] = key
                    hidden.append(pad(seed, self.terms, round_, name, self._keys.name, key))
            if chosen:
                pads[name] = b"".join(hidden)
        usable = len(packets) - len(unopened) + 1
        if usable < self.terms.threshold:
            _refuse(f"{usable} institutions dealt shares, and the threshold is {self.terms.threshold}")
        self._held, self._pair_keys = held, keys
        return Pads(self.terms.digest, self.terms.first_round, pads, tuple(sorted(unopened)))

    def check_round(self, round_: int, members: tuple[str, ...]) -> None:
        """Refuse a round that may not be masked. Nothing changes.

        Raises:
            SecureAggregationRefused: It is outside the session or was masked already, the members differ from those of
                the rounds before, or one of them dealt no shares to this institution.
        """
        if round_ not in self._rounds or not self._held:
            _refuse(f"round {round_} is not among those for which shares were dealt")
        if self._masked is not None and round_ <= self._masked.round:
            _refuse(f"round {round_} or a later one was masked already", "replay")
        if self._members and members != self._members:
            _refuse("the members of this session have changed")
        known = {*self._held[round_], self._keys.name}
        if self._keys.name not in members or not known.issuperset(members):
            _refuse("a member of this session dealt no shares to this institution")
        if len(members) < self.terms.threshold:
            _refuse(f"the session has {len(members)} members, and the threshold is {self.terms.threshold}")

    def mask(self, round_: int, members: tuple[str, ...], noised: NDArray[np.int64], range_: SumRange) -> bytes:
        """Return the noised integers of a round under all masks.

        Args:
            round_: The round.
            members: The institutions that mask with each other, sorted.
            noised: (P,) integers within half the modulus.
            range_: Range of the sums.

        Raises:
            SecureAggregationRefused: See `check_round`.
        """
        self.check_round(round_, members)
        self._members, self._masked = members, _Masked(round_)
        adder = MaskAdder(noised.astype(range_.dtype))
        adder.add(own_key(self._secrets[round_].own_seed, self.terms, round_, self._keys.name))
        keys = self._pair_keys.pop(round_)
        for name in members:
            if name != self._keys.name:
                (adder.add if self._chooses(name) else adder.subtract)(keys[name])
        return adder.total.tobytes()

    def confirm(self, round_: int, survivors: tuple[str, ...]) -> Confirmation:
        """Sign the set of institutions whose sums the hub says to have.

        Raises:
            SecureAggregationRefused: Another set of the round was signed, or the set is not one of members that holds
                this institution and reaches the threshold.
        """
        masked = self._of_round(round_)
        if masked.survivors and masked.survivors != survivors:
            _refuse("another set of survivors of this round was signed", "replay")
        if self._keys.name not in survivors or not set(self._members).issuperset(survivors):
            _refuse("the survivors are not members of this session, or this institution is not among them")
        if len(survivors) < self.terms.threshold:
            _refuse(f"{len(survivors)} institutions survived, and the threshold is {self.terms.threshold}")
        masked.survivors = survivors
        value = confirmed_value(self._session, self._members)
        signature = sign(self._keys, self.terms, "survivors", round_, survivors, value)
        return Confirmation(self.terms.digest, round_, signature)

    def unmask(self, round_: int, signatures: Mapping[str, bytes]) -> Unmasking:
        """Release the own mask, and of each other member a share: of its own mask if it survived, else of its pairs.

        Raises:
            SecureAggregationRefused: Fewer survivors than the threshold signed the set that this institution signed.
        """
        masked = self._of_round(round_)
        if not masked.survivors:
            _refuse("no set of survivors of this round was signed")
        if masked.released is not None:
            return masked.released
        value = confirmed_value(self._session, self._members)
        agreed = [
            name
            for name, signature in signatures.items()
            if name in masked.survivors
            and is_signed(signature, self.terms.keys[name], self.terms, "survivors", round_, masked.survivors, value)
        ]
        if len(agreed) < self.terms.threshold:
            _refuse(f"{len(agreed)} institutions signed the survivors, and the threshold is {self.terms.threshold}")
        held = self._held.pop(round_)
        shares = {
            name: held[name][0] if name in masked.survivors else held[name][1]
            for name in self._members
            if name != self._keys.name
        }
        masked.released = Unmasking(self.terms.digest, round_, self._secrets.pop(round_).own_seed, shares)
        return masked.released

    def _of_round(self, round_: int) -> _Masked:
        if self._masked is None or self._masked.round != round_:
            _refuse(f"round {round_} is not the one that was masked last", "replay")
        return self._masked


def _refuse(why: str, code: str = "config") -> NoReturn:
    raise SecureAggregationRefused("replay" if code == "replay" else "config", f"secure aggregation: {why}")
