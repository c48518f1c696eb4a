"""Encrypt the private keys of a hub that is there, or change their passphrase."""

from collections.abc import Callable

from common.errors import ServiceError
from common.files import write_atomic
from common.identity.passphrase import Lock, is_encrypted, unlock
from common.identity.x509 import load_key, private_pem
from server.hub.audit_log import note
from server.hub.directory import HubDirectory
from server.hub.paths import Slot
from server.runs.status import is_started

__all__ = ["set_passphrase"]


def set_passphrase(home: HubDirectory, choose: Callable[[], bytes]) -> None:
    """Encrypt all private keys with a passphrase, or change it. Continue after an interruption.

    A change replaces one file. To encrypt the keys, each of their files is replaced, and the hub can be used between
    two of these replacements with the new passphrase.

    Args:
        home: The hub's directory.
        choose: Returns the new passphrase, once the present one was right.

    Raises:
        ServiceError: The keys are not encrypted, and the hub is started: its processes would not know the passphrase.
        PassphraseError: The present passphrase is missing or wrong.
        EnrolmentError, EnvelopeError: A key is damaged.
    """
    if home.lock_path.exists():
        for slot in Slot:
            unlock(home.lock_path, slot)
        Lock.read(home.lock_path).change(tuple(Slot), choose())
    else:
        if is_started(home):
            raise ServiceError(f"{home.directory}: the hub is started: stop it, and encrypt its keys then")
        home.keys()
        home.authority()
        Lock.create(home.lock_path, tuple(Slot), choose())
    _encrypt(home)
    note(home, "passphrase_set", {"hub": home.public_keys().name})


def _encrypt(home: HubDirectory) -> None:
    """Replace the files that are not encrypted."""
    if not is_encrypted(home.keys_path / "private.json"):
        home.keys().save(home.keys_path, home.secret(Slot.KEYS))
    files = ((home.directory / "ca" / "ca.key", Slot.AUTHORITY), (home.server_key, Slot.GATEWAY))
    for path, slot in files:
        if not is_encrypted(path):
            write_atomic(path, private_pem(load_key(path.read_bytes()), home.secret(slot)), mode=0o600)
