"""Decide which requests pass the gateway, from the hub's enrolments, revocations and the keys of certificates."""

import base64
import binascii

from common.errors import FedfinError
from common.identity.authority import Certificate
from common.identity.revocations import Revocations
from server.hub.directory import HubDirectory

__all__ = ["Doorkeeper"]


class Doorkeeper:
    """Decides which requests may pass. It reads the hub's directory again whenever a file there changes.

    Args:
        home: The hub's directory.
    """

    def __init__(self, home: HubDirectory) -> None:
        self._home = home
        self._stamp: object = None
        self._revoked = Revocations()
        self._node_keys: dict[str, str] = {}
        self._tls_keys: dict[str, str] = {}

    def objection(self, peer: Certificate, node_key: str | None) -> str:
        """Return the reason against a request, or "" if it may pass.

        Args:
            peer: Certificate of the connection.
            node_key: Value of Flower's header for the node key (PEM, in base64).

        Raises:
            FedfinError: The hub's own files are damaged, so no request may pass.
        """
        if reason := self._objection(peer):
            return reason
        try:
            key = base64.b64decode(node_key or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "no node key"
        return "" if key == self._node_keys[peer.name] else "another institution's node key"

    def objection_to(self, peer: Certificate) -> str:
        """Return the reason against every request with this certificate, or "" if there is none.

        It is "" too if the hub's own files are damaged: `objection` then answers each request.
        """
        try:
            return self._objection(peer)
        except (FedfinError, OSError):
            return ""

    def _objection(self, peer: Certificate) -> str:
        self._refresh()
        if self._revoked.covers(peer):
            return "revoked"
        if peer.days_left() <= 0:
            return "expired"
        if peer.name not in self._node_keys:
            return "not enrolled"
        # A certificate of an earlier enrolment, which was revoked with others, is for another key.
        return "" if peer.key == self._tls_keys[peer.name] else "a certificate of an earlier enrolment"

    def _refresh(self) -> None:
        stamp = self._home.enrolment_stamp()
        if stamp == self._stamp:
            return
        self._revoked = self._home.revocations()
        members = self._home.members()
        self._node_keys = {name: entry.request.node_key for name, entry in members.items()}
        self._tls_keys = {name: entry.request.tls_key for name, entry in members.items()}
        self._stamp = stamp
