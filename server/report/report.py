"""Turn the files of a run into one self-contained HTML page for the people who judge or repeat the run.

The page holds the content of the files and nothing else: no script, no external resource, no time of day. Equal files
give equal bytes.
"""

from pathlib import Path

from common.files import write_atomic, write_json
from common.report.formatting import format_value
from common.report.html import Html, join, table, tag
from common.report.page import page
from server.report.audit import audit_section
from server.report.headline import figures, headline
from server.report.participation import participation
from server.report.privacy import banner, spending, statements
from server.report.run_files import RunFiles, load_run
from server.report.tracking import advice_section, tracker_record
from server.report.utility import utility
from server.report.what_was_run import what_was_run

__all__ = ["render", "write_report"]

_SECTIONS = (
    ("run", "What was run"),
    ("utility", "Utility"),
    ("rounds", "Rounds"),
    ("epsilon", "Privacy spent"),
    ("statements", "Privacy statements"),
    ("audit", "What an attacker finds"),
    ("repeat", "Repeating it"),
)


def write_report(out_dir: Path) -> Path:
    """Write `out_dir/report.html` and `tracker.json` from the files beside them, and return the path of the page.

    If an optional file is absent, its part of the page is empty.

    Raises:
        CheckpointError: `out_dir` is not the directory of a run, or one of its files is damaged. Nothing is written.
    """
    path, run = out_dir / "report.html", load_run(out_dir)
    write_atomic(path, render(run).encode())
    write_json(out_dir / "tracker.json", tracker_record(run))
    return path


def render(run: RunFiles) -> str:
    """Return the page as text."""
    name = format_value(run.result.name or run.config.get("name") or run.run_id or "run")
    task = str(run.result.task or run.config.get("task") or "").replace("_", " ")
    sections = [section for section in _SECTIONS if section[0] != "audit" or run.audit is not None]
    links = [tag("a", words, href=f"#{anchor}") for anchor, words in sections]
    return page(
        f"{name}: federated fine-tuning report",
        banner(run),
        tag(
            "header",
            tag("p", f"Federated fine-tuning report{f', {task}' if task else ''}", class_="kind"),
            tag("h1", name),
        ),
        headline(run),
        figures(run),
        tag("nav", *links),
        tag(
            "main",
            what_was_run(run),
            utility(run),
            advice_section(run),
            participation(run),
            spending(run),
            statements(run),
            audit_section(run),
            repeating(run),
        ),
        tag("footer", "Made by fedfin from the files of the run. It holds nothing else."),
    )


def repeating(run: RunFiles) -> Html:
    """Return the section on repeating the run: the command, its limits, and the digests to compare."""
    engine = run.result.engine
    command = f"fedfin-simulate run config.toml --out DIR{f' --engine {engine}' if engine else ''}"
    if run.institutions and set(run.unprotected) == set(run.institutions):
        again = "With its fixed noise seed the run gives the same adapter again, byte for byte."
    else:
        again = (
            "Noise from the operating system is new each time: another run gives a similar adapter, not the same one."
        )
    digests = [[name, tag("code", digest)] for name, digest in run.digests.items()]
    if run.result.adapter_digest:
        digests.append(["the adapter's tensors", tag("code", run.result.adapter_digest)])
    return join(
        tag("h2", "Repeating it", id="repeat"),
        tag("p", again) if engine else None,
        tag("pre", command) if engine else None,
        tag("p", f"Run {run.run_id}", class_="note") if run.run_id else None,
        table(["File", "SHA-256"], [list(row) for row in digests], words=2) if digests else None,
        join(tag("h3", "config.toml"), tag("pre", run.config_text)) if run.config_text else None,
    )
