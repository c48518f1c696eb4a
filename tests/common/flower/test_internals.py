"""The contract with the Flower release that is pinned: each private symbol is there with its known meaning."""

import inspect
import time

import httpx
import pytest
from flwr.common.constant import ErrorCode, Status
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectUnavailableError,
    pull_and_inflate_object_from_tree,
    pull_objects,
)
from flwr.superlink.grid import HttpGrid

from common.errors import ServiceError
from common.flower.internals import (
    APP_REFUSED,
    EXPIRED,
    FINISHED,
    NODE_KEY_HEADER,
    NODE_LOST,
    Control,
    shorten_pull_backoff,
)
from common.identity.authority import Authority


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
    assert {"server_address", "insecure", "root_certificates", "interceptors"} <= set(
        inspect.signature(ControlHttpClient.from_server_address).parameters
    )
    assert callable(HttpGrid.get_nodes)


def test_a_superlink_that_is_not_there_is_one_error(tmp_path: object) -> None:
    authority = Authority.create(tmp_path / "ca", "hub authority")
    with Control("127.0.0.1:9", authority.pem) as control, pytest.raises(ServiceError, match="is the hub started"):
        control.nodes()


def test_a_refusal_of_the_superlink_is_one_error(tmp_path: object) -> None:
    authority = Authority.create(tmp_path / "ca", "hub authority")
    with Control("127.0.0.1:9", authority.pem) as control:
        control._client._client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
        with pytest.raises(ServiceError, match="status 500"):
            control.nodes()
        assert control.run_status(1) == ""


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
