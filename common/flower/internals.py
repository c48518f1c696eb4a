"""Every symbol of Flower that its public API does not promise, in this one file. `test_flower_internals.py` holds each.

Flower is pinned exactly. A new release is taken by making that test pass here, and nothing else has to change.
"""

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx
import uvicorn.config
from flwr.app import Array
from flwr.common.constant import TIMESTAMP_HEADER as _TIMESTAMP_HEADER
from flwr.common.constant import ErrorCode
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import get_object_body
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClient

from common.errors import ServiceError

__all__ = [
    "APP_REFUSED",
    "EXPIRED",
    "FINISHED",
    "NODE_KEY_HEADER",
    "NODE_LOST",
    "TIMESTAMP_HEADER",
    "Control",
    "NodeState",
    "prove_clients",
    "prove_servers",
    "refuse_repeated_pieces",
    "shorten_pull_backoff",
]

APP_REFUSED: int = ErrorCode.INVALID_FAB
"""The error of a node that does not run the app bundle."""
NODE_LOST: int = ErrorCode.NODE_UNAVAILABLE
"""The SuperLink's error for a node that has not been heard of any more."""
EXPIRED: frozenset[int] = frozenset({ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE})
"""The SuperLink's errors for a question or an answer whose time to live is over."""

NODE_KEY_HEADER: str = FLEET_HTTP_PUBLIC_KEY_HEADER
"""The request header that carries a node's public key (PEM, in base64)."""
TIMESTAMP_HEADER: str = _TIMESTAMP_HEADER
"""The request header with the time (ISO 8601) at which a node signed it."""
FINISHED = "finished"
_ONLINE = "online"
_UNREGISTERED = "unregistered"
_KEY_IN_USE = 23


@dataclass(frozen=True)
class NodeState:
    """A node as the SuperLink knows it. `key` is its public key, as `pki.node_key_text`."""

    node_id: int
    key: str
    online: bool
    registered: bool


class Control:
    """The SuperLink's control API, as the hub's operator uses it. A context manager.

    Args:
        address: host:port of the SuperLink.
        context: Proves this client to the SuperLink and the SuperLink to it.

    Raises (in every method):
        ServiceError: the SuperLink does not answer, or refuses.
    """

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        interceptors = [RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
        self._client: Any = _proven(ControlHttpClient, address, context, interceptors)

    def start_run(self, bundle: bytes, digest: str, settings: Mapping[str, str]) -> int:
        """Begin a run of the app in `bundle` (its SHA-256 is `digest`). Return Flower's id of the run."""
        request = StartRunRequest(
            fab=Fab(hash_str=digest, content=bundle),
            override_config={key: Scalar(string=value) for key, value in settings.items()},
        )
        response = self._call(self._client.StartRun, request)
        if not response.HasField("run_id"):
            raise ServiceError("the SuperLink refused the app bundle: see its log")
        return int(response.run_id)

    def stop_run(self, run_id: int) -> None:
        """End a run that has not ended."""
        if self.run_status(run_id) not in (FINISHED, ""):
            self._call(self._client.StopRun, StopRunRequest(run_id=run_id))

    def run_status(self, run_id: int) -> str:
        """Return "pending", "starting", "running" or `FINISHED`, and "" for a run that this SuperLink does not know."""
        try:
            response = self._call(self._client.ListRuns, ListRunsRequest(run_id=run_id))
        except _Refused:
            return ""
        return str(response.run_dict[run_id].status.status) if run_id in response.run_dict else ""

    def nodes(self) -> list[NodeState]:
        """Every node that was ever registered."""
        response = self._call(self._client.ListNodes, ListNodesRequest())
        return [
            NodeState(info.node_id, info.public_key.decode(), info.status == _ONLINE, info.status != _UNREGISTERED)
            for info in response.nodes_info
        ]

    def register(self, key: str, name: str) -> None:
        """Let the node with this public key connect. A key that was unregistered can never be again."""
        try:
            self._call(self._client.RegisterNode, RegisterNodeRequest(public_key=key.encode(), name=name))
        except _Refused as refused:
            if refused.code != _KEY_IN_USE:
                raise

    def unregister(self, node_id: int) -> None:
        """Make a node leave, for good."""
        self._call(self._client.UnregisterNode, UnregisterNodeRequest(node_id=node_id))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request)
        except httpx.HTTPStatusError as error:
            known = FlowerError.from_json(error.response.text)
            raise _Refused(known.code if known else None, error.response.status_code) from None
        except httpx.HTTPError as error:
            raise ServiceError(f"the SuperLink does not answer ({type(error).__name__}): is the hub started?") from None


class _Refused(ServiceError):
    def __init__(self, code: int | None, status: int) -> None:
        super().__init__(f"the SuperLink refused (status {status}, code {code}): see its log")
        self.code = code


def prove_servers(context: ssl.SSLContext) -> None:
    """Make the HTTP servers that Flower starts in this process use `context`. Flower asks no client for a certificate.

    The servers must be started with a certificate, or they do not use TLS at all.
    """
    uvicorn.config.create_ssl_context = lambda **_: context


def prove_clients(context: Callable[[], ssl.SSLContext]) -> None:
    """Make Flower's clients of its local servers in this process use the context that `context` returns."""

    def from_server_address(cls: type[Any], /, server_address: str, *_: object, **given: Any) -> Any:
        retry = given.get("retry_invoker")
        return _proven(cls, server_address, context(), given["interceptors"], retry_invoker=retry)

    ProtobufClient.from_server_address = classmethod(from_server_address)


def _proven(kind: Any, address: str, context: ssl.SSLContext, interceptors: Any, **given: Any) -> Any:
    client = kind(f"https://{address}", interceptors=interceptors, verify=context, **given)
    client._client.close()
    # Flower's own client would send loopback traffic to the proxy that the environment names.
    client._client = httpx.Client(verify=context, timeout=client._client.timeout, trust_env=False)
    return client


def shorten_pull_backoff() -> None:
    """Look again for a message that is still being uploaded after a tenth of a second (then two, four, ...), not after
    one.

    Receivers learn of a message before its content is there. With adapters of 10 MB each round waited for that twice.
    """
    for pull in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        pull.__kwdefaults__["initial_backoff"] = 0.1


def refuse_repeated_pieces() -> None:
    """Make this process refuse an array that names one of its pieces twice, with ValueError and before it is built.

    Flower repeats a piece as often as an array names it. So a sender of some megabytes could fill any memory. Sealed
    bytes are ciphertext, in which no piece of 5 MiB comes twice.
    """
    inflate = Array.inflate.__func__

    def once(cls: type[Array], object_content: bytes, children: dict[str, Any] | None = None) -> Array:
        named = json.loads(get_object_body(object_content, cls))["arraychunk_ids"]
        if named != list(range(len(children or {}))):
            raise ValueError("an array does not name each of its pieces once")
        return inflate(cls, object_content, children)

    Array.inflate = classmethod(once)
