"""The terms of a session of secure aggregation: run, rounds, parties and assumption, and the texts that are signed."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from cryptography.exceptions import InvalidSignature

from common.canonical import MAX_ROUND, canonical, is_name, parse_object
from common.errors import EnvelopeError, SecureAggregationRefused
from common.identity.keys import PrivateKeys, PublicKeys

__all__ = ["MOST_INSTITUTIONS", "MOST_ROUNDS", "Terms", "is_signed", "sign"]

MOST_ROUNDS = 32
"""Rounds of one session, whose shares are dealt ahead in one message."""
MOST_INSTITUTIONS = 1000
_SIGNED = b"fedfin secure aggregation 1 signature\n"


@dataclass(frozen=True)
class Terms:
    """The terms of one session.

    Attributes:
        run_id: Name of the run.
        config_digest: SHA-256 of the run's configuration, in hex.
        first_round, rounds: The rounds of the session, at most `MOST_ROUNDS`.
        threshold: Contributions that a round needs, and shares that give a secret.
        honest: Institutions assumed honest among any `threshold` of the roster.
        roster: Public keys of all institutions of the run, sorted by name.

    Raises:
        SecureAggregationRefused: Values that give no guarantee.
    """

    run_id: str
    config_digest: str
    first_round: int
    rounds: int
    threshold: int
    honest: int
    roster: tuple[PublicKeys, ...]

    def __post_init__(self) -> None:
        numbers = (self.first_round, self.rounds, self.threshold, self.honest)
        if not is_name(self.run_id) or not is_name(self.config_digest) or any(type(n) is not int for n in numbers):
            raise SecureAggregationRefused("config", "secure aggregation: a field of its terms is of another kind")
        if not (1 <= self.first_round <= MAX_ROUND and 1 <= self.rounds <= MOST_ROUNDS):
            raise SecureAggregationRefused("config", f"secure aggregation: a session has 1 to {MOST_ROUNDS} rounds")
        if not 2 <= self.honest <= self.threshold:
            raise SecureAggregationRefused("config", "secure aggregation: honest is 2 or more, and at most threshold")
        if list(self.names) != sorted(set(self.names)):
            raise SecureAggregationRefused("config", "secure aggregation: the roster is not sorted, or names one twice")
        number = len(self.roster)
        if not self.threshold <= number <= MOST_INSTITUTIONS or self.threshold + self.honest <= number:
            raise SecureAggregationRefused(
                "config",
                f"secure aggregation: {number} institutions, threshold {self.threshold} and honest {self.honest}: the "
                "hub could get two different sums of one round",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the roster, sorted."""
        return tuple(keys.name for keys in self.roster)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each institution, from 1, in order of name."""
        return {name: number for number, name in enumerate(self.names, start=1)}

    @cached_property
    def keys(self) -> dict[str, PublicKeys]:
        """Public keys by name."""
        return {keys.name: keys for keys in self.roster}

    def to_json(self) -> str:
        """Return canonical JSON. Equal terms give equal text."""
        fields = {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
        return canonical(fields | {"roster": [keys.to_json() for keys in self.roster]}).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text that `to_json` wrote, and nothing else.

        Raises:
            SecureAggregationRefused: On any other text.
        """
        try:
            fields = parse_object(text)
            terms = cls(**{**fields, "roster": tuple(PublicKeys.from_json(each) for each in fields["roster"])})
            if terms.to_json() != text:
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError, EnvelopeError):
            raise SecureAggregationRefused("config", "secure aggregation: its terms cannot be read") from None
        return terms

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class _Signed:
    """The content of a signature. `kind` keeps texts of different uses apart."""

    kind: str
    terms: str
    round: int
    names: tuple[str, ...]
    value: str


def _text(terms: Terms, kind: str, round_: int, names: Iterable[str], value: str) -> bytes:
    fields: dict[str, Any] = asdict(_Signed(kind, terms.digest, round_, tuple(names), value))
    return _SIGNED + canonical(fields)


def sign(keys: PrivateKeys, terms: Terms, kind: str, round_: int, names: Iterable[str], value: str) -> bytes:
    """Return the signature of an institution over a value of a session.

    Args:
        keys: The institution's keys.
        terms: Terms of the session, which name run, configuration and roster.
        kind: Use of the value.
        round_: Round that it belongs to.
        names: Institutions that it concerns.
        value: The value itself.
    """
    return keys.signing_key.sign(_text(terms, kind, round_, names, value))


def is_signed(
    signature: bytes, signer: PublicKeys, terms: Terms, kind: str, round_: int, names: Iterable[str], value: str
) -> bool:
    """Return whether `signature` is that of `sign` with the keys of `signer`."""
    try:
        signer.signing_key.verify(signature, _text(terms, kind, round_, names, value))
    except InvalidSignature:
        return False
    return True
