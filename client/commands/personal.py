"""fedfin-institution personal: the institution's own models of the runs that it took part in, and their figures."""

import argparse

from client.commands.options import add_home, open_home
from common import cli
from common.report.by_institution import describe_behind, differences_behind

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`personal`."""
    text = "the personal models of runs, with figures on the institution's own test rows (for its own eyes)"
    personal = cli.subcommand(commands, "personal", _run, text, "personal --home /srv/fedfin")
    add_home(personal)


def _run(args: argparse.Namespace) -> int:
    from client.personalisation.record import read_records

    home = open_home(args)
    records = read_records(home.directory)
    if args.json:
        cli.print_json({"runs": [record.to_json() for record in records]})
        return 0
    if not records:
        print("no run had a personal part here")
    for record in records:
        marked = "" if record.noised else ", NOT PRIVATE: its model must not leave"
        state = "finished" if record.finished else "the final adapter has not come yet"
        print(f"{record.run_id}: {record.method}, {state}{marked}")
        if record.finished:
            print(f"  model: {home.personal(record.run_id) / 'adapter'}")
        if record.refused:
            print(f"  the global model, because further steps were refused: {record.refused}")
        for name, value in record.metrics_personal.items():
            shared = record.metrics_shared.get(name)
            before = "" if shared is None else f", global model {shared:.3f}"
            print(f"  {name} on own test rows: {value:.3f}{before}")
        if behind := differences_behind(record.metrics_personal, {"shared": record.metrics_shared}):
            print(f"  WORSE OFF: {describe_behind(behind)}")
    return 0
