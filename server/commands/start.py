"""`fedfin-hub start`: SuperLink, SuperExec and gateway, kept running until told to stop."""

import argparse

from common import cli
from server.commands.options import add_home, open_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`start`."""
    text = "start the hub and keep it running until Ctrl-C or SIGTERM (runs continue at the next start)"
    parser = cli.subcommand(commands, "start", _start, text, "start --home /srv/fedfin-hub")
    words = "write each line as one JSON object, for a collector of logs"
    parser.add_argument("--json-logs", action="store_true", help=words)
    add_home(parser)
    cli.add_passphrase(parser)


def _start(args: argparse.Namespace) -> int:
    import logging
    import signal
    import threading
    from functools import partial

    from common.errors import ServiceError
    from common.processes.daily import DailyReminder
    from common.processes.inspection import forbid_inspection
    from common.processes.logs import JsonFormatter
    from common.processes.supervisor import Supervisor
    from server.gateway.services import prepare_services
    from server.hub.disk import DiskWatch
    from server.runs.reconciler import Reconciler
    from server.runs.status import expiring, starting

    home = open_home(args)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if args.json_logs:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    logging.getLogger("httpx").setLevel(logging.WARNING)
    log = logging.getLogger("fedfin.hub")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    if home.holds_secrets:
        forbid_inspection()  # it will hold secrets of encrypted keys, or a PIN
    with starting(home):
        expiry = DailyReminder(partial(expiring, home), log.warning)
        supervisor = Supervisor(prepare_services(home), home.services_path, log.info, stopping.is_set)
        keeper, disk = Reconciler(home), DiskWatch(home.directory, log.error)
        try:
            if (port := home.settings().metrics.port) is not None:
                from common.processes.metrics import serve_metrics
                from server.runs.metrics import HubCollector

                serve_metrics(HubCollector(home), port, home.settings_path)
            supervisor.start()
            log.info("the hub is up: institutions dial %s", home.settings().gateway.address)
            while not stopping.wait(0.3):
                supervisor.tick()
                keeper.tick()
                expiry.tick()
                disk.tick()
        except ServiceError:
            if not stopping.is_set():
                raise
        finally:
            supervisor.stop()
            home.superlink_path.unlink(missing_ok=True)
    log.info("the hub is stopped; unfinished runs go on at the next start")
    return 0
