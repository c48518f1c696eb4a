"""The places of files in an institution's directory. Nothing here opens a file.

The node, which has no business with keys, rows and ledger, imports this module and no other of the room.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["InstitutionPaths"]


@dataclass(frozen=True)
class InstitutionPaths:
    """Paths in the directory of one institution."""

    directory: Path

    @property
    def settings_path(self) -> Path:
        """`institution.toml`, the institution's settings."""
        return self.directory / "institution.toml"

    @property
    def keys_path(self) -> Path:
        """Directory of the signing and sealing keys."""
        return self.directory / "keys"

    @property
    def ledger_path(self) -> Path:
        """The one privacy ledger over all runs and models that used this institution's rows."""
        return self.directory / "ledger.jsonl"

    @property
    def request_path(self) -> Path:
        """The enrolment request for the hub's operator."""
        return self.directory / "request.json"

    @property
    def package_path(self) -> Path:
        """The verified enrolment package of the hub's operator."""
        return self.directory / "hub.json"

    @property
    def tls(self) -> Path:
        """Directory of `client.key` (0600), `client.pem` and `ca.pem`, for the connection to the hub."""
        return self.directory / "tls"

    @property
    def node_key_path(self) -> Path:
        """The private key of the Flower node (0600)."""
        return self.directory / "node" / "node.ecdsa"

    @property
    def flower_home(self) -> Path:
        """Flower's directory. It holds the approved app and nothing else."""
        return self.directory / "flwr"

    @property
    def run(self) -> Path:
        """Directory that agent and node share: the socket and their status files. It may be lost while neither runs."""
        return self.directory / "run"

    @property
    def socket(self) -> Path:
        """The Unix socket at which the agent answers the relay."""
        return self.run / "agent.sock"

    @property
    def state(self) -> Path:
        """Directory of the logs and of the processes that one `start` runs. It may be lost."""
        return self.directory / "state"
