"""A free port can be listened on."""

import socket

from common.processes.ports import free_port


def test_a_free_port_accepts_a_listener() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        assert listener.getsockname()[1] > 0
