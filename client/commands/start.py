"""fedfin-institution start: agent, SuperNode and SuperExec together, until Ctrl-C or SIGTERM."""

import argparse
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from client.commands.options import add_home, home_of
from common import cli

if TYPE_CHECKING:
    from client.institution.directory import InstitutionDirectory
    from client.node.processes import Part

__all__ = ["add"]

_TICK_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 5.0


def add(commands: cli.Commands) -> None:
    """`start`."""
    text = "take part: keep the agent and the connection to the hub running until stopped"
    start = cli.subcommand(commands, "start", _run, text, "start --home /srv/fedfin")
    add_home(start)
    cli.add_passphrase(start)
    only = "start only the agent (keys and rows) or only the node (network). Default: both"
    start.add_argument("--only", choices=("agent", "node"), default="all", help=only)
    proxy = "proxy for the connection to the hub (default: $FEDFIN_PROXY, which may hold a password, or none)"
    start.add_argument("--proxy", metavar="URL", help=proxy)


def _run(args: argparse.Namespace) -> int:
    from client.institution.paths import Slot
    from client.node.processes import agent_status, lock_path, single_instance_lock
    from common.errors import ServiceError
    from common.identity.passphrase import forget
    from common.processes.inspection import forbid_inspection

    home = home_of(args)
    _choose_proxy(args.proxy)
    if args.only != "node":
        forbid_inspection()
        home.rows()
        home.keys()
    home.package()
    if args.only != "agent" and home.lock_path.exists():
        forbid_inspection()
        home.secret(Slot.NODE)
    forget()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with single_instance_lock(lock_path(home, args.only), "this institution"):
        try:
            _keep_running(home, args.only, stop)
        except ServiceError:
            if not stop.is_set():
                raise
    if args.json:
        cli.print_json({"stopped": str(home.directory), "last": agent_status(home)})
    return 0


def _choose_proxy(url: str | None) -> None:
    """Put the proxy of the command line, or of the environment, where the node's processes find it.

    Raises:
        ConfigurationError: It cannot be used, or a password stands on the command line.
    """
    from client.node.proxy import PROXY, checked_proxy
    from common.errors import ConfigurationError

    if url is not None:
        if checked_proxy(url).password:
            raise ConfigurationError(f"--proxy: every user of the machine sees its password: set {PROXY} instead")
        os.environ[PROXY] = url
    elif os.environ.get(PROXY):
        checked_proxy(os.environ[PROXY])


def _keep_running(home: "InstitutionDirectory", part: "Part", stop: threading.Event) -> None:
    from client.institution.enrolment import expiring
    from client.node.connection import HubContact, describe, hung_for
    from client.node.processes import agent_status, services, state_path
    from common.processes.daily import DailyReminder
    from common.processes.supervisor import Supervisor

    package = home.package()
    expiry = DailyReminder(partial(expiring, home), _say)
    supervisor = Supervisor(services(home, part, package.address), state_path(home, part), _say, stop.is_set)
    try:
        if part != "node" and (port := home.settings().metrics.port) is not None:
            from client.agent.metrics import InstitutionCollector
            from common.processes.metrics import serve_metrics

            serve_metrics(InstitutionCollector(home, part), port, home.settings_path)
        supervisor.start()
        line, looked = "", 0.0
        while not stop.wait(_TICK_SECONDS):
            supervisor.tick()
            expiry.tick()
            if part != "agent" and time.monotonic() - looked > _LOOK_EVERY_SECONDS:
                looked = time.monotonic()
                if (silent := hung_for(home)) is not None:
                    supervisor.restart("supernode", f"it has not called the hub for {silent:.0f} s")
                    HubContact(home.hub_contact_path).turn()
                if (now := describe(home, package.address)) != line:
                    line = now
                    _say(line)
        at = agent_status(home)
        if "run" in at:
            step = f" at step {at['step']} of {at['steps']}" if "step" in at else ""
            _say(f"stopping with run {at['run']}, round {at['round']} in flight{step}: what was charged stays charged")
    finally:
        supervisor.stop()
        _say("stopped")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
