"""Describe a hub from its files and its SuperLink, for `status`, `institutions`, `certs` and `start`."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import CheckpointError, ConfigurationError, FedfinError, ServiceError
from common.files import try_lock
from common.identity.authority import Certificate, is_issued_by
from common.processes.supervisor import running_services
from server.hub.clocks import read_clocks
from server.hub.directory import HubDirectory
from server.hub.disk import room
from server.runs.run import Run

__all__ = ["certificates", "expiring", "institutions", "is_started", "starting", "status"]

_LATEST_RUNS = 10


@contextmanager
def starting(home: HubDirectory) -> Iterator[None]:
    """Hold the hub for one `start`.

    Raises:
        ServiceError: It is started already.
    """
    handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A process in `is_started` holds the lock for a moment, too.
        for _ in range(10):
            if try_lock(handle):
                break
            time.sleep(0.1)
        else:
            raise ServiceError(f"{home.directory}: this hub is started already: see `fedfin-hub status`")
        yield
    finally:
        os.close(handle)


def is_started(home: HubDirectory) -> bool:
    """Return whether a `start` holds the hub now."""
    handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return not try_lock(handle, shared=True)
    finally:
        os.close(handle)


def institutions(home: HubDirectory) -> list[dict[str, Any]]:
    """Return a row for each institution.

    A row has name, state, end of its certificate (UTC), fingerprint, approved size, and the seconds by which its clock
    is ahead of the hub's, if known. The state is "connected", "away", "revoked", or "enrolled" if the hub is not
    started.
    """
    online, clocks = _online(home), read_clocks(home)
    rows = []
    for name, entry in home.enrolled().items():
        state = "enrolled" if online is None else "connected" if entry.request.node_key in online else "away"
        rows.append(
            {
                "name": name,
                "state": "revoked" if entry.revoked else state,
                "certificate_until": entry.certificate.not_after.isoformat(timespec="seconds"),
                "fingerprint": entry.request.fingerprint,
                "approved_units": entry.approved_units,
                "clock_ahead_s": clocks.get(name),
            }
        )
    return rows


def certificates(home: HubDirectory) -> list[dict[str, Any]]:
    """Return a row for each certificate, soonest expiry first.

    A row has `name`, `until` (UTC), `days_left` and `state` ("valid", "soon", "expired", or "own" for the certificate
    with which an institution enrolled that renews it by its own authority).
    """
    own = {name for name, entry in home.members().items() if entry.own_authority}
    settings, rows = home.settings().certificates, []
    for name, certificate in _certificates(home).items():
        left, when = certificate.days_left(), certificate.expiry(settings.warn_days)
        state = "own" if name in own else "valid" if not when else "soon" if left > 0 else "expired"
        until = certificate.not_after.isoformat(timespec="seconds")
        rows.append({"name": name, "until": until, "days_left": round(left, 1), "state": state})
    return sorted(rows, key=lambda row: (row["days_left"], row["name"]))


def expiring(home: HubDirectory) -> list[str]:
    """Return a line for each certificate that expires within `certificates.warn_days` or has expired."""
    warn_days = home.settings().certificates.warn_days
    lines = []
    own = {name for name, entry in home.members().items() if entry.own_authority}
    for name, certificate in sorted(_certificates(home).items(), key=lambda entry: (entry[1].not_after, entry[0])):
        if name not in own and (when := certificate.expiry(warn_days)):
            renewal = (
                "create a new hub and enrol every institution again"
                if name == "authority"
                else "have it renewed by its authority: fedfin-hub certs --request"
                if name == "server" and not is_issued_by(certificate, home.authority_certificate.read_bytes())
                else f"fedfin-hub certs --rotate {name}"
            )
            lines.append(f"the certificate of {name} {when}: {renewal}")
    return lines


def _certificates(home: HubDirectory) -> dict[str, Certificate]:
    return {
        "authority": Certificate.read(home.authority_certificate.read_bytes()),
        "server": Certificate.read(home.server_certificate.read_bytes()),
        **{name: entry.certificate for name, entry in home.members().items()},
    }


def status(home: HubDirectory) -> dict[str, Any]:
    """Return the state of the hub, of its services and institutions, and of the latest runs."""
    return {
        "hub": str(home.directory),
        "started": is_started(home),
        "address": home.settings().gateway.address,
        "disk": asdict(room(home.directory)),
        "services": running_services(home.services_path),
        "institutions": institutions(home),
        "runs": [run_status(run) for run in Run.all(home)[-_LATEST_RUNS:]],
    }


def run_status(run: Run) -> dict[str, Any]:
    """Return the state of one run: "running" (a process executes it), "waiting" (for a process), or its ending.

    A run whose files cannot be read, such as one of an earlier release, is "unreadable" unless it has ended.
    """
    try:
        ending = run.ending()
        progress = None if ending else run.progress()
        config, _ = run.config()
        next_round = run.next_round()
    except (CheckpointError, ConfigurationError) as error:
        return _unreadable(run, error)
    return {
        "run": run.name,
        "state": ending.state if ending else "running" if run.is_executing() else "waiting",
        "round": min(next_round, config.rounds),
        "rounds": config.rounds,
        "answered": list(progress.answered) if progress else [],
        "waiting": list(progress.waiting) if progress else [],
        "message": ending.message if ending else "",
    }


def _unreadable(run: Run, error: FedfinError) -> dict[str, Any]:
    state, finished = "unreadable", 0
    with contextlib.suppress(CheckpointError):
        ending = run.ending()
        state = ending.state if ending else state
        finished = run.next_round() - 1
    return {
        "run": run.name,
        "state": state,
        "round": finished,
        "rounds": finished,
        "answered": [],
        "waiting": [],
        "message": str(error),
    }


def _online(home: HubDirectory) -> frozenset[str] | None:
    """Return the node keys of the connected institutions. None while the hub is not started."""
    with contextlib.suppress(ServiceError), home.control() as control:
        return frozenset(node.key for node in control.nodes() if node.online)
    return None


def _lock(home: HubDirectory) -> Path:
    home.state.mkdir(mode=0o700, exist_ok=True)
    return home.state / "start.lock"
