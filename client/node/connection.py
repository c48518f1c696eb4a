"""Say whether the hub is reached, and if not, why, in a few words that a person can act on.

The node writes its last contact with the hub into a file. The command `status` and the supervisor read it.
"""

import json
import os
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from client.institution.paths import InstitutionPaths, Slot
from client.node.proxy import PROXY, dial, unused_proxy
from common.errors import EnrolmentError, PassphraseError
from common.files import read_limited, write_atomic
from common.identity.keyring import recall
from common.identity.tls import client_context, split_address

__all__ = ["HubContact", "clock_ahead", "describe", "hung_for", "last_seen"]

_REFUSED = "it refuses this institution, which may be revoked, or its certificate expired: ask the hub's operator"
_RECENT_SECONDS = 45.0  # while a node waits for its agent it sends a heartbeat every thirty
_TIMEOUT_SECONDS = 3.0
_HUNG_SECONDS = 150.0
"""A node calls the hub at least every 60 seconds, also while the hub does not answer, unless it holds a message."""
_NOTED_EVERY_SECONDS = 2.0
_CLOCK_SECONDS = 10.0
"""Differences between two clocks that are worth a warning. The hub's own time comes in whole seconds."""
_MOST_CLOCK_SECONDS = 300.0
"""The largest difference that the hub accepts."""
_MOST_BYTES = 4096


class HubContact:
    """A node's notes of its contact with the hub: times in seconds since 1970, and the difference of the clocks.

    Args:
        path: The file. Nothing depends on it but the status line and the restart of a node that hangs.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._facts, self._noted = path, dict[str, float](), 0.0

    def turn(self, wait_s: float = 0.0) -> None:
        """The node's loop goes on. It may be silent for `wait_s` seconds, because it holds a message."""
        self._facts["turn"] = time.time() + wait_s
        self._write(at_once=wait_s > 0)

    def answered(self, refused: bool, date: str | None) -> None:
        """The hub has answered.

        Args:
            refused: It does not let this institution in.
            date: The answer's Date header.
        """
        try:
            if date:
                self._facts["clock"] = time.time() - parsedate_to_datetime(date).timestamp()
        except ValueError:
            pass
        self._facts["refused" if refused else "seen"] = time.time()
        self._facts.pop("seen" if refused else "refused", None)
        self._write(at_once=refused)

    def _write(self, at_once: bool) -> None:
        if at_once or time.monotonic() - self._noted > _NOTED_EVERY_SECONDS:
            self._noted = time.monotonic()
            write_atomic(self._path, json.dumps(self._facts).encode(), mode=0o640, sync=False)


def _fact(home: InstitutionPaths, name: str) -> float | None:
    try:
        value: Any = json.loads(read_limited(home.hub_contact_path, _MOST_BYTES))
        return float(value[name])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def hung_for(home: InstitutionPaths) -> float | None:
    """Return the seconds for which a started node has not called the hub. None while it works or holds a message."""
    turn = _fact(home, "turn")
    late = time.time() - turn if turn is not None else 0.0
    return late if late > _HUNG_SECONDS else None


def clock_ahead(home: InstitutionPaths) -> float | None:
    """Return the seconds that this machine's clock is ahead of the hub's, negative if behind. None if not known."""
    return _fact(home, "clock")


def _clocks(home: InstitutionPaths) -> str:
    ahead = clock_ahead(home)
    if ahead is None or abs(ahead) < _CLOCK_SECONDS:
        return ""
    return f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the hub's"


def last_seen(home: InstitutionPaths) -> float | None:
    """Return the seconds since the hub last answered this node. None if it has not since the node was started."""
    return _seconds_since(home, "seen")


def _seconds_since(home: InstitutionPaths, event: str) -> float | None:
    """Return the seconds since an event that the node noted: the hub has "seen" or "refused" it."""
    at = _fact(home, event)
    return None if at is None else max(0.0, time.time() - at)


def describe(home: InstitutionPaths, address: str) -> str:
    """Return one line: connected, or the obstacle. It may take three seconds.

    Args:
        address: "host:port" of the hub.
    """
    seen, clocks = last_seen(home), _clocks(home)
    if seen is not None and seen < _RECENT_SECONDS:
        warning = f". {clocks.capitalize()}: set both by a time server (it accepts {_MOST_CLOCK_SECONDS:.0f} s)"
        return f"connected to the hub at {address}{warning if clocks else ''}"
    if _seconds_since(home, "refused") is not None:
        if abs(clock_ahead(home) or 0.0) > _MOST_CLOCK_SECONDS - _CLOCK_SECONDS:
            return f"waiting for the hub at {address}: it refuses this institution, and {clocks}: set the clocks"
        return f"waiting for the hub at {address}: {_REFUSED}"
    return f"waiting for the hub at {address}: {_obstacle(home, address)}"


def _obstacle(home: InstitutionPaths, address: str) -> str:
    """Try one TLS handshake. The hub may end it after it has seen our certificate."""
    host, port = split_address(address)
    try:
        secret = recall(home.lock_path, Slot.NODE)
        context = client_context(home.tls / "client.pem", home.tls_key_path, home.tls / "ca.pem", secret)
        with (
            dial(host, port, os.environ.get(PROXY), _TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            # In TLS 1.3 a refusal of our certificate comes with the first answer.
            secured.sendall(b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            secured.recv(1)
    except (EnrolmentError, PassphraseError) as error:
        return str(error)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted here ({error.verify_message})"
    except ssl.SSLError:
        return _REFUSED
    except socket.gaierror:
        return f"no such host name{unused_proxy()}"
    except TimeoutError:
        return f"no answer{unused_proxy()}"
    except OSError as error:
        tunnel = str(error) if os.environ.get(PROXY) else ""
        return f"{error.strerror or tunnel or 'the connection was closed'}".lower() + unused_proxy()
    return "it is up; the node is being let in (after a crash that can take a minute)"
