"""fedfin-simulate: a whole federation on one machine."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from common.errors import ConfigurationError, FedfinError

__all__ = ["main"]

DEMO = Path(__file__).with_name("demo.toml")
ENVIRONMENT = {
    # Threads that wait by spinning make a machine that does other work too several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def parser() -> argparse.ArgumentParser:
    """The command line, with an example for each command."""
    top = argparse.ArgumentParser(
        prog="fedfin-simulate",
        description="A federation on one machine: institutions fine-tune one language model together, privately.",
        epilog="example: fedfin-simulate run benchmarks/sentfin_desks.toml --out runs/desks",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, epilog=f"example: fedfin-simulate {example}")
        added.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
        return added

    run = command(
        "run", "run a federation described by a TOML file", "run benchmarks/sentfin_desks.toml --out runs/desks"
    )
    run.add_argument("config", type=Path, metavar="CONFIG.toml")
    demo = command("demo", "four synthetic banks, a real encoder, about four minutes", "demo --out runs/demo")
    for each in (run, demo):
        each.add_argument("--out", type=Path, metavar="DIR", help="an empty or new directory (default: runs/NAME)")
        each.add_argument(
            "--engine",
            choices=("in-process", "flower"),
            default="in-process",
            help="flower: Flower's simulation engine, on Ray",
        )
    for each in (run, demo):
        change = "another value than the file's, as in --set privacy.target_epsilon=3"
        each.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=change)
    run.add_argument("--baselines", action="store_true", help="also train each institution alone, and a bag of words")
    resume = command("resume", "continue a run at the exact round where it stopped", "resume runs/desks")
    report = command("report", "write report.html again from a run's files", "report runs/desks")
    resume.add_argument("out", type=Path, metavar="DIR")
    resume.add_argument("--engine", choices=("in-process", "flower"), default="in-process")
    resume.add_argument("--baselines", action="store_true")
    report.add_argument("out", type=Path, metavar="DIR")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 for bad input, 130 when interrupted)."""
    given = parser().parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return _dispatch(given)
    except FedfinError as error:
        print(f"fedfin-simulate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "fedfin-simulate: interrupted; every finished round is saved: continue with `fedfin-simulate resume DIR`",
            file=sys.stderr,
        )
        return 130


def _dispatch(given: argparse.Namespace) -> int:
    if given.command == "report":
        from server.report import write_report

        path = write_report(given.out)
        print(json.dumps({"report": str(path)}) if given.json else path)
        return 0
    result = _federate(given)
    if given.json:
        print(json.dumps(result))
    return 0


def _federate(given: argparse.Namespace) -> dict[str, Any]:
    # Imported late: --help answers at once, and the environment above is set before Flower or transformers read it.
    from simulation.display import Display
    from simulation.runner import execute
    from simulation.workspace import Workspace

    display = Display(quiet=given.json)
    if given.command == "resume":
        display.stage(f"reopening {given.out}")
        workspace = Workspace.reopen(given.out)
    else:
        source = DEMO if given.command == "demo" else given.config
        if not source.is_file():
            raise ConfigurationError(f"{source}: no such configuration file: give the path of a TOML file")
        out = given.out or Path("runs") / source.stem
        display.stage(f"checking {source.name} and its data")
        workspace = Workspace.create(source, out, given.set)
    with display.running(workspace):
        result = execute(workspace, given.engine, given.command == "demo" or given.baselines, display)
    display.summary(workspace, result)
    return result


if __name__ == "__main__":
    sys.exit(main())
