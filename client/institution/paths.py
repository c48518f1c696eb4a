"""The places of files in an institution's directory. Nothing here opens a file.

The node, which has no business with keys, rows and ledger, imports this module and no other of the room.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["MAX_SOCKET_PATH", "InstitutionPaths", "Slot"]

MAX_SOCKET_PATH = 100
"""The longest path of a Unix socket, in bytes. The kernel takes 107."""


class Slot(StrEnum):
    """The secrets of encrypted key files. Agent and node each get their own."""

    KEYS = "keys"
    """Opens the signing and sealing keys, for the agent."""
    NODE = "node"
    """Opens the keys of the client certificate and of the Flower node, for the node."""


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
    def peers(self) -> Path:
        """Directory of the public keys of the institutions that the officer approved for secure aggregation."""
        return self.directory / "peers"

    @property
    def refused_pin_path(self) -> Path:
        """If it exists, the token with the signing key refused the PIN, and no process tries it again."""
        return self.keys_path / "pin-refused"

    @property
    def ledger_path(self) -> Path:
        """The one privacy ledger over all runs and models that used this institution's rows."""
        return self.directory / "ledger.jsonl"

    def outbox(self, run_id: str) -> Path:
        """Directory of the answers to a run, and of the facts that later rounds of it are compared with."""
        return self.directory / "outbox" / _short(run_id)

    def personal(self, run_id: str) -> Path:
        """Directory of the personal part of a run. Nothing in it is ever sent."""
        return self.directory / "personal" / _short(run_id)

    @property
    def inspection_path(self) -> Path:
        """`inspection.json`: findings about the rows when the agent was started (0600). It may be lost."""
        return self.directory / "inspection.json"

    @property
    def request_path(self) -> Path:
        """The enrolment request for the hub's operator."""
        return self.directory / "request.json"

    @property
    def csr_path(self) -> Path:
        """The request for a client certificate (PEM), for an authority of the institution's own."""
        return self.directory / "client.csr"

    @property
    def package_path(self) -> Path:
        """The verified enrolment package of the hub's operator."""
        return self.directory / "hub.json"

    @property
    def tls(self) -> Path:
        """Directory of `client.key` (0600), `client.pem` and `ca.pem`, for the connection to the hub."""
        return self.directory / "tls"

    @property
    def tls_key_path(self) -> Path:
        """The private key of the client certificate (0600)."""
        return self.tls / "client.key"

    @property
    def lock_path(self) -> Path:
        """The secrets of encrypted key files, wrapped by a passphrase. If it is absent, no key is encrypted.

        The node reads it too.
        """
        return self.tls / "passphrase.json"

    @property
    def node_key_path(self) -> Path:
        """The private key of the Flower node (0600)."""
        return self.directory / "node" / "node.ecdsa"

    @property
    def run(self) -> Path:
        """Directory of the agent's socket. The agent alone writes there, and the node opens nothing else of it."""
        return self.directory / "run"

    @property
    def socket(self) -> Path:
        """The Unix socket at which the agent answers the relay."""
        return self.run / "agent.sock"

    @property
    def state(self) -> Path:
        """Directory of the agent's progress, locks and logs, which the node cannot see. It may be lost."""
        return self.directory / "state"

    @property
    def agent_status_path(self) -> Path:
        """The agent's progress, for `fedfin-institution status`."""
        return self.state / "agent-status.json"

    @property
    def node_state(self) -> Path:
        """The only directory that the node writes to: its settings, sockets, locks and logs. It may be lost."""
        return self.directory / "node-state"

    @property
    def flower_home(self) -> Path:
        """Flower's directory. It holds the approved app and nothing else."""
        return self.node_state / "flwr"

    @property
    def flower_socket(self) -> Path:
        """The Unix socket (0600) at which the SuperNode gives tasks to SuperExec and relays."""
        return self.node_state / "flower.sock"

    @property
    def hub_contact_path(self) -> Path:
        """The node's last contact with the hub, for the status line."""
        return self.node_state / "hub.json"


def _short(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]
