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
    """Who may no longer connect: every certificate of a name, or single certificates by serial (hex)."""

    names: frozenset[str] = frozenset()
    serials: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the list. An absent file is an empty list.

        Raises:
            EnrolmentError: the file is not such a list. Nobody may be let in then.
        """
        try:
            with path.open("rb") as file:
                fields = parse_object(file.read(_MAX_BYTES))
            names, serials = fields.pop("names"), fields.pop("serials")
            if fields != {"format": _FORMAT} or not all(isinstance(entry, str) for entry in (*names, *serials)):
                raise ValueError
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError):
            raise EnrolmentError(f"{path}: not a list of revocations: restore it from its backup") from None
        except OSError as error:
            raise EnrolmentError(f"{path}: cannot be read ({error.strerror})") from None
        return cls(frozenset(names), frozenset(serials))

    def save(self, path: Path) -> None:
        """Write the list, sorted."""
        lists = {"names": sorted(self.names), "serials": sorted(self.serials)}
        write_atomic(path, canonical({"format": _FORMAT, **lists}) + b"\n", mode=0o600)

    def revoke(self, name: str, serials: Iterable[str]) -> Self:
        """The list with `name` and its certificates on it."""
        return type(self)(self.names | {name}, self.serials | set(serials))

    def readmit(self, name: str) -> Self:
        """The list without `name`, whose old certificates stay on it: for an enrolment with new keys."""
        return type(self)(self.names - {name}, self.serials)

    def covers(self, certificate: Certificate) -> bool:
        """Whether this certificate is revoked, by its own serial or by its name."""
        return certificate.name in self.names or certificate.serial in self.serials
