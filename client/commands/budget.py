"""`fedfin-institution budget`: the trainings in the ledger, the remaining budget, and the cost of the next run."""

import argparse
import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.commands.options import add_home, home_of
from common import cli
from common.errors import ConfigurationError, LedgerError

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`budget show | verify | forecast | export | statement`."""
    text = "the privacy ledger: spent budget, remaining budget, cost of a planned run"
    budget = commands.add_parser(
        "budget", help=text, description=text, epilog="example: fedfin-institution budget show --home bank"
    )
    actions = budget.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = cli.subcommand(
        actions, "show", _show, "the trainings in the ledger, the spent epsilon and the rest", "show --home bank"
    )
    add_home(show)
    text = "check every signature and the chain, with the public key alone"
    check = cli.subcommand(actions, "verify", _verify, text, "verify ledger.jsonl --key public.json")
    check.add_argument(
        "ledger", nargs="?", type=Path, metavar="LEDGER", help="a ledger file (default: the institution's)"
    )
    check.add_argument("--key", type=Path, metavar="FILE", help="public.json (default: the institution's)")
    add_home(check)
    text = "the highest cost of a planned run, and whether and why it would be refused"
    ahead = cli.subcommand(actions, "forecast", _forecast, text, "forecast run.toml --home bank")
    ahead.add_argument("config", type=Path, metavar="CONFIG", help="the run's TOML file, as the hub has it")
    text = "declared sizes of the other institutions: shows the share in the weights beside the cost"
    ahead.add_argument("--others", nargs="+", type=int, default=[], metavar="UNITS", help=text)
    add_home(ahead)
    text = "one line a training, for an auditor (contains the number of records)"
    export = cli.subcommand(actions, "export", _export, text, "export --home bank --out ledger.csv")
    add_home(export)
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help=".csv, or .json with statements")
    text = "the privacy statement of one run (contains the number of records)"
    states = cli.subcommand(actions, "statement", _statement, text, "statement --home bank --run four-banks")
    add_home(states)
    states.add_argument("--run", dest="run_id", metavar="RUN", help="a run in the ledger (default: the last one)")


def _show(args: argparse.Namespace) -> int:
    from client.budget.overview import overview
    from client.budget.verified_ledger import read_ledger

    ledger = read_ledger(home_of(args).directory)
    summary = overview(ledger)
    if args.json:
        cli.print_json({**ledger.facts(), **summary})
        return 0
    print(f"{ledger.public.name}: {_count(len(ledger.charges), 'training')} in {ledger.path}, every signature verified")
    print("\n".join(_balance(summary)))
    for run in summary["runs"]:
        unfinished = f", {run['unfinished']} never finished" if run["unfinished"] else ""
        print(
            f"  {run['run_id']}: {', '.join(run['tasks'])} for {', '.join(run['requesters'])}, "
            f"{_count(run['rounds'], 'round')}, {_count(run['trainings'], 'training')}{unfinished}, "
            f"{run['steps']} steps, epsilon {_figure(run['epsilon'])} by itself, "
            f"{run['first'][:10]} to {run['last'][:10]}"
        )
    for before, state in zip([None, *summary["data"]], summary["data"], strict=False):
        changed = "the data changed; what was spent stays spent" if before else "data"
        print(
            f"  {changed}: {state['num_units']} {summary['unit'] or 'record'}s, "
            f"fingerprint {state['fingerprint'][:16]}, since entry {state['from_entry']} ({state['since'][:10]}), "
            f"{_count(state['trainings'], 'training')}"
        )
    return 0


def _balance(summary: Mapping[str, Any]) -> list[str]:
    if summary["delta"] is None:
        return ["nothing was spent" if not summary["runs"] else "NO PRIVACY: every training was without it"]
    limit = f" of {summary['max_epsilon']:g}" if summary["max_epsilon"] is not None else " (no limit is set)"
    alone = summary["epsilon_spent_alone"]
    against = "against the hub and everybody else" if alone is None else "if others keep their noise to themselves"
    lines = [
        f"spent: epsilon {_figure(summary['epsilon_spent'])}{limit} at delta {summary['delta']:g}, for one "
        f"{summary['unit'] or 'record'} added or removed, over all runs, {against}"
    ]
    if summary["filter_epsilon_spent"] is not None and summary["runs"]:
        lines.append(
            _admission(summary["epsilon_spent"], summary["filter_epsilon_spent"], summary["kept_for_one_mechanism"])
        )
    if alone is not None:
        most = f" of {summary['max_epsilon_alone']:g}" if summary["max_epsilon_alone"] is not None else ""
        lines.append(
            f"trainings with secure aggregation count the noise of others: without it epsilon {_figure(alone)}{most}, "
            "if the hub and all others work together"
        )
    lines += _global_model(summary)
    if summary["trainings_without_privacy"]:
        lines.append(
            f"NO PRIVACY: {_count(summary['trainings_without_privacy'], 'training')} without it; epsilon is infinite"
        )
    if summary["trainings_with_fixed_noise"]:
        trainings = _count(summary["trainings_with_fixed_noise"], "training")
        lines.append(f"NOT PRIVATE: {trainings} with noise from a fixed seed; epsilon is that of real noise")
    if summary["steps_left"] is not None:
        kind = summary["last_kind"]
        lines.append(
            f"left: {summary['steps_left']:,} steps like the last (noise {kind['noise_multiplier']:g}, "
            f"sampling {kind['sampling_probability']:g}; {kind['steps']} a round)"
        )
    return lines


def _global_model(summary: Mapping[str, Any]) -> list[str]:
    """Return the line about those who see only the global models. Empty if there is no figure."""
    if not summary["global_model"]:
        return []
    figures = ", ".join(f"{_figure(figure['epsilon'])} with {figure['others']}" for figure in summary["global_model"])
    assumed = " ".join(f"({n}) {text}." for n, text in enumerate(summary["global_model_assumes"], start=1))
    return [
        f"against those who see only the global models, epsilon by the number of other institutions that added their "
        f"noise: {figures}. Assumed: {assumed}"
    ]


def _admission(tight: float | None, proven: float, kept_for_one_mechanism: bool) -> str:
    """Return the sentence about the figure that decides about further trainings."""
    cost = _figure(proven - tight) if tight is not None and math.isfinite(proven) else "-"
    if kept_for_one_mechanism:
        return (
            "admission: only steps of the first run's noise and sampling probability, by the figure above, until the "
            f"limit is raised (by the filter for runs chosen one after another: {_figure(proven)}, {cost} more)"
        )
    return (
        f"admission: epsilon {_figure(proven)}, by the filter that also holds for runs chosen after the results of "
        f"earlier ones; it costs {cost} more than the figure above"
    )


def _verify(args: argparse.Namespace) -> int:
    from client.budget.verified_ledger import verify_ledger
    from common.identity.keys import PublicKeys

    home = home_of(args)
    if args.ledger is None:
        path, public = home.ledger_path, PublicKeys.load(args.key) if args.key else home.public_keys()
    else:
        if args.key is None:
            raise ConfigurationError(
                f"{args.ledger}: with a ledger file, name the institution's public key: --key public.json"
            )
        path, public = args.ledger, PublicKeys.load(args.key)
    facts = verify_ledger(path, public).facts()
    if args.json:
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


def _forecast(args: argparse.Namespace) -> int:
    from client.budget.verified_ledger import read_ledger
    from client.federation.forecast import forecast
    from client.institution.directory import InstitutionDirectory
    from common.config.run import RunConfig

    ledger = read_ledger(home_of(args).directory)
    config, settings = RunConfig.read(args.config), InstitutionDirectory(home_of(args).directory).settings()
    if any(units < 1 for units in args.others):
        raise ConfigurationError("--others: a declared size is below 1: give the sizes that the others declare")
    prediction = forecast(config, settings, ledger.charges, args.others)
    event, refused = prediction.event, prediction.refused
    if args.json:
        cli.print_json(
            {
                "run": config.name,
                "refused": refused is not None,
                "code": refused[0] if refused else None,
                "why": refused[1] if refused else None,
                "rounds": prediction.rounds,
                "rounds_that_fit": prediction.rounds_that_fit,
                "event_of_round": event.to_json() if event else None,
                "unit": config.privacy.unit,
                "num_units": prediction.num_units,
                "epsilon_run": prediction.epsilon_run,
                "honest": config.aggregation.honest,
                "epsilon_run_alone": prediction.epsilon_run_alone,
                "epsilon_after_alone": prediction.after_alone,
                "delta_run": prediction.run_delta,
                "others": prediction.others,
                "epsilon_global_model": prediction.epsilon_global_model,
                "epsilon_spent": prediction.spent,
                "epsilon_after": prediction.after,
                "filter_epsilon_spent": prediction.filter_spent,
                "filter_epsilon_after": prediction.filter_after,
                "kept_for_one_mechanism": prediction.one_mechanism,
                "delta": prediction.delta,
                "max_epsilon": prediction.limit.epsilon if prediction.limit else None,
                "share": prediction.share,
                "little_say": prediction.little_say,
                "noise_equivalent_units": prediction.noise_equivalent_units,
            }
        )
        return 0
    if event is not None:
        mechanism = f"noise {event.noise_multiplier:g}, sampling {event.sampling_probability:g}"
        cost = f"epsilon {_figure(prediction.epsilon_run)} at delta {prediction.run_delta or 0:g} at most"
        print(f"{config.name}: {prediction.rounds} rounds of {event.steps} steps, {mechanism}: {cost}")
        if config.aggregation.honest is not None and prediction.epsilon_run_alone is not None:
            print(
                f"this rests on {config.aggregation.honest} institutions of each sum, you among them, that keep their "
                f"noise to themselves; if all others work with the hub: epsilon {_figure(prediction.epsilon_run_alone)}"
            )
        if prediction.epsilon_global_model is not None:
            print(
                f"against those who see only the global adapters: epsilon {_figure(prediction.epsilon_global_model)}, "
                f"if {prediction.others} others or more each add as much noise to every round as this institution"
            )
        limit = f" of {prediction.limit.epsilon:g}" if prediction.limit else " (no limit is set)"
        print(f"ledger: epsilon {_figure(prediction.spent)} now, {_figure(prediction.after)} after it{limit}, "
              f"at delta {prediction.delta or 0:g}")  # fmt: skip
        if prediction.after_alone is not None:
            most = f" of {settings.limits.budget_alone.epsilon:g}" if settings.limits.budget_alone else ""
            print(f"without the noise of others: epsilon {_figure(prediction.after_alone)} after it{most}")
        if prediction.filter_after is not None:
            print(_admission(prediction.after, prediction.filter_after, prediction.one_mechanism))
    if prediction.share is not None:
        print(f"share in the weights: {prediction.share:.3f}, an equal one is {1 / (1 + len(args.others)):.3f}")
    if prediction.noise_equivalent_units is not None:
        print(f"noise: that of one institution alone with {prediction.noise_equivalent_units:,.0f} units, you declare "
              f"{settings.assumed_units:,}")  # fmt: skip
        print("not known from this: whether the others have your label shares (a run with personalisation.method "
              "prior corrects these) and label by your rule (proximal, head or after)")  # fmt: skip
    if prediction.little_say:
        print(f"LITTLE SAY: {settings.name} would have less than a tenth of an equal share for this cost")
    band = settings.assumed_units
    if prediction.num_units is not None and not 0.5 <= band / max(prediction.num_units, 1) <= 2:
        print(f"advice: updates are divided as if there were {band} {config.privacy.unit}s: see release.declared_units")
    if refused:
        some = f"after {_count(prediction.rounds_that_fit, 'round')} " if prediction.rounds_that_fit else ""
        print(f"REFUSED {some}({refused[0]}): {refused[1]}")
    else:
        print("it fits")
    return 0


def _export(args: argparse.Namespace) -> int:
    from client.budget.overview import rows
    from client.budget.verified_ledger import read_ledger
    from common.files import write_atomic, write_json

    out: Path = args.out
    if out.suffix not in (".csv", ".json"):
        raise ConfigurationError(f"{out}: its name must end in .csv or .json")
    ledger = read_ledger(home_of(args).directory)
    table = rows(ledger)
    try:
        if out.suffix == ".csv":
            write_atomic(out, _csv(table).encode(), mode=0o600)
        else:
            statements = [ledger.statement(run.run_id).record for run in ledger.runs]
            write_json(out, {**ledger.facts(), "charges": table, "statements": statements}, mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror})") from None
    if args.json:
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


def _statement(args: argparse.Namespace) -> int:
    from client.budget.verified_ledger import read_ledger

    made = read_ledger(home_of(args).directory).statement(args.run_id, prv=True)
    if args.json:
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
