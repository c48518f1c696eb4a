"""The contract with the Flower release that is pinned: each private symbol is there with its known meaning."""

import inspect
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from flwr.app import Array, RecordDict
from flwr.common.constant import ErrorCode, Status
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body, get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_and_inflate_object_from_tree,
    pull_objects,
)
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from common.errors import ServiceError
from common.flower.internals import (
    APP_REFUSED,
    EXPIRED,
    FINISHED,
    NODE_KEY_HEADER,
    NODE_LOST,
    Control,
    prove_clients,
    prove_servers,
    refuse_repeated_pieces,
    shorten_pull_backoff,
)
from common.flower.records import from_record, to_record
from common.identity.loopback import LoopbackIdentity
from common.processes.ports import free_port


def test_the_words_and_numbers_are_flowers() -> None:
    assert NODE_KEY_HEADER == "flwr-public-key"
    assert Status.FINISHED == FINISHED
    assert (NodeStatus.ONLINE, NodeStatus.UNREGISTERED) == ("online", "unregistered")
    assert {ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE} == EXPIRED
    assert (APP_REFUSED, NODE_LOST) == (ErrorCode.INVALID_FAB, ErrorCode.NODE_UNAVAILABLE)
    assert ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE == 23


def test_the_control_client_has_the_calls_that_are_used() -> None:
    for name in ("StartRun", "StopRun", "ListRuns", "ListNodes", "RegisterNode", "UnregisterNode", "close"):
        assert callable(getattr(ControlHttpClient, name))
    assert {"base_url", "interceptors", "verify", "retry_invoker"} <= set(
        inspect.signature(ControlHttpClient.__init__).parameters
    )
    assert callable(HttpGrid.get_nodes)


@pytest.fixture
def identity(tmp_path: Path) -> LoopbackIdentity:
    made = LoopbackIdentity(tmp_path)
    made.renew()
    return made


def test_a_superlink_that_is_not_there_is_one_error(identity: LoopbackIdentity) -> None:
    with Control("127.0.0.1:9", identity.client()) as control, pytest.raises(ServiceError, match="is the hub started"):
        control.nodes()


def test_a_refusal_of_the_superlink_is_one_error(identity: LoopbackIdentity) -> None:
    with Control("127.0.0.1:9", identity.client()) as control:
        control._client._client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
        with pytest.raises(ServiceError, match="status 500"):
            control.nodes()
        assert control.run_status(1) == ""


async def answer_200(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def served(identity: LoopbackIdentity, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server as Flower starts one, with a certificate and without a word about clients."""
    monkeypatch.setattr(uvicorn.config, "create_ssl_context", uvicorn.config.create_ssl_context)
    prove_servers(identity.server())
    files = {"ssl_certfile": str(identity.certificate), "ssl_keyfile": str(identity.certificate.with_suffix(".key"))}
    port = free_port()
    config = uvicorn.Config(answer_200, port=port, log_level="critical", lifespan="off", ws="none", **files)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_flowers_local_servers_take_no_client_without_the_identity(
    served: str, identity: LoopbackIdentity, tmp_path: Path
) -> None:
    stranger = LoopbackIdentity(tmp_path / "stranger")
    stranger.renew()
    without = ssl.create_default_context(cafile=str(identity.certificate))
    with_another = ssl.create_default_context(cafile=str(identity.certificate))
    with_another.load_cert_chain(stranger.certificate, stranger.certificate.with_suffix(".key"))
    for context in (without, with_another):
        with httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
            client.post(f"https://{served}/v1/control/list-nodes")
    with Control(served, identity.client()) as control:
        assert control.nodes() == []


def test_flowers_clients_take_no_server_without_the_identity_and_no_proxy(
    served: str, tmp_path: Path, identity: LoopbackIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = LoopbackIdentity(tmp_path / "stranger")
    stranger.renew()
    with Control(served, stranger.client()) as control, pytest.raises(ServiceError, match="does not answer"):
        control.nodes()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(ProtobufClient, "from_server_address", ProtobufClient.from_server_address)
    prove_clients(identity.client)
    with RuntimeHttpClient.from_server_address(
        served, insecure=False, root_certificates=b"", interceptors=[]
    ) as client:
        client.AcquireTask(AcquireTaskRequest())


def test_what_is_still_on_its_way_is_looked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for pull in (pull_objects, pull_and_inflate_object_from_tree):
        monkeypatch.setattr(pull, "__kwdefaults__", dict(pull.__kwdefaults__))
        assert pull.__kwdefaults__["initial_backoff"] == 1
    looked: list[float] = []

    def arrives(_: str) -> bytes:
        looked.append(time.monotonic())
        if len(looked) < 3:
            raise ObjectUnavailableError("x")
        return b"content"

    shorten_pull_backoff()
    assert pull_objects(["x"], arrives) == {"x": b"content"}
    assert 0.2 < looked[-1] - looked[0] < 2  # as it comes: 2.4 at least
    assert pull_and_inflate_object_from_tree.__kwdefaults__["initial_backoff"] == 0.1


def content_of(array: Array, pieces: object) -> bytes:
    """An array's own object as a sender that lies about its pieces makes it."""
    body = {"dtype": "uint8", "shape": [1], "stype": "bytes", "arraychunk_ids": pieces}
    return bytes(add_header_to_object_body(object_body=json.dumps(body).encode(), obj=array))


@pytest.mark.parametrize("pieces", [[0, 1, 0], [0] * 2**16, [1, 0], [0], [0, 2**31], [0, -1], 2**31, None, [0, 1, 2]])
def test_an_array_that_names_a_piece_twice_or_not_at_all_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch, pieces: object
) -> None:
    monkeypatch.setattr(Array, "inflate", Array.__dict__["inflate"])
    refuse_repeated_pieces()
    sealed = os.urandom(6 * 2**20)
    record = to_record(sealed)
    contents = {name: each.deflate() for name, each in get_all_nested_objects(record).items()}
    whole = inflate_object_from_contents(record.object_id, contents)
    assert isinstance(whole, RecordDict)
    assert from_record(whole) == sealed
    array = Array(dtype="uint8", shape=(1,), stype="bytes", data=sealed)
    with pytest.raises(ValueError, match="each of its pieces once"):
        Array.inflate(content_of(array, pieces), dict(array.children))
