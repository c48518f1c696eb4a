"""A member whose node is its own program: what it announces and sends costs the others neither a place nor time."""

import time
from collections.abc import Iterator

import httpx
import pytest
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_object_tree, no_object_id_recompute
from flwr.supernode.fleet_http_client import FleetHttpClient

from common.flower.records import to_record
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, command, until
from tests.e2e.test_door import home, node

DEADLINE_S = 20
NAME = "morgana"
"""No other test of the same hub enrols it."""


class Mallory:
    """A node that is let in, takes the assignment and announces an answer."""

    def __init__(self, hub: Hub, client: FleetHttpClient) -> None:
        self._client, self._key = client, hub.home.members()[NAME].request.node_key.encode()
        self.node = Node()

    def is_in(self) -> bool:
        try:
            answer = self._client.ActivateNode(ActivateNodeRequest(public_key=self._key, heartbeat_interval=30))
        except httpx.HTTPStatusError:
            return False
        self.node = Node(node_id=answer.node_id)
        return True

    def announce(self, content: bytes) -> tuple[int, str]:
        """Announce an answer of this content to the next assignment. Return the run and the content's identity."""
        answer = until(self._pulled, "mallory is asked")
        assignment = message_from_proto(answer.messages_list[0])
        reply = Message(to_record(content), reply_to=assignment)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            tree = get_object_tree(reply)
            announced = message_to_proto(remove_content_from_message(reply))
        self._client.PushMessages(
            PushMessagesRequest(node=self.node, messages_list=[announced], message_object_trees=[tree])
        )
        return assignment.metadata.run_id, reply.object_id

    def upload(self, run_id: int, identity: str, content: bytes) -> int:
        """Return the status of sending one part of the content."""
        request = PushObjectRequest(node=self.node, run_id=run_id, object_id=identity, object_content=content)
        try:
            self._client.PushObject(request)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200

    def _pulled(self) -> object:
        self._client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=30))
        answer = self._client.PullMessages(PullMessagesRequest(node=self.node))
        return answer if answer.messages_list else None


@pytest.fixture
def mallory(hub: Hub) -> Iterator[Mallory]:
    hub.enrol(NAME)
    try:
        with node(hub, home(hub, NAME).tls, home(hub, NAME).node_key_path) as client:
            made = Mallory(hub, client)
            until(made.is_in, "mallory is let in", within=60)
            yield made
    finally:
        command("fedfin-hub", "revoke", NAME, "--home", hub.directory)
        del hub.institutions[NAME]


def test_an_answer_that_is_announced_and_not_sent_ends_no_round_late(hub: Hub, mallory: Mallory) -> None:
    run = hub.run("run.rounds=1", f"aggregation.deadline_s={DEADLINE_S}", "aggregation.quorum=3")
    run_id, identity = mallory.announce(b"x" * 1000)
    begun = time.monotonic()
    sent = [mallory.upload(run_id, identity, b"x" * 3 * 2**20) for _ in range(4)]
    assert sent[-2:] == [413, 413]  # far more than the adapter of the run
    assert time.monotonic() - begun < DEADLINE_S
    assert run.ended() == "finished"
    assert run.outcomes(1) == dict.fromkeys(BANKS, "contributed") | {NAME: "failed:late"}
    assert run.history()[0]["seconds"] <= DEADLINE_S + 2
