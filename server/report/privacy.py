"""The report's privacy part: epsilon by round, and in words what it stands for and what it does not."""

from common.report.formatting import format_epsilon, format_percent, format_value, join_names
from common.report.html import Child, Html, join, table, tag
from common.report.page import figure
from common.report.plots import Line, Reference, line_plot, merged
from common.report.privacy_statement import paragraphs
from server.report.run_files import RunFiles

__all__ = ["banner", "spending", "statements"]

_STANDARD_LIMITS = (
    "the hub's choice of institutions: the hub sees whom it asks, so no amplification is claimed from it",
    "hyperparameters, where they were chosen by looking at private rows",
    "the evaluation: it uses the hub's test set, which is taken to be public",
    "customers: the unit is one record, and several records of one customer are not hidden together",
)


def banner(run: RunFiles) -> Html:
    """A loud warning where this run protects nobody; empty where it does."""
    if run.without_privacy:
        words = "This run trained without differential privacy. Its adapter may reveal single training records."
        return tag("div", tag("strong", "No differential privacy"), tag("p", words), class_="banner", role="note")
    names = run.unprotected
    if not names:
        return Html("")
    words = (
        f"The noise of {join_names(names)} was drawn from a fixed seed, so that the run can be repeated byte for byte. "
        "Whoever knows the seed can subtract it: no record is protected. Every ε below says what would have been spent "
        "with real noise. Do not use this adapter on real data."
    )
    return tag(
        "div", tag("strong", "NOT PRIVATE: fixed noise seed"), tag("p", words), class_="banner alarm", role="alert"
    )


def spending(run: RunFiles) -> Html:
    """Epsilon by institution and round, as a plot and as tables with each institution's limit."""
    head = tag("h2", "Privacy spent", id="epsilon")
    if run.without_privacy:
        return join(head, tag("p", "This run had no differential privacy: there is no ε to report.", class_="note"))
    names = [name for name in run.institutions if any(name in r.epsilon for r in run.rounds)]
    lines = merged(
        [Line(n, tuple((r.round, r.epsilon[n]) for r in run.rounds if n in r.epsilon)) for n in names],
        "all {} institutions",
    )
    highest = max((v for r in run.rounds for v in r.epsilon.values()), default=0.0)
    limits: dict[float, list[str]] = {}
    for name, limit in sorted(run.limits.items()):
        limits.setdefault(limit, []).append(name)
    # A limit far above everything spent would press the lines flat; the table has it.
    near = {limit: who for limit, who in limits.items() if limit <= 3 * highest}
    every = len(limits) == 1 and len(run.limits) == len(run.institutions)
    references = [
        Reference("limit of all" if every else f"limit: {', '.join(who)}", limit) for limit, who in near.items()
    ]
    plot = line_plot(lines, "Epsilon by institution and round", "round", references, from_zero=True, decimals=0)
    return join(
        head,
        figure("ε spent in this run, after each round", plot),
        _by_round(run, lines) if lines else tag("p", "No round reports an ε.", class_="note"),
        _totals(run),
    )


def _by_round(run: RunFiles, lines: list[Line]) -> Html:
    values = [dict(line.values) for line in lines]
    rows: list[list[Child]] = [[str(r.round), *(format_epsilon(v.get(r.round)) for v in values)] for r in run.rounds]
    return table(["Round", *(line.label for line in lines)], rows)


def _totals(run: RunFiles) -> Html:
    rows: list[list[Child]] = []
    this_run = run.result.get("epsilon") or {}
    for name in run.institutions:
        s = run.statements.get(name, {})
        spent, everything, limit = (
            s.get("epsilon_run", this_run.get(name)),
            s.get("epsilon_cumulative"),
            run.limits.get(name),
        )
        used = format_percent(everything, limit)
        limit_words = format_epsilon(limit) if limit is not None else "none set"
        delta = s.get("delta", run.result.get("delta"))
        rows.append(
            [
                name,
                format_epsilon(spent),
                format_epsilon(s.get("epsilon_prv")),
                format_epsilon(everything),
                limit_words,
                used,
                format_value(delta),
            ]
        )
    columns = ["Institution", "ε this run", "PRV check", "ε all runs", "Limit", "Used", "δ"]
    caption = (
        "ε is rounded up. PRV check: the same events by a second accountant. "
        "All runs: the institution's whole ledger, which the limit applies to."
    )
    return table(columns, rows, caption) if rows else Html("")


def statements(run: RunFiles) -> Html:
    """For each institution in words: unit, adjacency, sampler, noise, accountant; then what is and is not covered."""
    head = tag("h2", "Privacy statements", id="statements")
    parts = [tag("div", tag("h3", name), _in_words(run, name), class_="statement") for name in run.institutions]
    reading = (
        "How to read them: whatever someone computes from what the institution sent, its probability changes by a "
        "factor of at most e^ε, save for a probability of δ, when one record (or customer, where the statement says "
        "so) is added to or removed from the institution's data."
    )
    note = None if run.without_privacy else tag("p", reading, class_="note")
    return join(head, note, *parts, _coverage(run))


def _in_words(run: RunFiles, name: str) -> Html:
    s = run.statements.get(name)
    if s is None:
        return tag(
            "p", "No statement was found: nothing can be said here about this institution's privacy.", class_="note"
        )
    first, *more = paragraphs(s)
    if name not in run.unprotected or s.get("epsilon_run") is None:
        return join(*(tag("p", words) for words in (first, *more)))
    warning = tag("strong", f"NOT PRIVATE. Noise: {format_value(s.get('noise_source'))}.", class_="refused")
    promise = f"With real noise this would be the promise: {first[0].lower()}{first[1:]}"
    return join(tag("p", warning, " ", promise), *(tag("p", words) for words in more))


def _coverage(run: RunFiles) -> Html:
    """What statements cover and leave out; said once where all institutions say the same."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for name, s in run.statements.items():
        groups.setdefault((tuple(s["covers"]), tuple(s["does_not_cover"])), []).append(name)
    if not groups:
        groups[(), ()] = []
    parts: list[Html] = []
    for (covers, leaves), names in groups.items():
        of = f" ({join_names(sorted(names))})" if len(groups) > 1 else ""
        covered = join(tag("h3", f"Covered{of}"), tag("ul", *(tag("li", c) for c in covers))) if covers else None
        left = tag("ul", *(tag("li", c) for c in leaves or _STANDARD_LIMITS))
        parts.append(
            tag(
                "div",
                tag("div", covered) if covered else None,
                tag("div", tag("h3", f"Not covered{of}"), left),
                class_="covers",
            )
        )
    return join(*parts)
