"""`fedfin-institution audit`: attack the privacy claim of a run, on the training loop that would run it."""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from common.errors import ConfigurationError

if TYPE_CHECKING:
    from common.config.run import RunConfig
    from common.report.records import AuditResult, MemorisationResult

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`audit`."""
    text = (
        "attack the privacy claim of a run: canaries, direct checks of the mechanism, text read from an update, and "
        "secrets that a model which writes gives back. It trains on random tokens, reads no private row and costs no "
        "budget. Exit code 1 if a claim is refuted"
    )
    parser = cli.subcommand(commands, "audit", _run, text, "audit --canaries 2000")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--config", type=Path, metavar="RUN.toml", help="the run to audit (default: the demo's training)"
    )
    beside = "audit a run from its directory and write audit.json there, for its report"
    which.add_argument("--run", type=Path, metavar="DIR", dest="directory", help=beside)
    parser.add_argument(
        "--canaries", type=int, default=10_000, metavar="N", help="default: 10,000. More canaries give a tighter bound"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="P", help="of the lower bound (default: 0.95)"
    )
    planted = "plant a fault: use this noise instead of the claimed one (0: none), to see that the audit detects it"
    parser.add_argument("--noise-multiplier", type=float, metavar="SIGMA", help=planted)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    from client.audit.findings import audit

    with nullcontext() if args.json else _Progress() as progress:
        findings = audit(config, args.canaries, args.confidence, args.noise_multiplier, args.device, progress)
    if args.directory is not None:
        from common.files import write_json

        write_json(args.directory / "audit.json", findings.to_json())
    if args.json:
        cli.print_json(findings.to_json())
    else:
        _show(findings)
    return 1 if findings.failed and not findings.planted else 0


def _config(args: argparse.Namespace) -> "RunConfig":
    from common.config.run import RunConfig

    if args.config is not None:
        return RunConfig.read(args.config)
    if args.directory is None:
        from client.audit.subject import default_run

        return default_run()
    path = args.directory / "config.json"
    try:
        return RunConfig.from_json(path.read_text())
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path}: cannot be read: name the directory of a run, or give --config") from None


class _Progress:
    """A bar on standard error, from the audit's first call of `progress` on. Bad input is known by then."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("loading the model", total=None)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:  # else it would print an empty line
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total)


def _show_secrets(found: "MemorisationResult", refuted: bool, row: Callable[..., None]) -> None:
    trained, most = f"of {found.included} that were trained on", f"{found.most_bits:.0f}"
    row(f"secrets written, {trained}, without privacy", str(found.plain), "nothing is claimed", None)
    row("... with the run's noise", str(found.private), "nothing is claimed", None)
    row(f"their exposure without privacy, of {most} bits", f"{found.plain_bits:.1f}", "nothing is claimed", None)
    row("... with the run's noise", f"{found.private_bits:.1f}", f"not trained on: {found.absent_bits:.1f}", None)
    guesses = f"{found.right_guesses} of {found.guesses} guesses right: epsilon at least {found.lower_bound:.2f}"
    row(f"{found.canaries} canary sentences", guesses, "the claim above", refuted)


def _show(findings: "AuditResult") -> None:
    from rich.console import Console
    from rich.table import Table

    console, inversion = Console(), findings.inversion
    table = Table("attack", "found", "claimed or stated", "", title="What an attacker finds", title_justify="left")
    marks = {True: "[red]refuted[/red]", False: "holds", None: ""}

    def row(name: str, found: str, stated: str, refuted: bool | None) -> None:
        table.add_row(name, found, stated, marks[refuted])

    bound = f"epsilon at least {findings.lower_bound:.2f}, with confidence {findings.confidence:g}"
    claim = f"epsilon {findings.claimed_epsilon:.2f} at delta {findings.delta:g}, one {findings.unit}"
    row(f"{findings.canaries} canaries", bound, claim, "canaries" in findings.failed)
    for check in findings.checks:
        row(check.quantity, f"{check.measured:.4g}", f"{check.stated:.4g}", not check.passed)
    if findings.memorisation is not None:
        _show_secrets(findings.memorisation, "sentences" in findings.failed, row)
    tokens = inversion.tokens
    row("tokens read from a plain update", f"{inversion.plain} of {tokens}", "nothing is claimed", None)
    row("... from a clipped one", f"{inversion.clipped} of {tokens}", "nothing is claimed", None)
    private = f"{inversion.private} of {tokens}"
    row(
        "... from one with the run's noise",
        private,
        f"chance: {inversion.chance:.2g}",
        "inversion" in findings.failed,
    )
    console.print(table)
    sentence, plain, noised = inversion.example
    console.print(
        f'Trained on: "{sentence}". Read back: "{plain}". Through clipping and noise: "{noised}".', markup=False
    )
    most = findings.largest_possible_bound
    console.print(
        f"A lower bound is what this attack could show, never the guarantee: {findings.canaries} canaries can show "
        f"{most:.2f} at most. {findings.right_guesses} of {findings.guesses} guesses were right.",
        markup=False,
    )
    if findings.planted:
        planted, needed = findings.noise_multiplier, findings.claimed_noise_multiplier
        console.print(f"Noise multiplier {planted:g} was planted; the claim needs {needed:g}.")
