"""The hub's directory: its keys, its authority, the enrolled institutions, and readers for them."""

import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.canonical import MAX_DECLARED_UNITS
from common.config.token import TokenSettings, token_section
from common.errors import ConfigurationError, EnrolmentError, ServiceError
from common.files import write_atomic
from common.identity.authority import Authority, Certificate, check_addresses, check_name, new_key_and_request
from common.identity.chains import authority_of, read_authorities
from common.identity.enrolment import EnrolmentRequest
from common.identity.keys import PrivateKeys, PublicKeys
from common.identity.passphrase import Lock, unlock
from common.identity.pin import PinSource
from common.identity.revocations import Revocations
from common.identity.tls import split_address
from common.identity.token import TokenKey
from server.hub.config import TEMPLATE, HubConfig, load_hub_config
from server.hub.paths import HubPaths, Slot

if TYPE_CHECKING:
    from common.flower.internals import Control

__all__ = ["APPROVED_UNITS", "ENVIRONMENT", "Enrolled", "HubDirectory"]

ENVIRONMENT = "FEDFIN_HUB"
"""The environment variable that names the hub's directory if a command line does not."""


APPROVED_UNITS = 1024
"""Number of units with which an institution counts at most, if the operator approved no larger one."""
_LARGEST_FILE = 4096


@dataclass(frozen=True)
class Enrolled:
    """One institution: its request, its latest certificate, and whether it is revoked.

    `approved_units` is the largest number of units with which its declared size counts in weights. `own_authority` is
    the approved authority (PEM) of an institution that brings its own certificates, and empty for the others.
    """

    request: EnrolmentRequest
    certificate: Certificate
    revoked: bool
    approved_units: int = APPROVED_UNITS
    own_authority: str = ""

    @property
    def keys(self) -> PublicKeys:
        """The institution's public keys."""
        return self.request.keys


