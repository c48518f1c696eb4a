"""The way to the hub: directly, or through a proxy that `start` was told to use.

The variables HTTP_PROXY and HTTPS_PROXY are ignored, because they would also send loopback traffic to the proxy.
"""

import base64
import http.client
import os
import socket
from urllib.parse import SplitResult, unquote, urlsplit

from common.errors import ConfigurationError

__all__ = ["PROXY", "checked_proxy", "dial", "unused_proxy"]

PROXY = "FEDFIN_PROXY"
"""The environment variable with the proxy's URL, for the processes of a node."""
_IGNORED = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def checked_proxy(url: str) -> SplitResult:
    """Return the parts of a proxy's URL.

    Raises:
        ConfigurationError: It is not http://HOST:PORT, with or without a name and password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("proxy: write it as http://HOST:PORT, as in http://proxy.example.org:3128")
    return parts


def dial(host: str, port: int, proxy: str | None, timeout: float) -> socket.socket:
    """Return a TCP connection to the hub. A proxy is asked for a tunnel, so it sees TLS alone.

    Raises:
        OSError: The hub or the proxy cannot be reached, or the proxy refuses.
    """
    if not proxy:
        return socket.create_connection((host, port), timeout)
    parts = checked_proxy(proxy)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout)
    headers = {}
    if parts.username:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
    connection.set_tunnel(host, port, headers)
    connection.connect()
    return connection.sock


def unused_proxy() -> str:
    """Return a hint if the environment names a proxy that is not used, else an empty text."""
    if os.environ.get(PROXY):
        return ""
    named = next((name for name in _IGNORED if os.environ.get(name)), None)
    return f" ({named} is not used: start with --proxy to go through a proxy)" if named else ""
