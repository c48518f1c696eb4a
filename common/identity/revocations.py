"""The certificates that the hub's door no longer takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from common.canonical import canonical, parse_object
from common.errors import EnrolmentError
from common.files import write_atomic
from common.identity.authority import Certificate

__all__ = ["Revocations"]

_MAX_BYTES = 2**22
_FORMAT = "fedfin-revocations-1"


@dataclass(frozen=True)
class Revocations:
    """Who may no longer connect: every certificate of a name, or of a serial (hex), or with a key.

    `keys` has the digests of the TLS and node keys that were ever revoked. They stay revoked after a new enrolment.
    """

    names: frozenset[str] = frozenset()
    serials: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the list. An absent file is an empty list.

        Raises:
            EnrolmentError: the file is not such a list. Nobody may be let in then.
        """
        try:
            with path.open("rb") as file:
                fields = parse_object(file.read(_MAX_BYTES))
            names, serials, keys = fields.pop("names"), fields.pop("serials"), fields.pop("keys", [])
            if fields != {"format": _FORMAT} or not all(isinstance(entry, str) for entry in (*names, *serials, *keys)):
                raise ValueError
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError):
            raise EnrolmentError(f"{path}: not a list of revocations: restore it from its backup") from None
        except OSError as error:
            raise EnrolmentError(f"{path}: cannot be read ({error.strerror})") from None
        return cls(frozenset(names), frozenset(serials), frozenset(keys))

    def save(self, path: Path) -> None:
        """Write the list, sorted."""
        lists = {"names": sorted(self.names), "serials": sorted(self.serials), "keys": sorted(self.keys)}
        write_atomic(path, canonical({"format": _FORMAT, **lists}) + b"\n", mode=0o600)

    def revoke(self, name: str, serials: Iterable[str], keys: Iterable[str]) -> Self:
        """The list with `name`, its certificates and its keys on it."""
        return type(self)(self.names | {name}, self.serials | set(serials), self.keys | set(keys))

    def readmit(self, name: str) -> Self:
        """The list without `name`, whose old certificates and keys stay on it: for an enrolment with new keys."""
        return type(self)(self.names - {name}, self.serials, self.keys)

    def covers(self, certificate: Certificate) -> bool:
        """Whether this certificate is revoked, by its serial, its name or its key."""
        return certificate.name in self.names or certificate.serial in self.serials or certificate.key in self.keys
