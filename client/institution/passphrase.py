"""Encrypt the private keys of an institution that is there, or change their passphrase."""

from collections.abc import Callable, Sequence

from client.institution.directory import InstitutionDirectory
from client.institution.node_keys import load_node_key, write_node_key, write_tls_key
from client.institution.paths import Slot
from client.institution.sharing import secret_mode
from client.node.processes import is_started
from common.errors import ServiceError
from common.identity.passphrase import Lock, is_encrypted, unlock
from common.identity.x509 import load_key

__all__ = ["set_passphrase"]


def set_passphrase(
    home: InstitutionDirectory, choose: Callable[[], bytes], slots: Sequence[Slot] = tuple(Slot)
) -> None:
    """Encrypt all private keys with a passphrase, or change it. Continue after an interruption.

    A change replaces one file. To encrypt the keys, each of their files is replaced, and the institution can be used
    between two of these replacements with the new passphrase.

    Args:
        home: The institution's directory.
        choose: Returns the new passphrase, once the present one was right.
        slots: The keys whose passphrase changes. If no key is encrypted yet, all are encrypted.

    Raises:
        ServiceError: The keys are not encrypted, and a process of the institution runs.
        PassphraseError: The present passphrase is missing or wrong.
        ConfigurationError: There is no institution.
        EnrolmentError, EnvelopeError: A key is damaged.
    """
    home.settings()
    if home.lock_path.exists():
        for slot in slots:
            unlock(home.lock_path, slot)
        Lock.read(home.lock_path).change(slots, choose())
    else:
        if is_started(home):
            raise ServiceError(f"{home.directory}: it is started: stop it, and encrypt its keys then")
        home.keys()
        slots = tuple(Slot)
        Lock.create(home.lock_path, tuple(Slot), choose(), mode=secret_mode(home.tls))
    _encrypt(home, slots)


def _encrypt(home: InstitutionDirectory, slots: Sequence[Slot]) -> None:
    """Replace the files that are not encrypted."""
    if Slot.KEYS in slots and not is_encrypted(home.keys_path / "private.json"):
        home.keys().save(home.keys_path, home.secret(Slot.KEYS))
    if Slot.NODE in slots:
        secret = home.secret(Slot.NODE)
        if not is_encrypted(home.tls_key_path):
            write_tls_key(home, load_key(home.tls_key_path.read_bytes()), secret)
        if not is_encrypted(home.node_key_path):
            write_node_key(home, load_node_key(home.node_key_path.read_bytes()), secret)
