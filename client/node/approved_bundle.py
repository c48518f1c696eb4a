"""Hold the Flower node to the one app bundle that is made of the code installed here.

Flower runs every bundle that the hub sends. The functions here change that in private parts of Flower. Their contract
tests are `tests/client/node/test_flower_node.py`.
"""

import contextlib
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.institution.paths import InstitutionPaths
from common.flower.bundle import bundle

__all__ = ["Approved", "approved_only", "install_bundle"]

_AGENT_APP = "flwr-agentapp"
_SHORTEST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.1, 0.25
_POLL_FAST_FOR_SECONDS = 60.0  # since the last answer, Flower's own three seconds afterwards
_GRACE_SECONDS = 60.0  # for the answer to a message that comes at its last moment


class Approved:
    """The one bundle that may run here, made of the code that is installed here."""

    def __init__(self, content: bytes) -> None:
        from flwr.cli.config_utils import get_fab_metadata

        self.sha256 = hashlib.sha256(content).hexdigest()
        self.fab_id, self.version = get_fab_metadata(content)

    def names(self, run: Any) -> bool:
        """Return whether a run claims to run this bundle, as a Flower app."""
        claimed = (run.fab_id, run.fab_version, run.fab_hash)
        return claimed == (self.fab_id, self.version, self.sha256) and run.primary_task_type != _AGENT_APP

    def is_(self, fab: Any) -> bool:
        """Return whether these bytes are this bundle. The hash that is sent with them must agree."""
        return fab.hash_str == self.sha256 and hashlib.sha256(fab.content).hexdigest() == self.sha256


class _NotApprovedError(Exception):
    pass


def approved_only(
    pull: Callable[..., int | None], approved: Approved, holds: Callable[[float], None] = lambda _: None
) -> Callable[..., Any]:
    """Wrap Flower's `_pull_and_store_message`, and refuse runs of any other bundle before it is stored or run.

    A refusal is Flower's own error for a bundle that could not be verified. While messages come, the node asks again
    after a twentieth of the time since its last answer, between .1 and .25 seconds, instead of once in three seconds.

    Args:
        pull: Flower's function.
        approved: The only bundle that may run.
        holds: Called with the most seconds that the node will hold a message which it has pulled.
    """
    from flwr.app import Message
    from flwr.supernode import start_client_internal as internal

    last, answered = time.monotonic(), False

    def pull_approved(**arguments: Any) -> int | None:
        nonlocal last, answered
        received: list[Message] = []
        if answered:  # Flower calls again once the answer to the last message has left
            last, answered = time.monotonic(), False

        def receive() -> Any:
            answer = arguments["receive"]()
            if answer is not None:
                received.append(answer[0])
            return answer

        def get_run(run_id: int) -> Any:
            run = arguments["get_run"](run_id)
            if not approved.names(run):
                raise _NotApprovedError
            return run

        def get_fab(fab_hash: str, run_id: int) -> Any:
            fab = arguments["get_fab"](fab_hash, run_id)
            if not approved.is_(fab):
                raise _NotApprovedError
            return fab

        checked = {**arguments, "receive": receive, "get_run": get_run, "get_fab": get_fab}
        while True:
            received.clear()
            try:
                run_id = pull(**checked)
            except _NotApprovedError:
                message = received[-1]
                print("refused: the hub's run is of another app bundle than is installed here", flush=True)  # noqa: T201
                reply = Message(internal.FAB_VERIFICATION_ERROR, reply_to=message)
                internal._insert_message(reply, arguments["state"], arguments["object_store"])
                run_id = int(message.metadata.run_id)
            if run_id is not None:
                answered = True
                holds(max(message.metadata.ttl for message in received) + _GRACE_SECONDS)
                return run_id
            since = time.monotonic() - last
            if since > _POLL_FAST_FOR_SECONDS:
                return None
            time.sleep(min(_LONGEST_POLL_SECONDS, max(_SHORTEST_POLL_SECONDS, since / 20)))

    return pull_approved


def install_bundle(home: InstitutionPaths) -> None:
    """Write the approved app to Flower's directory, read-only. Flower overwrites no app that is already there."""
    from flwr.cli.install import install_from_fab

    apps = home.flower_home / "apps"
    if apps.exists():
        _writable(apps, True)
        shutil.rmtree(apps)
    with contextlib.redirect_stdout(io.StringIO()):
        install_from_fab(bundle(), install_dir=home.flower_home, skip_prompt=True)
    _writable(apps, False)


def _writable(root: Path, writable: bool) -> None:
    for directory, _, files in os.walk(root):
        for file in files:
            (Path(directory) / file).chmod(0o644 if writable else 0o444)
        Path(directory).chmod(0o755 if writable else 0o555)
