"""fedfin-institution start: agent, SuperNode and SuperExec together, until Ctrl-C or SIGTERM."""

import argparse
import signal
import threading
import time

from client.commands.options import add_home, home_of
from common import command

__all__ = ["add"]

_TICK_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 5.0
_WARN_DAYS = 30


def add(commands: command.Commands) -> None:
    """`start`."""
    text = "take part: keep the agent and the connection to the hub running until stopped"
    start = command.subcommand(commands, "start", _run, text, "start --home /srv/fedfin")
    only = "only the process with keys and rows, or only the one with the network; default: both"
    add_home(start)
    start.add_argument("--only", choices=("agent", "node"), default="all", help=only)


def _run(given: argparse.Namespace) -> int:
    from client.connection import describe
    from client.processes import at_work, services, state_path
    from common.pki import Certificate
    from common.supervisor import Supervisor

    home = home_of(given)
    if given.only != "node":
        home.settings()
        home.keys()
    package = home.package()
    left = Certificate.read(package.certificate).days_left()
    if left < _WARN_DAYS:
        _say(f"this institution's certificate expires in {left:.0f} days: ask the hub's operator for a new package")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    supervisor = Supervisor(services(home, given.only), state_path(home, given.only), _say)
    supervisor.start()
    line, looked = "", 0.0
    while not stop.wait(_TICK_SECONDS):
        supervisor.tick()
        if given.only != "agent" and time.monotonic() - looked > _LOOK_EVERY_SECONDS:
            looked = time.monotonic()
            if (now := describe(home, package.address)) != line:
                line = now
                _say(line)
    at = at_work(home)
    if "run" in at:
        step = f" at step {at['step']} of {at['steps']}" if "step" in at else ""
        _say(f"stopping with run {at['run']}, round {at['round']} in flight{step}: what was charged stays charged")
    supervisor.stop()
    _say("stopped")
    if given.json:
        command.print_json({"stopped": str(home.directory), "in_flight": at if "run" in at else None})
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
