"""fedfin-simulate: run a whole federation on one machine."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from client.tracking.kinds import LOG_KINDS
from common import cli
from common.errors import ConfigurationError
from common.events import Observer
from common.report.records import RoundRecord

if TYPE_CHECKING:
    from simulation.display import Display
    from simulation.workspace import Workspace

__all__ = ["main"]

DEMO = Path(__file__).with_name("demo.toml")


def parser() -> argparse.ArgumentParser:
    """Return the parser, with an example for each command."""
    return cli.build_parser(
        "fedfin-simulate",
        "A federation on one machine: institutions fine-tune one language model together, privately.",
        "run benchmarks/sentfin_desks.toml --out runs/desks",
        (add_run, add_demo, add_resume, add_report, add_plan),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code (2 for bad input, 130 after an interruption)."""
    saved = "interrupted; every finished round is saved: continue with `fedfin-simulate resume DIR`"
    return cli.main(parser(), arguments, saved)


def add_run(commands: cli.Commands) -> None:
    """`run CONFIG.toml`."""
    text = "run a federation described by a TOML file"
    run = cli.subcommand(commands, "run", _federate, text, "run benchmarks/sentfin_desks.toml --out runs/desks")
    run.add_argument("config", type=Path, metavar="CONFIG.toml", help="the simulation's configuration")
    run.add_argument("--baselines", action="store_true", help="also train each institution alone, and a bag of words")
    _add_new_run(run)


def add_demo(commands: cli.Commands) -> None:
    """`demo`."""
    text = "four synthetic banks, a real encoder, some minutes"
    demo = cli.subcommand(commands, "demo", _federate, text, "demo --out runs/demo")
    demo.set_defaults(config=DEMO, baselines=True)
    _add_new_run(demo)


def add_resume(commands: cli.Commands) -> None:
    """`resume DIR`."""
    text = "continue a run at the exact round where it stopped"
    resume = cli.subcommand(commands, "resume", _federate, text, "resume runs/desks")
    resume.add_argument("out", type=Path, metavar="DIR", help="the run's directory")
    resume.add_argument(
        "--baselines", action="store_true", help="also train each institution alone, and a bag of words"
    )
    _add_engine(resume)
    resume.set_defaults(config=None)


def add_report(commands: cli.Commands) -> None:
    """`report DIR`."""
    text = "write report.html again from a run's files"
    report = cli.subcommand(commands, "report", _report, text, "report runs/desks")
    report.add_argument("out", type=Path, metavar="DIR", help="the run's directory")


def add_plan(commands: cli.Commands) -> None:
    """`plan`."""
    text = "the whole noise by each institution, or noise once under secure aggregation: which leaves less"
    example = "plan --sizes 377 377 377 377 --honest 3 --target-epsilon 3 --delta 1e-4 --sampling-rate 0.25 --rounds 40"
    plan = cli.subcommand(commands, "plan", _plan, text, example)
    sizes = "declared records or customers of each institution"
    plan.add_argument("--sizes", nargs="+", type=int, required=True, metavar="UNITS", help=sizes)
    honest = "institutions assumed honest (aggregation.honest)"
    plan.add_argument("--honest", type=int, required=True, metavar="H", help=honest)
    target = "privacy.target_epsilon of the run"
    plan.add_argument("--target-epsilon", type=float, required=True, metavar="EPSILON", help=target)
    plan.add_argument("--delta", type=float, required=True, metavar="DELTA", help="privacy.delta of the run")
    rate = "training.sampling_rate of the run"
    plan.add_argument("--sampling-rate", type=float, required=True, metavar="RATE", help=rate)
    plan.add_argument("--rounds", type=int, required=True, metavar="N", help="rounds of one local step each")