@dataclass(frozen=True)
class HubDirectory(HubPaths):
    """The directory of one hub, with readers for the files there."""

    @classmethod
    def create(
        cls,
        directory: Path,
        name: str,
        address: str,
        names: Sequence[str],
        passphrase: bytes | None = None,
        token: TokenSettings | None = None,
    ) -> "HubDirectory":
        """Create a hub: authority, server certificate, keys (0600) and a commented `hub.toml`.

        Args:
            directory: A new or empty directory.
            name: Name of the hub, for its keys and its authority.
            address: host:port that institutions connect to.
            names: Further names and IP addresses for the server certificate, beside that host.
            passphrase: Encrypts all private keys, if given.
            token: The place of the signing key, which is made there if it is absent. None keeps it in a file.

        Raises:
            ConfigurationError: The directory is not empty.
            EnrolmentError: The name or an address is not usable.
            TokenError, PassphraseError: See `TokenKey.make`. Nothing was written.
        """
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigurationError(f"{directory}: the directory is not empty: choose another one for the hub")
        check_name(name)
        host, port = split_address(address)
        home, certified = cls(directory.resolve()), list(dict.fromkeys((host, *names)))
        check_addresses(certified)
        bound = host if _is_loopback(host) else "0.0.0.0"  # noqa: S104 - a hub that others dial listens for them
        listen = f"[{bound}]:{port}" if ":" in bound else f"{bound}:{port}"
        quoted = ", ".join(json.dumps(entry) for entry in certified)
        keys = PrivateKeys.generate(name, TokenKey.make(token.key_place, home.pins)[0] if token else None)
        if passphrase is not None:
            home.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            Lock.create(home.lock_path, tuple(Slot), passphrase)
        key, request = new_key_and_request("server", home.secret(Slot.GATEWAY))
        Authority.create(home.directory / "ca", f"{name} authority"[:64], home.secret(Slot.AUTHORITY))
        certificate = home.authority().issue_server(request, certified, timedelta(days=90))
        home.directory.chmod(0o700)
        write_atomic(home.server_key, key, mode=0o600)
        write_atomic(home.server_certificate, certificate.encode())
        keys.save(home.keys_path, home.secret(Slot.KEYS))
        text = TEMPLATE.format(address=address, listen=listen, names=quoted) + token_section(token)
        write_atomic(home.settings_path, text.encode())
        return home

    @classmethod
    def open(cls, directory: Path | None) -> "HubDirectory":
        """Return the hub in `directory`, else in the directory that `FEDFIN_HUB` names, else in the current one.

        Raises:
            ConfigurationError: There is no hub.
        """
        directory = (directory or Path(os.environ.get(ENVIRONMENT) or ".")).resolve()
        home = cls(directory)
        if not home.settings_path.is_file():
            raise ConfigurationError(
                f"{directory}: no hub.toml: give the hub's directory with --home or {ENVIRONMENT}, or make one with "
                "`fedfin-hub init --home DIR`"
            )
        return home

    def settings(self) -> HubConfig:
        """Read `hub.toml`. Raises ConfigurationError as `load_hub_config` does."""
        return load_hub_config(self.settings_path)

    def secret(self, slot: Slot) -> bytes | None:
        """Return the secret of encrypted key files. None if no key is encrypted. Raises PassphraseError."""
        return unlock(self.lock_path, slot)

    def public_keys(self) -> PublicKeys:
        """Read the hub's public keys. Raises EnvelopeError if they are absent or damaged."""
        return PublicKeys.load(self.keys_path / "public.json")

    @property
    def holds_secrets(self) -> bool:
        """Whether its processes hold secrets of encrypted keys, or the PIN of a token."""
        return self.lock_path.exists() or (self.settings_path.is_file() and self.settings().token is not None)

    @property
    def pins(self) -> PinSource:
        """Where the PIN of the token comes from."""
        return PinSource(self.lock_path, self.refused_pin_path)

    def keys(self) -> PrivateKeys:
        """Load the hub's private keys, and log in to the token if `hub.toml` names one.

        Raises:
            ConfigurationError: See `settings`.
            EnvelopeError, PassphraseError, TokenError: See `PrivateKeys.load`.
        """
        token = self.settings().token
        open_token = None if token is None else partial(TokenKey.open, token.key_place, self.pins)
        return PrivateKeys.load(self.keys_path, self.secret(Slot.KEYS), open_token)

    def authority(self) -> Authority:
        """Load the authority with its key. Raises EnrolmentError and PassphraseError as `Authority.load` does."""
        return Authority.load(self.directory / "ca", self.secret(Slot.AUTHORITY))

    def server_authority(self) -> str:
        """Return the outside authorities (PEM) that institutions accept for the gateway. Empty if there are none.

        Raises:
            EnrolmentError: The file is damaged.
        """
        path = self.server_authority_path
        return read_authorities(path.read_bytes()) if path.exists() else ""

    def client_authorities(self) -> str:
        """Return the authorities (PEM) of clients: the hub's own, and those of the members that bring one.

        Raises:
            EnrolmentError: A file is damaged.
        """
        own = {entry.own_authority for entry in self.members().values()}
        return "".join([self.authority_certificate.read_text(), *sorted(own)])

    def revocations(self) -> Revocations:
        """Load the list of revocations. Raises EnrolmentError if it is damaged: then no institution may connect."""
        return Revocations.load(self.revocations_path)

    def enrolled(self) -> dict[str, Enrolled]:
        """Return all institutions that were ever enrolled, sorted by name, including revoked ones.

        Raises:
            EnrolmentError: A file of an institution, or the list of revocations, is damaged.
        """
        revocations, enrolled = self.revocations(), {}
        for path in sorted(self.institutions_path.glob("*/certificate.pem")):
            request = self._request(path.parent)
            chain, is_revoked = path.read_bytes(), request.keys.name in revocations.names
            units = _approved_units(path.with_name("approved.json"))
            certificate = Certificate.read(chain)
            enrolled[request.keys.name] = Enrolled(request, certificate, is_revoked, units, authority_of(chain))
        return enrolled

    def members(self) -> dict[str, Enrolled]:
        """Return the enrolled institutions that are not revoked. Raises EnrolmentError as `enrolled` does."""
        return {name: entry for name, entry in self.enrolled().items() if not entry.revoked}

    def enrolment_stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Return a value that changes whenever `enrolled` may change, for callers that cache it."""
        files = (self.revocations_path, *sorted(self.institutions_path.glob("*/*")))
        stamps = []
        for path in files:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            stamps.append((path.name, status.st_mtime_ns, status.st_ino))
        return tuple(stamps)

    @contextmanager
    def control(self) -> "Iterator[Control]":
        """Connect to the control API of the running SuperLink.

        Raises:
            ServiceError: The hub is not started.
            EnrolmentError: The files of the running hub cannot be read by this user.
        """
        address = self.superlink_address()
        # Imported late: most commands do not use Flower, and importing it takes longer than their own work.
        from common.flower.internals import Control

        with Control(address, self.loopback.client()) as control:
            yield control

    def superlink_address(self) -> str:
        """Return host:port of the running SuperLink. Raises ServiceError if the hub is not started."""
        try:
            return str(json.loads(self.superlink_path.read_bytes())["address"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ServiceError(
                f"{self.directory}: the hub is not started: run `fedfin-hub start --home {self.directory}`"
            ) from None

    def _request(self, directory: Path) -> EnrolmentRequest:
        try:
            return EnrolmentRequest.from_json((directory / "request.json").read_bytes())
        except OSError as error:
            raise EnrolmentError(
                f"{directory / 'request.json'}: cannot be read ({error.strerror}): restore it from its backup"
            ) from None


def _approved_units(path: Path) -> int:
    try:
        with path.open("rb") as file:
            units = json.loads(file.read(_LARGEST_FILE))["declared_units"]
    except FileNotFoundError:
        return APPROVED_UNITS
    except (OSError, ValueError, KeyError, TypeError):
        units = None
    if type(units) is not int or not 1 <= units <= MAX_DECLARED_UNITS:
        raise EnrolmentError(f"{path}: not an approved size: restore it from its backup, or approve the request again")
    return units


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
