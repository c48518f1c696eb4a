"""The hub's only door: who may pass, with which key, to where."""

import base64
import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.institution.directory import InstitutionDirectory
from common.identity.enrolment import EnrolmentRequest
from common.identity.tls import client_context
from tests.e2e.deployed import Hub, command, until


@contextmanager
def node(hub: Hub, tls: Path, node_key: Path) -> Iterator[FleetHttpClient]:
    """A Flower node as an attacker would put it together: that certificate, that node key."""
    private = load_ssh_private_key(node_key.read_bytes(), password=None)
    interceptors = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, private.public_key()),
    ]
    context = client_context(tls / "client.pem", tls / "client.key", tls / "ca.pem")
    address = f"https://127.0.0.1:{hub.wiretap.upstream}"
    with FleetHttpClient(address, interceptors=interceptors, verify=context) as client:
        yield client


def pull(hub: Hub, tls: Path, node_key: Path) -> int:
    """The status that a call for messages is answered with."""
    with node(hub, tls, node_key) as client:
        try:
            client.PullMessages(PullMessagesRequest(node=Node(node_id=1)))
        except httpx.HTTPStatusError as error:
            return error.response.status_code
    return 200


def home(hub: Hub, name: str) -> InstitutionDirectory:
    return InstitutionDirectory(hub.institutions[name].directory)


def certificate_of(hub: Hub, directory: Path, name: str, lifetime: timedelta) -> Path:
    """A certificate that the hub's own authority issued for this institution's key."""
    request = hub.home.members()[name].request
    directory.mkdir()
    (directory / "client.pem").write_text(hub.home.authority().issue_client(request.csr, name, lifetime))
    (directory / "client.key").write_bytes((home(hub, name).tls / "client.key").read_bytes())
    (directory / "ca.pem").write_bytes((home(hub, name).tls / "ca.pem").read_bytes())
    return directory


def plain(hub: Hub, context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(base_url=f"https://127.0.0.1:{hub.wiretap.upstream}", verify=context)


def member(hub: Hub, name: str = "north") -> ssl.SSLContext:
    tls = home(hub, name).tls
    return client_context(tls / "client.pem", tls / "client.key", tls / "ca.pem")


def test_a_peer_with_the_authoritys_certificate_alone_is_refused(hub: Hub) -> None:
    context = ssl.create_default_context(cafile=str(home(hub, "north").tls / "ca.pem"))
    with plain(hub, context) as client, pytest.raises(httpx.TransportError):
        client.post("/v1/fleet/pull-messages")


def test_an_expired_certificate_is_refused(hub: Hub, tmp_path: Path) -> None:
    tls = certificate_of(hub, tmp_path / "expired", "north", timedelta(seconds=-1))
    with pytest.raises(httpx.TransportError):
        pull(hub, tls, home(hub, "north").node_key_path)


def test_one_institutions_certificate_with_anothers_node_key_is_refused(hub: Hub) -> None:
    north, south = home(hub, "north"), home(hub, "south")
    assert pull(hub, north.tls, south.node_key_path) == 401
    assert pull(hub, south.tls, north.node_key_path) == 401


def test_a_node_key_that_its_holder_cannot_sign_with_is_refused(hub: Hub) -> None:
    header = {"flwr-public-key": "x", "flwr-signature": "x", "flwr-timestamp": "x"}
    with plain(hub, member(hub)) as client:
        assert client.post("/v1/fleet/pull-messages").status_code == 401
        assert client.post("/v1/fleet/pull-messages", headers=header).status_code == 401


def test_a_revoked_institution_is_out_at_once_and_returns_only_with_new_keys(hub: Hub) -> None:
    hub.enrol("mallory")
    mallory = home(hub, "mallory")

    def activates() -> int:
        with node(hub, mallory.tls, mallory.node_key_path) as client:
            key = hub.home.enrolled()["mallory"].request.node_key.encode()
            try:
                client.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30))
            except httpx.HTTPStatusError as error:
                return error.response.status_code
        return 200

    try:
        until(lambda: activates() == 200, "the new member is let in", within=60)
    finally:
        command("fedfin-hub", "revoke", "mallory", "--home", hub.directory)
    assert activates() == 401
    again = command(
        "fedfin-hub", "approve", mallory.request_path, "--fingerprint", request_of(mallory), "--home", hub.directory,
        code=2,
    )  # fmt: skip
    assert "was revoked" in again["error"]
    del hub.institutions["mallory"]


def request_of(institution: InstitutionDirectory) -> str:
    return EnrolmentRequest.from_json(institution.request_path.read_bytes()).fingerprint


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/register-node",
        "/health",
        "/docs",
        "/",
    ],
)
def test_nothing_but_fleet_calls_reaches_the_superlink(hub: Hub, path: str) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    assert raw(hub, request).startswith(b"HTTP/1.1 404")
    with plain(hub, member(hub)) as client:
        assert client.get("/v1/fleet/pull-messages").status_code == 404


def test_a_body_over_the_limit_is_refused_whatever_it_declares(hub: Hub) -> None:
    key = base64.b64encode(hub.home.members()["north"].request.node_key.encode()).decode()
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nHost: hub\r\nflwr-public-key: {key}\r\n"
    declared = f"{head}Content-Length: {2**34}\r\n\r\n".encode()
    assert raw(hub, declared).startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    assert raw(hub, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 17).startswith(b"HTTP/1.1 413")


def raw(hub: Hub, *parts: bytes) -> bytes:
    """The answer to these bytes on a member's connection."""
    with (
        socket.create_connection(("127.0.0.1", hub.wiretap.upstream), timeout=20) as connection,
        member(hub).wrap_socket(connection, server_hostname="127.0.0.1") as tls,
    ):
        # The hub may close before it has read everything.
        with contextlib.suppress(OSError):
            for part in parts:
                tls.sendall(part)
        return tls.recv(4096)
