"""`fedfin-hub run | resume | stop | report`: a federation on the enrolled institutions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from server.commands.options import add_home, open_home

if TYPE_CHECKING:
    from server.runs.run import Run

__all__ = ["add_report", "add_resume", "add_run", "add_stop"]


def add_run(commands: cli.Commands) -> None:
    """`run CONFIG.toml`."""
    text = "start a federation on the enrolled institutions and follow it (Ctrl-C leaves it running)"
    parser = cli.subcommand(commands, "run", _run, text, "run headlines.toml --home /srv/fedfin-hub")
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="the run's configuration")
    parser.add_argument(
        "--name", metavar="RUN", help="the run's name (default: the name of the file and a random suffix)"
    )
    change = "replace a value of the file, as in --set privacy.target_epsilon=3"
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=change)
    _add_detach(parser)
    add_home(parser)
    cli.add_passphrase(parser)


def add_resume(commands: cli.Commands) -> None:
    """`resume RUN`."""
    text = "continue a run that was stopped or missed its quorum, at the exact round, or follow a running one"
    parser = cli.subcommand(commands, "resume", _resume, text, "resume headlines-1a2b3c4d")
    parser.add_argument("run_name", metavar="RUN", help="name of the run")
    _add_detach(parser)
    add_home(parser)
    cli.add_passphrase(parser)


def add_stop(commands: cli.Commands) -> None:
    """`stop RUN`."""
    text = "stop a run (finished rounds are kept, and `resume` continues it)"
    parser = cli.subcommand(commands, "stop", _stop, text, "stop headlines-1a2b3c4d")
    parser.add_argument("run_name", metavar="RUN", help="name of the run")
    add_home(parser)
    cli.add_passphrase(parser)


def add_report(commands: cli.Commands) -> None:
    """`report RUN`."""
    text = "write report.html again from a run's files, finished or not"
    parser = cli.subcommand(commands, "report", _report, text, "report headlines-1a2b3c4d")
    parser.add_argument("run_name", metavar="RUN", help="name of the run")
    add_home(parser)


def _add_detach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="return at once (`fedfin-hub status` shows the progress)")


def _run(args: argparse.Namespace) -> int:
    from common.errors import ConfigurationError
    from server.hub.audit_log import note
    from server.runs.reconciler import submit_run
    from server.runs.run import Run

    home = open_home(args)
    if not args.config.is_file():
        raise ConfigurationError(f"{args.config}: no such configuration file: give the path of a TOML file")
    home.keys()
    with home.control() as control:
        control.nodes()  # the hub answers, before anything is written
        run = Run.create(home, args.config, args.name, args.set)
        config, _ = run.config()
        note(home, "run_created", {"run": run.name, "config_digest": config.digest()})
        submit_run(run, control)
    return _followed(args, run)


def _resume(args: argparse.Namespace) -> int:
    from server.hub.audit_log import note
    from server.runs.reconciler import submit_run
    from server.runs.run import FINISHED, Run

    run = Run.open(open_home(args), args.run_name)
    ending = run.ending()
    if ending is not None and ending.state != FINISHED:
        with run.home.control() as control:
            control.nodes()
            note(run.home, "run_resumed", {"run": run.name, "round": run.next_round()})
            run.reopen()
            submit_run(run, control)
    return _followed(args, run)


def _stop(args: argparse.Namespace) -> int:
    from common.errors import CheckpointError
    from server.hub.audit_log import note
    from server.runs.reconciler import cancel_run
    from server.runs.run import STOPPED, Run

    run = Run.open(open_home(args), args.run_name)
    ending = run.ending()
    if ending is not None:
        raise CheckpointError(f"run {run.name}: it has ended already ({ending.state})")
    run.home.keys()
    with run.home.control() as control:
        control.nodes()
        # First, so that nobody starts it again.
        run.end(STOPPED, "stopped by the operator")
        cancel_run(run, control)
        note(run.home, "run_stopped", {"run": run.name, "round": run.next_round()})
    if args.json:
        cli.print_json({"run": run.name, "state": STOPPED, "round": run.next_round()})
    else:
        print(f"run {run.name} is stopped at round {run.next_round()}; `fedfin-hub resume {run.name}` continues it")
    return 0


def _report(args: argparse.Namespace) -> int:
    from server.report.report import write_report
    from server.runs.run import Run

    path = write_report(Run.open(open_home(args), args.run_name).directory)
    if args.json:
        cli.print_json({"report": str(path)})
    else:
        print(path)
    return 0


def _followed(args: argparse.Namespace, run: "Run") -> int:
    from server.runs.follow import follow

    if args.detach:
        if args.json:
            cli.print_json({"run": run.name, "state": "running"})
        else:
            print(f"run {run.name} goes on at the hub: `fedfin-hub status`")
        return 0
    result = follow(run, quiet=args.json)
    if args.json:
        cli.print_json(result)
    return 0 if result["state"] == "finished" else 2
