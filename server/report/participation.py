"""The section of the report on participation: the institutions that were asked, contributed or were refused."""

from typing import Any

from common.protocol.outcomes import explain_outcome
from common.report.formatting import format_bytes
from common.report.html import Html, join, table, tag
from server.report.run_files import RunFiles

__all__ = ["participation"]


def participation(run: RunFiles) -> Html:
    """Return the section on participation: a row for each round, with institutions, bytes and seconds."""
    head = tag("h2", "Rounds", id="rounds")
    if not run.rounds:
        return join(head, tag("p", "No history was found.", class_="note"))
    everyone = set(run.institutions)
    rows: list[list[Any]] = []
    codes: set[str] = set()
    for r in run.rounds:
        # An institution that answered without being asked has an outcome too.
        missing = {name: r.outcomes.get(name) or "no answer" for name in {*r.asked, *r.outcomes} - {*r.contributed}}
        codes |= set(missing.values())
        refused = tag("span", "; ".join(f"{n} {code}" for n, code in sorted(missing.items())), class_="refused")
        asked, contributed = _names(r.asked, everyone), _names(r.contributed, {*r.asked})
        if 4 < len(r.contributed) < len(r.asked):  # who is missing stands beside it
            contributed = f"{len(r.contributed)} of {len(r.asked)}"
        figures_ = [format_bytes(r.bytes_up), format_bytes(r.bytes_down), f"{r.seconds:.1f} s"]
        digest = tag("code", r.adapter_digest[:10], title=r.adapter_digest)
        rows.append([str(r.round), asked, contributed, refused if missing else "none", digest, *figures_])
    sums = [format_bytes(sum(getattr(r, key) for r in run.rounds)) for key in ("bytes_up", "bytes_down")]
    rows.append(["all", "", "", "", "", *sums, f"{sum(r.seconds for r in run.rounds):.1f} s"])
    meanings = [(code, explain_outcome(code)) for code in sorted(codes)]
    glossary = [join(tag("dt", tag("code", code)), tag("dd", words)) for code, words in meanings if words]
    columns = ["Round", "Asked", "Contributed", "Refused or absent", "Adapter", "Sent up", "Sent down", "Time"]
    caption = (
        "Sent up: from the institutions to the hub, sealed. Sent down: from the hub to them. "
        "Adapter: the global adapter's digest after the round."
    )
    return join(
        head,
        table(columns, rows, caption, words=5, marked=(len(rows) - 1,)),
        tag("dl", *glossary, class_="facts") if glossary else None,
    )


def _names(names: tuple[str, ...], everyone: set[str]) -> str:
    if not names:
        return "none"
    return f"all {len(names)}" if set(names) == everyone and len(names) > 1 else ", ".join(sorted(names))
