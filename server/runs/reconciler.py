"""Reconcile Flower with the hub's files: register enrolled nodes, and resubmit runs whose process died.

Every action follows from files and from the SuperLink's answers, so this process too may be killed at any time.
"""

import logging
import os
import signal
import time

from common.errors import CheckpointError, FedfinError, ServiceError
from common.flower.bundle import bundle, bundle_sha256
from common.flower.internals import FINISHED, Control
from server.hub.audit_log import run_ended
from server.hub.directory import HubDirectory
from server.runs.run import FAILED, Run

__all__ = ["Reconciler", "cancel_run", "submit_run"]

_ATTEMPTS = 3
"""Hand-overs of a run to Flower within one round, after which the run has failed."""
_START_WITHIN_S = 180.0
"""Seconds within which Flower must start the process of a submitted run."""
_PERIOD_S = 1.0

log = logging.getLogger("fedfin.hub")


class Reconciler:
    """Compares files and SuperLink about once a second, however often `tick` is called.

    Args:
        home: The hub's directory.
    """

    def __init__(self, home: HubDirectory) -> None:
        self._home = home
        self._enrolment: object = None
        self._due = 0.0

    def tick(self) -> None:
        """Reconcile if it is due. Problems are logged, and the next call tries again."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _PERIOD_S
        try:
            with self._home.control() as control:
                self._reconcile_nodes(control)
                for run in Run.all(self._home):
                    self._reconcile_run(run, control)
        except ServiceError as error:
            log.info("%s", error)
        except FedfinError as error:
            log.error("%s", error)
        except OSError as error:
            log.error("the hub's directory cannot be written (%s): make room", error.strerror)

    def _reconcile_run(self, run: Run, control: Control) -> None:
        try:
            _reconcile(run, control)
        except CheckpointError as error:  # a damaged file of one run must not stop the others
            log.error("run %s: %s", run.name, error)

    def _reconcile_nodes(self, control: Control) -> None:
        stamp = self._home.enrolment_stamp()
        if stamp == self._enrolment:
            return
        members = {entry.request.node_key: name for name, entry in self._home.members().items()}
        nodes = {node.key: node for node in control.nodes()}
        for key, name in members.items():
            if key not in nodes:
                control.register(key, name)
                log.info("%s may connect", name)
        for key, node in nodes.items():
            if key not in members and node.registered:
                control.unregister(node.node_id)
                log.info("node %d may no longer connect", node.node_id)
        self._enrolment = stamp


def submit_run(run: Run, control: Control, attempt: int = 1) -> None:
    """Hand the run to Flower, which starts its process.

    Args:
        run: The run.
        control: The SuperLink's control API.
        attempt: Number of this hand-over since the last finished round.

    Raises:
        ServiceError: The SuperLink does not answer, or refuses.
    """
    run.submitted(control.start_run(bundle(), bundle_sha256(), {"run": run.name}), attempt)


def cancel_run(run: Run, control: Control) -> None:
    """End the run's process and Flower's record of it. Its saved rounds stay.

    Raises:
        ServiceError: The SuperLink does not answer.
    """
    submission = run.submission()
    if submission is not None:
        control.stop_run(int(submission.flower_run))
    executor = run.executor()
    if executor is not None and run.is_executing():
        os.kill(executor.pid, signal.SIGTERM)


def _reconcile(run: Run, control: Control) -> None:
    """Resubmit the run if it should be executing and is not."""
    submission = run.submission()
    if run.ending() is not None or submission is None or run.is_executing():
        return
    flower_run = int(submission.flower_run)
    age_s = time.time() - (run.directory / "submission.json").stat().st_mtime
    executor = run.executor()
    has_begun = executor is not None and executor.flower_run == submission.flower_run
    is_pending = control.run_status(flower_run) not in (FINISHED, "")
    if is_pending and not has_begun and age_s < _START_WITHIN_S:
        return
    # A process writes the ending before it releases the run, so the ending is checked again after the release.
    if run.ending() is not None:
        return
    has_progressed = run.next_round() > submission.round
    attempt = 1 if has_progressed else submission.attempt + 1
    control.stop_run(flower_run)
    if attempt > _ATTEMPTS:
        message = f"run {run.name}: its process ended {_ATTEMPTS} times in one round: see state/logs/superexec.log"
        log.error("%s", message)
        run_ended(run.home, run.name, FAILED, ())
        run.end(FAILED, message)
        return
    log.warning("run %s: its process is gone: resubmitted at round %d", run.name, run.next_round())
    submit_run(run, control, attempt)
