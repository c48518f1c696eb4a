"""The hub's audit logs: one of the hub, over all runs, and one of each run. Hash-chained, signed, verified offline.

The hub's log names every run when it begins and when it ends, with the length and last hash of the run's own log. So
a run's log that was edited, cut, put back to an earlier state or removed does not match.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import EnvelopeError, LedgerError
from common.identity.keys import PublicKeys
from common.journal.journal import Journal, verify
from common.journal.line_format import Entry
from server.hub.directory import HubDirectory

__all__ = ["HUB_PURPOSE", "RUN_PURPOSE", "VerifiedLog", "note", "run_ended", "verify_all"]

HUB_PURPOSE, RUN_PURPOSE = "hub audit log", "run audit log"
_WAIT_S = 10.0


@dataclass(frozen=True)
class VerifiedLog:
    """What `verify_all` found whole: entries of the hub's log, and of each run's."""

    hub: int
    runs: Mapping[str, int]


def note(home: HubDirectory, kind: str, body: Mapping[str, Any]) -> None:
    """Append to the hub's own log; waits a moment while another command writes there.

    Raises:
        LedgerError: edited, cut, not writable, or held by another process for long.
    """
    keys, end = home.keys(), time.monotonic() + _WAIT_S
    while True:
        try:
            with Journal.open(home.audit_path, keys, HUB_PURPOSE) as journal:
                journal.append(kind, body)
                return
        except LedgerError as error:
            if "held by another process" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.05)


def run_ended(home: HubDirectory, run: str, outcome: str, entries: tuple[Entry, ...]) -> None:
    """Write into the hub's log how far the run's own goes."""
    last = hashlib.sha256(entries[-1].line()).hexdigest() if entries else ""
    note(home, "run_ended", {"run": run, "outcome": outcome, "entries": len(entries), "last": last})


def verify_all(directory: Path, public: PublicKeys | None = None) -> VerifiedLog:
    """Check every entry of every log of the hub in `directory`, or of a copy of it; needs no private key.

    Args:
        public: the hub's public keys as the reader knows them; else those beside the logs, which only show edits by
            someone without the hub's key.

    Raises:
        LedgerError: a log is edited, cut, absent, or shorter than the hub's log says it once was.
        EnvelopeError: the public keys are absent or damaged.
    """
    home = HubDirectory(directory)
    public = public or _public(home)
    entries = verify(home.audit_path, public, HUB_PURPOSE)
    begun = [str(entry.body["run"]) for entry in entries if entry.kind == "run_created"]
    ended = {str(entry.body["run"]): entry.body for entry in entries if entry.kind == "run_ended"}
    found = {}
    for path in sorted(home.runs_path.glob("*/audit.jsonl")):
        own = verify(path, public, RUN_PURPOSE)
        _check_reach(path, own, ended.get(path.parent.name, {}))
        found[path.parent.name] = len(own)
    for run in begun:
        if run in ended and ended[run]["entries"] and run not in found:
            raise LedgerError(f"{home.runs_path / run / 'audit.jsonl'}: absent, though the hub's log names it")
    unknown = sorted(set(found) - set(begun))
    if unknown:
        raise LedgerError(f"{home.runs_path / unknown[0]}: its audit log is there, but the hub's log does not name it")
    return VerifiedLog(len(entries), found)


def _check_reach(path: Path, own: tuple[Entry, ...], ended: Mapping[str, Any]) -> None:
    count = int(ended.get("entries", 0))
    if not count:
        return
    if len(own) < count or hashlib.sha256(own[count - 1].line()).hexdigest() != ended["last"]:
        raise LedgerError(f"{path}: not the log that the hub's own says ended with entry {count}: restore it")


def _public(home: HubDirectory) -> PublicKeys:
    path = home.keys_path / "public.json"
    try:
        return PublicKeys.from_json(path.read_text())
    except OSError as error:
        raise EnvelopeError("keys", f"{path}: cannot be read ({error.strerror}): give the hub's directory") from None
