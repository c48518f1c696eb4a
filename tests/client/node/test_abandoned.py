"""A node whose hub answers with an error that Flower gives up at: its process ends, so that it is started again."""

import http.server
import os
import subprocess
import sys
import threading
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from client.node.processes import services
from common.identity.authority import new_key_and_request
from common.identity.tls import server_context
from tests.client.enrolled import enrol

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)  # flwr pins such a typer
    from flwr.proto.fleet_pb2 import ActivateNodeResponse
    from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse

ANSWERS = {
    "/v1/fleet/activate-node": (200, ActivateNodeResponse(node_id=3).SerializeToString()),
    "/v1/fleet/send-node-heartbeat": (200, SendNodeHeartbeatResponse(success=True).SerializeToString()),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Lets a node in, answers its heartbeats, and fails at everything else."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        status, body = ANSWERS.get(self.path, (self.failure, b""))
        self.send_response(status)
        self.send_header("Content-Type", "application/protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    failure = 500

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("failure", [500, 403])
def test_a_node_that_flower_abandons_ends(tmp_path: Path, failure: int) -> None:
    enrolled = enrol(tmp_path)
    key, request = new_key_and_request("server")
    certificate = enrolled.authority.issue_server(request, ["127.0.0.1"], timedelta(days=1))
    files = {"certificate": certificate.encode(), "key": key, "trusted": enrolled.authority.pem.encode()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    handler: Any = type("Handler", (Hub,), {"asked": [], "failure": failure})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = server_context(*(tmp_path / name for name in files)).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node, _ = services(enrolled.home, "node", f"127.0.0.1:{server.server_port}")
    environment = {**os.environ, **node.environment}
    process = subprocess.Popen(
        [sys.executable, *node.command[1:]], cwd=node.directory, env=environment, stdout=subprocess.DEVNULL, stderr=2
    )
    try:
        if failure == 500:
            assert process.wait(60) == 1
        else:  # a run that has ended: the node goes on
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(15)
        assert "/v1/fleet/pull-messages" in handler.asked
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