def _plan(args: argparse.Namespace) -> int:
    from simulation.plan import compare

    plan = compare(args.sizes, args.honest, args.target_epsilon, args.delta, args.sampling_rate, args.rounds)
    if args.json:
        cli.print_json(plan.to_json())
        return 0
    print("noise of a round's mean, as that of one institution with so many units (more units: less noise)")
    print(f"  one institution with all rows            {plan.pooled:>10,.0f}")
    print(f"  noise once, {args.honest} honest".ljust(43) + f"{plan.once:>10,.0f}")
    for rule, units in plan.each.items():
        print(f"  whole noise by each, {rule}".ljust(43) + f"{units:>10,.0f}")
    best = max(plan.each.values())
    said = {
        "once": f"noise once leaves {plan.once / best:.2f} times less",
        "each": f"the whole noise by each leaves {best / plan.once:.2f} times less",
        "equal": "both leave the same",
    }
    print(f"better: {said[plan.better]}")
    print(
        f"epsilon {plan.epsilon:.3g} at delta {args.delta:g}. With noise once it rests on {args.honest} honest of any "
        f"{plan.least_threshold} institutions, and is {plan.epsilon_alone:.3g} without them"
    )
    print(
        "not known here: how much noise the model bears, the bias of inverse_variance, several local steps (noise once "
        "has one a round), absences"
    )
    return 0


def _add_new_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", help="an empty or new directory (default: runs/NAME)")
    change = "replace a value of the file, as in --set privacy.target_epsilon=3"
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=change)
    _add_engine(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    choices = ("in-process", "flower")
    text = "flower: Flower's simulation engine, on Ray"
    parser.add_argument("--engine", choices=choices, default="in-process", help=text)
    logged = "also log the hub's rounds for this tool, below the run's directory (nothing is sent)"
    parser.add_argument("--log-to", choices=LOG_KINDS, help=logged)


def _report(args: argparse.Namespace) -> int:
    from server.report.report import write_report

    path = write_report(args.out)
    if args.json:
        cli.print_json({"report": str(path)})
    else:
        print(path)
    return 0


@contextmanager
def _log(args: argparse.Namespace, out: Path) -> Iterator[list[Observer]]:
    """Return the observer that `--log-to` names, if any. It sees the hub's rounds, and no step of an institution."""
    if args.log_to is None:
        yield []
        return
    from client.tracking.experiment_log import ExperimentLog

    class RoundLog(Observer):
        def on_round(self, record: RoundRecord) -> None:
            log.on_round(record)

    log = ExperimentLog(args.log_to, out)
    try:
        yield [RoundLog()]
    finally:
        log.close()


def _federate(args: argparse.Namespace) -> int:
    # Imported late: --help answers at once, and the environment is set before Flower or transformers read it.
    from simulation.display import Display

    display = Display(quiet=args.json)
    workspace = _reopened(args.out, display) if args.config is None else _begun(args, display)
    from simulation.runner import run_simulation

    with display.running(workspace), _log(args, workspace.out) as logs:
        result = run_simulation(workspace, args.engine, args.baselines, (display, *logs))
    display.summary(workspace, result)
    if args.json:
        cli.print_json(result.to_json())
    return 0


def _reopened(out: Path, display: "Display") -> "Workspace":
    from simulation.run_directory import read_note

    read_note(out)
    from simulation.workspace import Workspace  # imports torch, so a wrong path is found before

    display.on_stage(f"reopening {out}")
    return Workspace.reopen(out)


def _begun(args: argparse.Namespace, display: "Display") -> "Workspace":
    """Read the configuration and its rows, and only then load torch: most mistakes are found in a second."""
    from simulation.checks import check_run
    from simulation.config import load_simulation
    from simulation.loading import federation_of
    from simulation.run_directory import refuse_used

    source: Path = args.config
    if not source.is_file():
        raise ConfigurationError(f"{source}: no such configuration file: give the path of a TOML file")
    display.on_stage(f"checking {source.name} and its data")
    out = args.out or Path("runs") / source.stem
    refuse_used(out)
    simulation = load_simulation(source, changes=args.set)
    federation = federation_of(simulation)
    check_run(simulation, federation)
    from simulation.workspace import Workspace

    return Workspace.begin(simulation, federation, out)


if __name__ == "__main__":
    sys.exit(main())
