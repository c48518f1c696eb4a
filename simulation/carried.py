"""An institution's sessions of secure aggregation between two messages of Flower's engine.

A deployed institution keeps them in the memory of its agent. A worker of the engine serves any institution, so they
travel with the context that Flower keeps for each node, in memory, and hands to every call of its app. They hold the
secrets of masks. In a simulation those protect nothing, since one process sees all rows.
"""

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from client.agent.secure import SecureSessions
from common.identity.keys import PrivateKeys, PublicKeys

__all__ = ["carried"]

_RECORD, _VALUE = "fedfin", "sessions"


class _Pickler(pickle.Pickler):
    """Writes keys as their bytes: the objects that were made of them cannot be written."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, PublicKeys | PrivateKeys):
            return type(value), tuple(getattr(value, field.name) for field in fields(value))
        return NotImplemented


@contextmanager
def carried(sessions: SecureSessions, state: RecordDict) -> Iterator[None]:
    """Give an institution the sessions that its last message left in `state`, and leave them there again."""
    kept = state.get(_RECORD)
    if isinstance(kept, ConfigRecord):
        sessions.held = pickle.loads(kept[_VALUE])  # noqa: S301 - written below, and handed on by Flower's own process
    try:
        yield
    finally:
        if sessions.held:
            written = io.BytesIO()
            _Pickler(written).dump(sessions.held)
            state[_RECORD] = ConfigRecord({_VALUE: written.getvalue()})
