"""Free TCP ports on loopback."""

import socket

__all__ = ["free_port"]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing used at the time of the call.

    Another process may take the port before the caller does.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
