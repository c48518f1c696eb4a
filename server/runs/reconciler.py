"""While the hub is started: Flower's registrations follow enrolment, and a run whose process died is played on.

Everything it does follows from files and from what the SuperLink says, so it may itself be killed at any time.
"""

import logging
import os
import signal
import time

from common.errors import FedfinError, ServiceError
from common.flower.bundle import bundle, bundle_sha256
from common.flower.internals import FINISHED, Control
from server.hub.audit_log import run_ended
from server.hub.directory import HubDirectory
from server.runs.run import FAILED, Run

__all__ = ["Reconciler", "cancel_run", "submit_run"]

_ATTEMPTS = 3
_START_WITHIN_S = 180.0
_LOOK_EVERY_S = 1.0

log = logging.getLogger("fedfin.hub")


class Reconciler:
    """Call `tick` often; it looks about once a second."""

    def __init__(self, home: HubDirectory) -> None:
        self._home = home
        self._enrolment: object = None
        self._due = 0.0

    def tick(self) -> None:
        """Do what is due. A SuperLink that does not answer is asked again the next time."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _LOOK_EVERY_S
        try:
            with self._home.control() as control:
                self._follow_enrolment(control)
                for run in Run.all(self._home):
                    _keep(run, control)
        except ServiceError as error:
            log.info("%s", error)
        except FedfinError as error:
            log.error("%s", error)

    def _follow_enrolment(self, control: Control) -> None:
        stamp = self._home.enrolment_stamp()
        if stamp == self._enrolment:
            return
        members = {entry.request.node_key: name for name, entry in self._home.members().items()}
        known = {node.key: node for node in control.nodes()}
        for key, name in members.items():
            if key not in known:
                control.register(key, name)
                log.info("%s may connect", name)
        for key, node in known.items():
            if key not in members and node.registered:
                control.unregister(node.node_id)
                log.info("node %d may no longer connect", node.node_id)
        self._enrolment = stamp


def submit_run(run: Run, control: Control, attempt: int = 1) -> None:
    """Hand the run to Flower, which starts its process.

    Raises:
        ServiceError: the SuperLink does not answer, or refuses.
    """
    run.submitted(control.start_run(bundle(), bundle_sha256(), {"run": run.name}), attempt)


def cancel_run(run: Run, control: Control) -> None:
    """End the run's process, here and in Flower's books. Whatever it had saved stays."""
    flower_run = run.submission().get("flower_run")
    if flower_run is not None:
        control.stop_run(int(flower_run))
    if run.is_playing():
        os.kill(int(run.played_by()["pid"]), signal.SIGTERM)


def _keep(run: Run, control: Control) -> None:
    """Start the run's process again where it should be running and is not."""
    submission = run.submission()
    if run.outcome() is not None or not submission or run.is_playing():
        return
    flower_run = str(submission["flower_run"])
    age = time.time() - (run.directory / "submission.json").stat().st_mtime
    began = run.played_by().get("flower_run") == flower_run
    waiting = control.run_status(int(flower_run)) not in (FINISHED, "")
    if waiting and not began and age < _START_WITHIN_S:
        return
    # The outcome is written before the process lets go of the run: looked at again, now that it has.
    if run.outcome() is not None:
        return
    progressed = run.next_round() > int(submission["round"])
    attempt = 1 if progressed else int(submission["attempt"]) + 1
    control.stop_run(int(flower_run))
    if attempt > _ATTEMPTS:
        message = f"run {run.name}: its process ended {_ATTEMPTS} times in one round: see state/logs/superexec.log"
        log.error("%s", message)
        run_ended(run.home, run.name, FAILED, ())
        run.end(FAILED, message)
        return
    log.warning("run %s: its process is gone: continued at round %d", run.name, run.next_round())
    submit_run(run, control, attempt)
