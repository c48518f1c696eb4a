"""The hub's directory: keys, authority, who is enrolled, runs. Everything the hub must not lose is here.

hub.toml  keys/  ca/  tls/  institutions/NAME/  revoked.json  audit.jsonl  runs/RUN/    back these up
state/                                                                                  of one `start`; may be lost
"""

import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import ConfigurationError, EnrolmentError, ServiceError
from common.files import write_atomic
from common.identity.authority import Authority, Certificate, check_addresses, check_name, new_key_and_request
from common.identity.enrolment import EnrolmentRequest
from common.identity.keys import PrivateKeys, PublicKeys
from common.identity.revocations import Revocations
from common.identity.tls import split_address
from server.hub.config import TEMPLATE, HubConfig, load_hub_config

if TYPE_CHECKING:
    from common.flower.internals import Control

__all__ = ["ENVIRONMENT", "Enrolled", "HubDirectory"]

ENVIRONMENT = "FEDFIN_HUB"
"""The environment variable that names the hub's directory where a command is not told it."""


@dataclass(frozen=True)
class Enrolled:
    """One institution: what it asked for, the certificate it got last, and whether it is revoked."""

    request: EnrolmentRequest
    certificate: Certificate
    revoked: bool

    @property
    def keys(self) -> PublicKeys:
        """Its public keys."""
        return self.request.keys


@dataclass(frozen=True)
class HubDirectory:
    """Paths in the directory of one hub, and what lies there."""

    directory: Path

    @classmethod
    def create(cls, directory: Path, name: str, address: str, names: Sequence[str]) -> "HubDirectory":
        """Lay a new one out: authority, server certificate, keys (0600) and a commented `hub.toml`.

        Args:
            address: host:port that institutions dial.
            names: more names and IP addresses for the server certificate, beside that host.

        Raises:
            ConfigurationError: there is a hub, or something else, already.
            EnrolmentError: a name or an address that cannot be one.
        """
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigurationError(f"{directory}: it is not empty: choose another directory for the hub")
        check_name(name)
        host, port = split_address(address)
        home, certified = cls(directory.resolve()), list(dict.fromkeys((host, *names)))
        check_addresses(certified)
        bound = host if _is_loopback(host) else "0.0.0.0"  # noqa: S104 - a hub that others dial listens for them
        listen = f"[{bound}]:{port}" if ":" in bound else f"{bound}:{port}"
        quoted = ", ".join(json.dumps(entry) for entry in certified)
        key, request = new_key_and_request("server")
        Authority.create(home.directory / "ca", f"{name} authority"[:64])
        certificate = home.authority().issue_server(request, certified, timedelta(days=90))
        home.directory.chmod(0o700)
        write_atomic(home.server_key, key, mode=0o600)
        write_atomic(home.server_certificate, certificate.encode())
        PrivateKeys.generate(name).save(home.keys_path)
        write_atomic(home.settings_path, TEMPLATE.format(address=address, listen=listen, names=quoted).encode())
        return home

    @classmethod
    def open(cls, directory: Path | None) -> "HubDirectory":
        """The hub in `directory`, or in the one that the environment names, or here.

        Raises:
            ConfigurationError: there is none.
        """
        directory = (directory or Path(os.environ.get(ENVIRONMENT) or ".")).resolve()
        home = cls(directory)
        if not home.settings_path.is_file():
            raise ConfigurationError(
                f"{directory}: no hub.toml: give the hub's directory with --home or {ENVIRONMENT}, or make one with "
                "`fedfin-hub init --home DIR`"
            )
        return home

    @property
    def settings_path(self) -> Path:
        return self.directory / "hub.toml"

    @property
    def keys_path(self) -> Path:
        return self.directory / "keys"

    @property
    def authority_certificate(self) -> Path:
        return self.directory / "ca" / "ca.pem"

    @property
    def server_certificate(self) -> Path:
        return self.directory / "tls" / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.directory / "tls" / "server.key"

    @property
    def institutions_path(self) -> Path:
        return self.directory / "institutions"

    @property
    def revocations_path(self) -> Path:
        return self.directory / "revoked.json"

    @property
    def audit_path(self) -> Path:
        return self.directory / "audit.jsonl"

    @property
    def runs_path(self) -> Path:
        return self.directory / "runs"

    @property
    def state(self) -> Path:
        """What a running hub leaves behind; may be deleted while it is stopped."""
        return self.directory / "state"

    @property
    def services_path(self) -> Path:
        """What `start` says of its processes; see `supervisor.running_services`."""
        return self.state / "services.json"

    @property
    def superlink_path(self) -> Path:
        """The SuperLink's address on loopback, while it runs."""
        return self.state / "superlink.json"

    def settings(self) -> HubConfig:
        """Read `hub.toml`. Raises ConfigurationError: see `load_hub_config`."""
        return load_hub_config(self.settings_path)

    def keys(self) -> PrivateKeys:
        """The hub's private keys. Raises EnvelopeError: see `Keys.load`."""
        return PrivateKeys.load(self.keys_path)

    def authority(self) -> Authority:
        """The certificate authority, with its key. Raises EnrolmentError: see `Authority.load`."""
        return Authority.load(self.directory / "ca")

    def revocations(self) -> Revocations:
        """Who is revoked. Raises EnrolmentError: the list is damaged; then nobody may be let in."""
        return Revocations.load(self.revocations_path)

    def enrolled(self) -> dict[str, Enrolled]:
        """Everybody who was ever enrolled, by name, sorted; the revoked are marked.

        Raises:
            EnrolmentError: a file of an institution, or the list of revocations, is damaged.
        """
        revocations, found = self.revocations(), {}
        for path in sorted(self.institutions_path.glob("*/certificate.pem")):
            request = self._request(path.parent)
            found[request.keys.name] = Enrolled(
                request, Certificate.read(path.read_bytes()), request.keys.name in revocations.names
            )
        return found

    def members(self) -> dict[str, Enrolled]:
        """The enrolled that are not revoked. Raises: see `enrolled`."""
        return {name: entry for name, entry in self.enrolled().items() if not entry.revoked}

    def enrolment_stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever `enrolled` may: for whoever keeps its result."""
        files = (self.revocations_path, *sorted(self.institutions_path.glob("*/*")))
        found = []
        for path in files:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((path.name, status.st_mtime_ns, status.st_ino))
        return tuple(found)

    @contextmanager
    def control(self) -> "Iterator[Control]":
        """The running SuperLink's control API.

        Raises:
            ServiceError: the hub is not started.
        """
        address = self.superlink_address()
        # Imported late: most commands do not talk to Flower, whose import takes longer than all that they do.
        from common.flower.internals import Control

        with Control(address, self.authority_certificate.read_text()) as control:
            yield control

    def superlink_address(self) -> str:
        """host:port of the running SuperLink. Raises ServiceError: the hub is not started."""
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
