"""`fedfin-institution budget`: what was spent by whom for what, what is left, what the next run would cost."""

import argparse
import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli
from common.errors import ConfigurationError, LedgerError

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`budget show | verify | forecast | export | statement`."""
    text = "the privacy ledger: what was spent, what is left, what a run would cost"
    budget = commands.add_parser("budget", help=text, description=text)
    actions = budget.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = cli.subcommand(actions, "show", _show, "what was spent by whom for what, and what is left", "show bank")
    _directory(show)
    text = "check every signature and the chain, with the public key alone"
    check = cli.subcommand(actions, "verify", _verify, text, "verify ledger.jsonl --key public.json")
    check.add_argument("ledger", type=Path, metavar="DIR|LEDGER", help="an institution's directory, or a ledger file")
    check.add_argument("--key", type=Path, metavar="FILE", help="public.json (default: the one in the directory)")
    text = "what a run would cost at most, and whether it would be refused, and why"
    ahead = cli.subcommand(actions, "forecast", _forecast, text, "forecast run.toml bank")
    ahead.add_argument("config", type=Path, metavar="CONFIG", help="the run's TOML file, as the hub has it")
    _directory(ahead)
    text = "one line a training for an auditor; it holds the number of records"
    export = cli.subcommand(actions, "export", _export, text, "export bank --out ledger.csv")
    _directory(export)
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help=".csv, or .json with statements")
    text = "the privacy statement of one run; it holds the number of records"
    states = cli.subcommand(actions, "statement", _statement, text, "statement bank --run four-banks")
    _directory(states)
    states.add_argument("--run", dest="run_id", metavar="RUN", help="default: the last one in the ledger")


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", type=Path, metavar="DIR", nargs="?", default=Path(), help="the institution's (default: here)"
    )


def _show(given: argparse.Namespace) -> int:
    from client.budget.summary import overview, read_ledger

    ledger = read_ledger(given.directory)
    found = overview(ledger)
    if given.json:
        cli.print_json({**ledger.facts(), **found})
        return 0
    print(f"{ledger.public.name}: {_count(len(ledger.charges), 'training')} in {ledger.path}, every signature verified")
    print("\n".join(_balance(found)))
    for run in found["runs"]:
        unfinished = f", {run['unfinished']} never finished" if run["unfinished"] else ""
        print(
            f"  {run['run_id']}: {', '.join(run['tasks'])} for {', '.join(run['asked_by'])}, "
            f"{_count(run['rounds'], 'round')}, {_count(run['trainings'], 'training')}{unfinished}, "
            f"{run['steps']} steps, epsilon {_figure(run['epsilon'])} alone, {run['first'][:10]} to {run['last'][:10]}"
        )
    for before, state in zip([None, *found["data"]], found["data"], strict=False):
        changed = "the data changed; what was spent stays spent" if before else "data"
        print(
            f"  {changed}: {state['units']} {found['unit'] or 'record'}s, fingerprint {state['fingerprint'][:16]}, "
            f"since entry {state['from_entry']} ({state['since'][:10]}), {_count(state['trainings'], 'training')}"
        )
    return 0


def _balance(found: Mapping[str, Any]) -> list[str]:
    if found["delta"] is None:
        return ["nothing was spent" if not found["runs"] else "NO PRIVACY: every training was without it"]
    limit = f" of {found['max_epsilon']:g}" if found["max_epsilon"] is not None else " (no limit is set)"
    lines = [
        f"spent: epsilon {_figure(found['epsilon_spent'])}{limit} at delta {found['delta']:g}, for one "
        f"{found['unit'] or 'record'} added or removed, over all runs"
    ]
    if found["trainings_without_privacy"]:
        lines.append(
            f"NO PRIVACY: {_count(found['trainings_without_privacy'], 'training')} without it; epsilon is infinite"
        )
    if found["steps_left"] is not None:
        kind = found["last_kind"]
        lines.append(
            f"left: {found['steps_left']:,} steps like the last (noise {kind['noise_multiplier']:g}, "
            f"sampling {kind['sampling_probability']:g}; {kind['steps']} a round)"
        )
    return lines


def _verify(given: argparse.Namespace) -> int:
    from client.budget.summary import verify_ledger
    from client.institution.directory import InstitutionDirectory
    from common.identity.keys import PublicKeys

    path: Path = given.ledger
    if given.key is not None:
        public = PublicKeys.load(given.key)
        path = path / "ledger.jsonl" if path.is_dir() else path
    else:
        if not path.exists():
            raise ConfigurationError(f"{path}: not there: give an institution's directory, or a ledger file")
        if not path.is_dir():
            raise ConfigurationError(
                f"{path}: with a ledger file, name the institution's public key: --key public.json"
            )
        home = InstitutionDirectory(path)
        public, path = home.public_keys(), home.ledger_path
    facts = verify_ledger(path, public).facts()
    if given.json:
        cli.print_json({"verified": True, **facts})
        return 0
    print(f"{path}: verified with the key of {public.name} ({public.fingerprint[:16]})")
    print(
        f"{_count(facts['entries'], 'entry', 'entries')}, {_count(facts['trainings'], 'training')}, "
        f"{facts['unfinished']} of them never finished and charged in full"
    )
    print(f"last: {facts['last'] or '-'}, digest {facts['last_digest'] or '-'}; note it, and the number of entries:")
    print("no file can show that it was put back, with its head, to an earlier state")
    return 0


def _forecast(given: argparse.Namespace) -> int:
    from client.budget.summary import read_ledger
    from client.federation.forecast import forecast
    from client.institution.directory import InstitutionDirectory
    from common.config.run import RunConfig

    ledger = read_ledger(given.directory)
    config, settings = RunConfig.read(given.config), InstitutionDirectory(given.directory).settings()
    found = forecast(config, settings, ledger.charges)
    event, refused = found.event, found.refused
    if given.json:
        cli.print_json(
            {
                "run": config.name,
                "refused": refused is not None,
                "code": refused[0] if refused else None,
                "why": refused[1] if refused else None,
                "rounds": found.rounds,
                "rounds_that_fit": found.rounds_that_fit,
                "event_of_round": event.to_json() if event else None,
                "unit": config.privacy.unit,
                "units": found.units,
                "epsilon_run": found.epsilon_run,
                "delta_run": found.run_delta,
                "epsilon_spent": found.spent,
                "epsilon_after": found.after,
                "delta": found.delta,
                "max_epsilon": found.limit.epsilon if found.limit else None,
            }
        )
        return 0
    if event is not None:
        mechanism = f"noise {event.noise_multiplier:g}, sampling {event.sampling_probability:g}"
        cost = f"epsilon {_figure(found.epsilon_run)} at delta {found.run_delta or 0:g} at most"
        print(f"{config.name}: {found.rounds} rounds of {event.steps} steps, {mechanism}: {cost}")
        limit = f" of {found.limit.epsilon:g}" if found.limit else " (no limit is set)"
        print(f"ledger: epsilon {_figure(found.spent)} now, {_figure(found.after)} after it{limit}, "
              f"at delta {found.delta or 0:g}")  # fmt: skip
    band = settings.assumed_units
    if found.units is not None and not 0.5 <= band / max(found.units, 1) <= 2:
        print(f"advice: updates are divided as if there were {band} {config.privacy.unit}s: see release.declared_units")
    if refused:
        some = f"after {_count(found.rounds_that_fit, 'round')} " if found.rounds_that_fit else ""
        print(f"REFUSED {some}({refused[0]}): {refused[1]}")
    else:
        print("it fits")
    return 0


def _export(given: argparse.Namespace) -> int:
    from client.budget.summary import read_ledger, rows
    from common.files import write_atomic, write_json

    out: Path = given.out
    if out.suffix not in (".csv", ".json"):
        raise ConfigurationError(f"{out}: its name must end in .csv or .json")
    ledger = read_ledger(given.directory)
    table = rows(ledger)
    try:
        if out.suffix == ".csv":
            write_atomic(out, _csv(table).encode(), mode=0o600)
        else:
            statements = [ledger.statement(run.run_id).record for run in ledger.runs]
            write_json(out, {**ledger.facts(), "charges": table, "statements": statements}, mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror})") from None
    if given.json:
        cli.print_json({"out": str(out), "trainings": len(table)})
    else:
        print(f"{out}: {_count(len(table), 'training')}; it holds the number of records: for you and your auditor")
    return 0


def _csv(table: list[dict[str, Any]]) -> str:
    if not table:
        raise LedgerError("nothing was spent yet: there is nothing to export")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _statement(given: argparse.Namespace) -> int:
    from client.budget.summary import read_ledger

    made = read_ledger(given.directory).statement(given.run_id, prv=True)
    if given.json:
        cli.print_json(made.record)
        return 0
    print(f"Privacy statement of {made.institution}, run {made.run_id}\n")
    if "NOT PRIVATE" in made.noise_source:
        print("NOT PRIVATE: the noise came from a fixed seed. What follows is what real noise would have given.\n")
    print("\n\n".join(made.text))
    for title, items in (("Covered", made.covers), ("Not covered", made.does_not_cover)):
        if items:
            print(f"\n{title}:")
            print("\n".join(f"- {item}" for item in items))
    return 0


def _figure(value: float | None) -> str:
    """Three decimals, rounded up."""
    if value is None or math.isinf(value):
        return "none" if value is None else "infinite"
    return f"{math.ceil(round(value * 1000, 6)) / 1000:.3f}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
