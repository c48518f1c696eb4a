"""The roster: institutions that the officer approved for secure aggregation, as files `peers/NAME.json`.

An institution counts these alone. Whom the hub enrols makes no difference. Each file is the `keys/public.json` of the
other institution, kept after two people have compared its fingerprint.
"""

import errno

from client.institution.directory import InstitutionDirectory
from common.errors import ConfigurationError, EnrolmentError, EnvelopeError
from common.files import write_atomic
from common.identity.enrolment import is_fingerprint
from common.identity.keys import PublicKeys

__all__ = ["add_peer", "read_peers", "remove_peer"]


def read_peers(home: InstitutionDirectory) -> dict[str, PublicKeys]:
    """Return the public keys of all approved institutions, by name.

    Raises:
        EnvelopeError: A file is damaged, or holds the keys of another institution than its name says.
    """
    found = {}
    for path in sorted(home.peers.glob("*.json")):
        keys = PublicKeys.load(path)
        if path.stem != keys.name:
            raise EnvelopeError("keys", f"{path}: it holds the keys of {keys.name}: remove it, and add the peer again")
        found[keys.name] = keys
    return found


def add_peer(home: InstitutionDirectory, keys: PublicKeys, fingerprint: str | None) -> None:
    """Approve an institution.

    Args:
        home: The directory of this institution.
        keys: Public keys of the other one.
        fingerprint: Their fingerprint, as the other institution reads it out.

    Raises:
        EnrolmentError: The fingerprint is absent or another one, the name or a key is this institution's own, the name
            was approved with other keys, or a key or a name that sounds alike was approved before. Nothing was
            changed.
        EnvelopeError: See `read_peers`.
        ConfigurationError: The file cannot be written.
    """
    what = f"peer {keys.name}"
    if fingerprint is None:
        raise EnrolmentError(f"{what}: give --fingerprint, as {keys.name} reads it out over another channel")
    if not is_fingerprint(keys.fingerprint, fingerprint):
        raise EnrolmentError(f"{what}: its fingerprint is another one: do not use the file, call {keys.name}")
    own = home.public_keys()
    if keys.name == own.name:
        raise EnrolmentError(f"{what}: this institution has that name: add the others alone")
    known = read_peers(home)
    if known.get(keys.name) not in (None, keys):
        raise EnrolmentError(f"{what}: it was approved with other keys: `peers remove` it first if it has new ones")
    for name, other in {own.name: own, **known}.items():
        if name != keys.name and (other.signing == keys.signing or other.sealing == keys.sealing):
            # One institution under two names would count as two.
            raise EnrolmentError(f"{what}: {name} has the same keys: do not use the file, call {keys.name}")
        if name != keys.name and _spoken(name) == _spoken(keys.name):
            raise EnrolmentError(f"{what}: its name sounds like {name}: agree with {keys.name} on another one")
    try:
        home.peers.mkdir(mode=0o700, exist_ok=True)
        write_atomic(home.peers / f"{keys.name}.json", keys.to_json().encode() + b"\n", mode=0o600)
    except OSError as error:
        raise _unwritable(home, error) from None


def remove_peer(home: InstitutionDirectory, name: str) -> None:
    """Withdraw the approval of an institution. It holds from the next session on.

    Raises:
        ConfigurationError: No approved institution has that name, or its file cannot be removed.
    """
    known = sorted(path.stem for path in home.peers.glob("*.json"))
    if name not in known:
        there_are = f"approved are {', '.join(known)}" if known else "none is approved, so there is nothing to remove"
        raise ConfigurationError(f"peer {name[:80]!r}: no approved institution has that name: {there_are}")
    try:
        (home.peers / f"{name}.json").unlink()
    except OSError as error:
        raise _unwritable(home, error) from None


def _spoken(name: str) -> str:
    """Return the words of a name without capitals and with one mark between them, as two people hear it."""
    return " ".join("".join(mark if mark.isalnum() else " " for mark in name.casefold()).split())


def _unwritable(home: InstitutionDirectory, error: OSError) -> Exception:
    """Return the error to raise. That of a full disk is not changed, since the command says it itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    return ConfigurationError(f"{home.peers}: cannot be changed ({error.strerror}): see its files and their rights")
