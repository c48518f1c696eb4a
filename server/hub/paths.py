"""The paths in the directory of one hub, and the names of the secrets that open its key files.

hub.toml  keys/  ca/  tls/  passphrase.json  revoked.json       back these up
institutions/NAME/  audit.jsonl  runs/RUN/                      these too
state/                                                          made anew by every `start`
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common.identity.loopback import LoopbackIdentity

__all__ = ["HubPaths", "Slot"]


class Slot(StrEnum):
    """The secrets of encrypted key files. Each process of the hub gets only those that it needs."""

    KEYS = "keys"
    """Opens the signing and sealing keys: the process of a run, and the commands that write to the audit log."""
    AUTHORITY = "authority"
    """Opens the authority's key: `approve` and `certs`, and no process of a started hub."""
    GATEWAY = "gateway"
    """Opens the key of the server certificate."""


@dataclass(frozen=True)
class HubPaths:
    """The paths in the directory of one hub, whatever is in it."""

    directory: Path

    @property
    def settings_path(self) -> Path:
        return self.directory / "hub.toml"

    @property
    def keys_path(self) -> Path:
        return self.directory / "keys"

    @property
    def refused_pin_path(self) -> Path:
        """If it exists, the token with the signing key refused the PIN, and no process tries it again."""
        return self.keys_path / "pin-refused"

    @property
    def lock_path(self) -> Path:
        """The secrets of encrypted key files, wrapped by the passphrase. If it is absent, no key is encrypted."""
        return self.directory / "passphrase.json"

    @property
    def authority_certificate(self) -> Path:
        return self.directory / "ca" / "ca.pem"

    @property
    def server_authority_path(self) -> Path:
        """Outside authorities whose certificates the gateway may show, if there are any."""
        return self.directory / "tls" / "authority.pem"

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
        """Files of the running hub. They may be deleted while it is stopped."""
        return self.directory / "state"

    @property
    def services_path(self) -> Path:
        """The state of the processes of `start`. See `supervisor.running_services`."""
        return self.state / "services.json"

    @property
    def uploads_path(self) -> Path:
        """The allowances of the runs under way. See `server.hub.uploads`."""
        return self.state / "uploads"

    @property
    def clocks_path(self) -> Path:
        """The clocks of the institutions. See `server.hub.clocks`."""
        return self.state / "clocks.json"

    @property
    def superlink_path(self) -> Path:
        """The SuperLink's address on loopback, while it runs."""
        return self.state / "superlink.json"

    @property
    def loopback(self) -> LoopbackIdentity:
        """The identity that the hub's processes prove to each other on loopback. It is new at every start."""
        return LoopbackIdentity(self.state)
