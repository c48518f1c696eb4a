"""The agent's process: `python -m client.agent DIR`. Started by `fedfin-institution start`."""

import argparse
import functools
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from client.agent.server import AgentService, serve
from client.institution.directory import InstitutionDirectory
from client.institution.peers import read_peers
from client.node.processes import single_instance_lock
from common import cli
from common.errors import FedfinError
from common.identity.keyring import receive
from common.processes.inspection import forbid_inspection
from common.processes.supervisor import end_with_parent

__all__ = ["main", "run_agent"]

log = logging.getLogger("fedfin.institution")

_LOOK_ENDS_SECONDS = 2.0
"""Seconds that the end of the agent waits for its look at the rows, which ends by itself several times faster."""


def main(arguments: list[str] | None = None) -> int:
    """Serve one institution until SIGTERM or SIGINT. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    end_with_parent()
    for name, value in {**cli.ENVIRONMENT, "HF_HUB_OFFLINE": "1"}.items():
        os.environ.setdefault(name, value)
    forbid_inspection()
    set_up_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        home = InstitutionDirectory(given.directory)
        receive(home.lock_path, signs=home.settings().token is not None)
        run_agent(home, stop)
    except FedfinError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


def set_up_logging() -> None:
    """Our own lines, and the errors of other libraries, to standard error. The import of some libraries sets up their
    own.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)
    logging.getLogger("fedfin").setLevel(logging.INFO)


def run_agent(home: InstitutionDirectory, stop: threading.Event) -> None:
    """Check the rows, listen, and answer until `stop` is set. A training in flight then ends at its next step.

    Raises:
        FedfinError: settings, keys, package or rows cannot be used, or another agent runs here.
    """
    settings, data, keys, package = home.settings(), home.rows(), home.keys(), home.package()
    with single_instance_lock(home.state / "agent-process.lock", f"the agent of {keys.name}"):
        # Imported late: faults so far are reported before torch is loaded, which takes seconds.
        from client.agent.agent import Agent
        from client.agent.look import look_in_background
        from client.agent.models import LocalModels
        from client.federation.planning import probe_data
        from common.base_models.device import select_device

        select_device(settings.model.device, "model.device")
        rows = probe_data(settings, data)
        models = LocalModels(settings, keys.fingerprint_key())
        service = AgentService(lambda sealed: agent.handle(sealed), home.agent_status_path)
        agent = Agent(
            home.directory, settings, keys, package.hub, models, (service,), functools.partial(read_peers, home)
        )
        server, health = serve(service, home.socket)
        look = look_in_background(data.train.name, rows, home.inspection_path, service)
        log.info("agent of %s ready: %d rows, %s", keys.name, len(rows), home.socket)
        del rows  # a run reads them again
        stop.wait()
        health.enter_graceful_shutdown()
        service.stop()
        server.stop(grace=None)
        service.wait_until_idle()
        look.join(_LOOK_ENDS_SECONDS)
        log.info("agent of %s stopped", keys.name)


if __name__ == "__main__":
    sys.exit(main())
