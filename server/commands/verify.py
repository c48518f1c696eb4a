"""`fedfin-hub verify`: find any edit, deletion or truncation of the audit logs, offline."""

import argparse
from pathlib import Path

from common import cli
from server.commands.options import add_home

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """Add `verify`."""
    text = "verify the audit logs of the hub and of every run: hash chain, signatures, length"
    parser = cli.subcommand(commands, "verify", _verify, text, "verify --home /srv/fedfin-hub")
    keys = "the hub's public.json from a trusted source (default: the file beside the logs)"
    parser.add_argument("--keys", type=Path, metavar="FILE", help=keys)
    add_home(parser)


def _verify(args: argparse.Namespace) -> int:
    from common.errors import EnvelopeError
    from common.identity.keys import PublicKeys
    from server.hub.audit_log import verify_all
    from server.hub.directory import HubDirectory

    public = None
    if args.keys is not None:
        try:
            public = PublicKeys.from_json(args.keys.read_text())
        except (OSError, UnicodeDecodeError):
            raise EnvelopeError("keys", f"{args.keys}: cannot be read: give the hub's public.json") from None
    # A copy may be of the logs alone: no settings are needed.
    logs = verify_all(args.home or HubDirectory.open(None).directory, public)
    if args.json:
        cli.print_json({"hub": logs.hub, "runs": dict(logs.runs)})
        return 0
    print(f"the hub's audit log is whole: {logs.hub} entries")
    for run, entries in logs.runs.items():
        print(f"run {run}: whole, {entries} entries")
    return 0
