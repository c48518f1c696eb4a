"""The relay: takes sealed bytes from Flower to the agent's socket, and its sealed answer back. It can read nothing.

Flower starts it in a new process for every message, from the bundle that the hub sent; so it holds no key, no data
and no model, and says no more about a failure than one word from a closed list.
"""

import grpc
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.canonical import AGENT_METHOD, MAX_SEALED_BYTES
from common.errors import MessageError
from common.flower.records import RelayError, from_record, to_error, to_record

__all__ = ["app"]

_REASONS = {
    grpc.StatusCode.UNAVAILABLE: RelayError.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: RelayError.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: RelayError.LATE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RelayError.BUSY,
    grpc.StatusCode.INVALID_ARGUMENT: RelayError.UNREADABLE,
}

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """One assignment, one answer. The institution's node configuration says where the agent's socket is."""
    try:
        answer = _ask(str(context.node_config["agent-socket"]), from_record(message.content), message.metadata.ttl)
    except grpc.RpcError as error:
        return Message(to_error(_REASONS.get(error.code(), RelayError.FAILED)), reply_to=message)
    except MessageError:
        return Message(to_error(RelayError.UNREADABLE), reply_to=message)
    except Exception:  # Flower would carry its text to the hub
        return Message(to_error(RelayError.FAILED), reply_to=message)
    return Message(to_record(answer), reply_to=message)


@app.query()  # type: ignore[untyped-decorator]
def presence(message: Message, context: Context) -> Message:  # noqa: ARG001 - Flower calls it with both
    """Flower's node takes one message at a time: an answer says that it is waiting for one."""
    return Message(to_record(b""), reply_to=message)


def _ask(socket: str, sealed: bytes, timeout_s: float) -> bytes:
    options = [("grpc.max_receive_message_length", MAX_SEALED_BYTES), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        answer: bytes = channel.unary_unary(AGENT_METHOD)(sealed, timeout=timeout_s)
    return answer
