"""What a hub can say about itself, from its files and its SuperLink: for `status`, `institutions`, `certs`, `start`."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import ServiceError
from common.files import try_lock
from common.identity.authority import Certificate
from common.processes.supervisor import running_services
from server.hub.directory import HubDirectory
from server.runs.run import Run

__all__ = ["certificates", "expiring", "institutions", "is_started", "starting", "status"]

_LATEST_RUNS = 10


@contextmanager
def starting(home: HubDirectory) -> Iterator[None]:
    """Hold the hub for one `start`.

    Raises:
        ServiceError: it is started already.
    """
    handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Whoever only looks (`is_started`) holds it for a moment, too.
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
    """Whether a `start` holds the hub now."""
    handle = os.open(_lock(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return not try_lock(handle, shared=True)
    finally:
        os.close(handle)


def institutions(home: HubDirectory) -> list[dict[str, Any]]:
    """Each institution: `name`, `state` (connected, away, enrolled where the hub is not started, revoked), ..."""
    online = _online(home)
    found = []
    for name, entry in home.enrolled().items():
        state = "enrolled" if online is None else "connected" if entry.request.node_key in online else "away"
        found.append(
            {
                "name": name,
                "state": "revoked" if entry.revoked else state,
                "certificate_until": entry.certificate.not_after.isoformat(timespec="seconds"),
                "fingerprint": entry.request.fingerprint,
            }
        )
    return found


def certificates(home: HubDirectory) -> list[dict[str, Any]]:
    """What expires when, soonest first: `name`, `until`, `days_left`, `state` (valid, soon, expired)."""
    settings = home.settings().certificates
    known = {
        "authority": Certificate.read(home.authority_certificate.read_bytes()),
        "server": Certificate.read(home.server_certificate.read_bytes()),
        **{name: entry.certificate for name, entry in home.members().items()},
    }
    found = []
    for name, certificate in known.items():
        left = certificate.days_left()
        state = "expired" if left <= 0 else "soon" if left <= settings.warn_days else "valid"
        until = certificate.not_after.isoformat(timespec="seconds")
        found.append({"name": name, "until": until, "days_left": round(left, 1), "state": state})
    return sorted(found, key=lambda entry: (entry["days_left"], entry["name"]))


def expiring(home: HubDirectory) -> list[str]:
    """A line for each certificate that ends within `certificates.warn_days`, or has ended: what and what to do."""
    found = []
    for entry in certificates(home):
        if entry["state"] == "valid":
            continue
        name, when = entry["name"], "has expired"
        if entry["state"] == "soon":
            when = f"expires in {entry['days_left']:.0f} days"
        renewal = (
            "it takes a new hub, and enrolling anew" if name == "authority" else f"fedfin-hub certs --rotate {name}"
        )
        found.append(f"the certificate of {name} {when}: {renewal}")
    return found


def status(home: HubDirectory) -> dict[str, Any]:
    """All of it, and where the latest runs stand."""
    return {
        "hub": str(home.directory),
        "started": is_started(home),
        "address": home.settings().gateway.address,
        "services": running_services(home.services_path),
        "institutions": institutions(home),
        "runs": [run_status(run) for run in Run.all(home)[-_LATEST_RUNS:]],
    }


def run_status(run: Run) -> dict[str, Any]:
    """Where one run stands. `state` is "running" (a process plays it), "waiting" (for one), or how it ended."""
    outcome = run.outcome()
    progress = {} if outcome else run.progress()
    config, _ = run.config()
    state = outcome["state"] if outcome else "running" if run.is_playing() else "waiting"
    return {
        "run": run.name,
        "state": state,
        "round": min(run.next_round(), config.rounds),
        "rounds": config.rounds,
        "answered": list(progress.get("answered", ())),
        "waiting": list(progress.get("waiting", ())),
        "message": outcome["message"] if outcome else "",
    }


def _online(home: HubDirectory) -> frozenset[str] | None:
    """Node keys of who is connected; None while the hub is not started."""
    with contextlib.suppress(ServiceError), home.control() as control:
        return frozenset(node.key for node in control.nodes() if node.online)
    return None


def _lock(home: HubDirectory) -> Path:
    home.state.mkdir(mode=0o700, exist_ok=True)
    return home.state / "start.lock"
