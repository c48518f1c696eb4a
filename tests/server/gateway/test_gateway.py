"""The requests that the gateway serves. The door itself, with real TLS, is tested in tests/e2e/test_door.py."""

import asyncio
import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.superlink.routers.fleet.router import router

from common.identity.authority import Certificate
from server.gateway.doorkeeper import Doorkeeper
from server.gateway.gateway import ALLOWED, Gateway
from server.hub.clocks import ClockWatch
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve
from server.hub.uploads import UploadQuota
from tests.server.hub.test_directory import make_request

Upstream = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> tuple[HubDirectory, Certificate, str]:
    home = HubDirectory.create(tmp_path_factory.mktemp("g") / "hub", "hub", "127.0.0.1:8443", [])
    request = make_request("bank")
    certificate = Certificate.read(approve(home, request)[0].certificate)
    return home, certificate, base64.b64encode(request.node_key.encode()).decode()


def call(
    member: tuple[HubDirectory, Certificate, str],
    upstream: Upstream,
    path: str = "/v1/fleet/pull-messages",
    method: str = "POST",
    body: list[bytes] | None = None,
    headers: dict[str, str] | None = None,
    peer: bool = True,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request through the application and return status, headers and body of the answer."""
    home, certificate, key = member
    parts, sent = list(body or [b""]), []

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        transport = httpx.MockTransport(upstream)
        async with httpx.AsyncClient(base_url="https://superlink", transport=transport) as client:
            given = {"flwr-public-key": key, **(headers or {})}
            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "headers": [(name.encode(), value.encode()) for name, value in given.items()],
                "state": {"peer": certificate if peer else None},
            }
            await Gateway(Doorkeeper(home), client, 100, UploadQuota(home), ClockWatch(home))(scope, receive, send)

    asyncio.run(run())
    start, end = sent
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, end["body"]


def never(_: httpx.Request) -> httpx.Response:
    raise AssertionError("it reached the SuperLink")


def test_a_fleet_call_is_passed_on_with_its_body_and_flowers_headers(
    member: tuple[HubDirectory, Certificate, str],
) -> None:
    seen: list[httpx.Request] = []

    def upstream(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"answer", headers={"content-type": "application/x-protobuf", "server": "x"})

    extra = {"flwr-signature": "s", "cookie": "private", "x-forwarded-for": "1.2.3.4", "content-type": "a/b"}
    status, headers, body = call(member, upstream, body=[b"ab", b"cd"], headers=extra)
    assert (status, body) == (200, b"answer")
    assert headers == {"content-type": "application/x-protobuf", "content-length": "6"}
    assert seen[0].content == b"abcd"
    assert seen[0].headers["flwr-signature"] == "s"
    assert not {"cookie", "x-forwarded-for"} & set(seen[0].headers)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 413, 503])
def test_the_superlinks_own_answers_are_left_as_they_are(
    member: tuple[HubDirectory, Certificate, str], status: int
) -> None:
    assert call(member, lambda _: httpx.Response(status, content=b"why"))[::2] == (status, b"why")


def test_a_superlink_that_does_not_answer_is_to_be_tried_again(member: tuple[HubDirectory, Certificate, str]) -> None:
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert call(member, down)[0] == 503


def test_a_superlink_that_fails_is_to_be_tried_again(member: tuple[HubDirectory, Certificate, str]) -> None:
    assert call(member, lambda _: httpx.Response(500))[0] == 503


def test_damaged_files_of_the_hub_let_nobody_in_and_say_try_again(
    member: tuple[HubDirectory, Certificate, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = member[0].revocations_path
    path.write_text("{}")
    try:
        assert call(member, never)[0] == 503
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"peer": False}, 401),
        ({"headers": {"flwr-public-key": "eA=="}}, 401),
        ({"path": "/v1/control/start-run"}, 404),
        ({"path": "/v1/runtime/acquire-task"}, 404),
        ({"path": "/v1/fleet/register-node"}, 404),
        ({"path": "/v1/fleet/unregister-node"}, 404),
        ({"path": "/v1/fleet/../control/start-run"}, 404),
        ({"path": "/v1/fleet/a/b"}, 404),
        ({"path": "/v1/fleet/a-new-call"}, 404),
        ({"method": "GET"}, 404),
        ({"body": [b"x" * 60, b"x" * 60]}, 413),
        ({"headers": {"content-length": "101"}}, 413),
        ({"headers": {"content-length": "-1"}}, 413),
    ],
)
def test_nothing_else_passes(member: tuple[HubDirectory, Certificate, str], given: dict[str, Any], status: int) -> None:
    found, headers, body = call(member, never, **given)
    assert (found, body) == (status, b"")
    assert headers in ({}, {"fedfin-refused": "another institution's node key"})


def test_an_institution_that_sends_more_than_a_round_needs_is_refused(
    member: tuple[HubDirectory, Certificate, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadQuota, "take", lambda self, name, size: (name, size) != ("bank", 4))
    assert call(member, never, body=[b"ab", b"cd"])[0] == 413
    assert call(member, lambda _: httpx.Response(200), body=[b"ab"])[0] == 200


def test_a_clock_that_is_far_off_is_the_reason_that_is_told(
    member: tuple[HubDirectory, Certificate, str], caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    for seconds, status in ((-290, 200), (10, 200), (290, 200), (400, 401)):
        stamp = {"flwr-timestamp": (now + timedelta(seconds=seconds)).isoformat()}
        found, headers, _ = call(member, lambda _: httpx.Response(200), headers=stamp)
        assert found == status
    assert headers == {"fedfin-refused": "clock"}
    assert "the clock of bank is 400 s ahead of the hub's, and is refused" in caplog.text


def test_every_call_of_a_node_passes_but_those_that_register_it() -> None:
    fleet = {route.path for route in router.routes}
    assert fleet - {"/v1/fleet/register-node", "/v1/fleet/unregister-node"} == ALLOWED


def test_a_path_cannot_write_lines_of_the_log(
    member: tuple[HubDirectory, Certificate, str], caplog: pytest.LogCaptureFixture
) -> None:
    key = {"flwr-public-key": "eA=="}
    assert call(member, never, path="/v1/fleet/x\n2026-01-01 INFO forged", headers=key)[0] == 404
    assert call(member, never, path="/v1/fleet/get-run", headers=key)[0] == 401
    assert "forged" not in caplog.text
    assert "bank refused at /v1/fleet/get-run" in caplog.text
