"""The hub's audit logs: one over all runs, and one of each run. They are hash-chained, signed and verified offline.

The hub's log has an entry for the beginning, every round and the end of every run, with the length and the last hash
of the run's own log. So the log of a run does not match if it was edited, cut, put back to an earlier state or
removed. The entry for the end of a finished run also has the digests of its adapter, history and result.
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

__all__ = [
    "HUB_PURPOSE",
    "RUN_PURPOSE",
    "VerifiedLog",
    "anchor_run",
    "file_sha256",
    "note",
    "run_ended",
    "verify_all",
]

HUB_PURPOSE, RUN_PURPOSE = "hub audit log", "run audit log"
_WAIT_S = 10.0


@dataclass(frozen=True)
class VerifiedLog:
    """The result of `verify_all`: number of entries of the hub's log, and of the log of each run."""

    hub: int
    runs: Mapping[str, int]


def note(home: HubDirectory, kind: str, body: Mapping[str, Any]) -> None:
    """Append to the hub's own log. If another command writes there, wait up to ten seconds.

    Args:
        home: The hub's directory.
        kind: Kind of the entry, such as "run_created".
        body: JSON values without private data.

    Raises:
        LedgerError: The log was edited or cut, is not writable, or another process holds it.
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


def anchor_run(home: HubDirectory, run: str, entries: tuple[Entry, ...]) -> None:
    """Record the length and the last hash of the log of a run under way in the hub's log. Raises as `note` does."""
    note(home, "run_anchored", {"run": run, **_reach(entries)})


def run_ended(
    home: HubDirectory, run: str, outcome: str, entries: tuple[Entry, ...], files: Mapping[str, str] | None = None
) -> None:
    """Record the end of a run in the hub's log, with the length and the last hash of the run's own log.

    Args:
        home: The hub's directory.
        run: Name of the run.
        outcome: One of the constants of `server.runs.run`.
        entries: Entries of the run's own log.
        files: SHA-256 (hex) of the files that must not change any more, by path in the run's directory.

    Raises:
        LedgerError: As in `note`.
    """
    note(home, "run_ended", {"run": run, "outcome": outcome, **_reach(entries), "files": dict(files or {})})


def _reach(entries: tuple[Entry, ...]) -> dict[str, Any]:
    last = hashlib.sha256(entries[-1].line()).hexdigest() if entries else ""
    return {"entries": len(entries), "last": last}


def verify_all(directory: Path, public: PublicKeys | None = None) -> VerifiedLog:
    """Check every entry of every log of a hub. No private key is needed.

    Args:
        directory: The hub's directory, or a copy of it.
        public: The hub's public keys as the reader knows them. If None, the keys beside the logs are used, which only
            show edits by somebody without the hub's private key.

    Raises:
        LedgerError: A log was edited, cut or removed, or is shorter than the hub's log says.
        EnvelopeError: The public keys are absent or damaged.
    """
    home = HubDirectory(directory)
    public = public or _public(home)
    entries = verify(home.audit_path, public, HUB_PURPOSE)
    created = [str(entry.body["run"]) for entry in entries if entry.kind == "run_created"]
    reached, ended = {}, {}
    for entry in entries:
        if entry.kind in ("run_anchored", "run_ended") and entry.body["entries"]:
            reached[str(entry.body["run"])] = entry.body
        if entry.kind == "run_ended":
            ended[str(entry.body["run"])] = entry.body
    lengths = {}
    for path in sorted(home.runs_path.glob("*/audit.jsonl")):
        own = verify(path, public, RUN_PURPOSE)
        _check_reach(path, own, reached.get(path.parent.name, {}))
        lengths[path.parent.name] = len(own)
    for run in created:
        if run in reached and run not in lengths:
            raise LedgerError(
                f"{home.runs_path / run / 'audit.jsonl'}: it is absent, but the hub's log names it: restore it"
            )
        _check_files(home.runs_path / run, ended.get(run, {}))
    unknown = sorted(set(lengths) - set(created))
    if unknown:
        raise LedgerError(f"{home.runs_path / unknown[0]}: the hub's log does not name this run: restore the hub's log")
    return VerifiedLog(len(entries), lengths)


def _check_reach(path: Path, own: tuple[Entry, ...], reached: Mapping[str, Any]) -> None:
    count = int(reached.get("entries", 0))
    if not count:
        return
    if len(own) < count or hashlib.sha256(own[count - 1].line()).hexdigest() != reached["last"]:
        raise LedgerError(f"{path}: by the hub's log, it ended with entry {count}, and that entry differs: restore it")


def _check_files(directory: Path, ended: Mapping[str, Any]) -> None:
    # Logs of earlier releases have no digests of files.
    for name, digest in dict(ended.get("files", {})).items():
        path = directory / name
        try:
            actual = file_sha256(path)
        except OSError as error:
            raise LedgerError(f"{path}: the hub's log names it, and it cannot be read ({error.strerror})") from None
        if actual != digest:
            raise LedgerError(f"{path}: it was changed after the run had ended: restore it")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _public(home: HubDirectory) -> PublicKeys:
    path = home.keys_path / "public.json"
    try:
        return PublicKeys.from_json(path.read_text())
    except OSError as error:
        raise EnvelopeError("keys", f"{path}: cannot be read ({error.strerror}): give the hub's directory") from None
