"""Say whether the hub is reached, and if not, why, in a few words that a person can act on."""

import json
import socket
import ssl
import time

from client.institution.paths import InstitutionPaths
from common.errors import EnrolmentError
from common.identity.tls import client_context, split_address

__all__ = ["describe", "last_seen"]

_REFUSED = "it refuses this institution, which may be revoked, or its certificate expired: ask the hub's operator"
_RECENT_SECONDS = 45.0  # while a node waits for its agent it sends a heartbeat every thirty
_TIMEOUT_SECONDS = 3.0


def last_seen(home: InstitutionPaths) -> float | None:
    """Return the seconds since the hub last answered this node. None if it has not since the node was started."""
    return _seconds_since(home, "seen")


def _seconds_since(home: InstitutionPaths, event: str) -> float | None:
    """Return the seconds since an event that the node noted: the hub has "seen" or "refused" it."""
    try:
        return max(0.0, time.time() - float(json.loads(home.hub_contact_path.read_bytes())[event]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe(home: InstitutionPaths, address: str) -> str:
    """Return one line: connected, or the obstacle. It may take three seconds.

    Args:
        address: "host:port" of the hub.
    """
    seen = last_seen(home)
    if seen is not None and seen < _RECENT_SECONDS:
        return f"connected to the hub at {address}"
    if _seconds_since(home, "refused") is not None:
        return f"waiting for the hub at {address}: {_REFUSED}"
    return f"waiting for the hub at {address}: {_obstacle(home, address)}"


def _obstacle(home: InstitutionPaths, address: str) -> str:
    """Try one TLS handshake. The hub may end it after it has seen our certificate."""
    host, port = split_address(address)
    try:
        context = client_context(home.tls / "client.pem", home.tls / "client.key", home.tls / "ca.pem")
        with (
            socket.create_connection((host, port), _TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            # In TLS 1.3 a refusal of our certificate comes with the first answer.
            secured.sendall(b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            secured.recv(1)
    except EnrolmentError as error:
        return str(error)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted here ({error.verify_message})"
    except ssl.SSLError:
        return _REFUSED
    except socket.gaierror:
        return "no such host name"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return f"{error.strerror or 'the connection was closed'}".lower()
    return "it is up; the node is being let in (after a crash that can take a minute)"
