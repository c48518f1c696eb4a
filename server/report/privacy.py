"""The privacy section of the report: epsilon by round, the statements in words, and their limits."""

from common.report.formatting import format_epsilon, format_percent, format_value, join_names
from common.report.html import Child, Html, join, table, tag
from common.report.page import figure
from common.report.plots import Line, Reference, line_plot, merged
from common.report.privacy_statement import paragraphs
from common.report.statement_record import StatementRecord
from server.report.run_files import RunFiles

__all__ = ["banner", "spending", "statements"]

_STANDARD_LIMITS = (
    "the hub's choice of institutions: the hub sees whom it asks, so no amplification is claimed from it",
    "hyperparameters, if they were chosen by looking at private rows",
    "the evaluation: it uses the hub's test set, which is taken to be public",
    "customers: the unit is one record, and several records of one customer are not hidden together",
)


def banner(run: RunFiles) -> Html:
    """Return a loud warning if this run protects nobody. It is empty otherwise."""
    if run.without_privacy:
        words = "This run trained without differential privacy. Its adapter may reveal single training records."
        return tag("div", tag("strong", "No differential privacy"), tag("p", words), class_="banner", role="note")
    names = run.unprotected
    if not names:
        return Html("")
    words = (
        f"The noise of {join_names(names)} was drawn from a fixed seed, so that the run can be repeated byte for byte. "
        "Anybody who knows the seed can subtract the noise, so no record is protected. Every ε below is the value that "
        "real noise would have had. Do not use this adapter on real data."
    )
    return tag(
        "div", tag("strong", "NOT PRIVATE: fixed noise seed"), tag("p", words), class_="banner alarm", role="alert"
    )


def spending(run: RunFiles) -> Html:
    """Return epsilon by institution and round, as a plot and as tables with each institution's limit."""
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
    # A limit far above everything spent would press the lines flat. The table still shows it.
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
    for name in run.institutions:
        s = run.statements.get(name, StatementRecord())
        spent, everything, limit = (
            run.result.epsilon.get(name) if s.epsilon_run is None else s.epsilon_run,
            s.epsilon_cumulative,
            run.limits.get(name),
        )
        used = format_percent(everything, limit)
        limit_words = format_epsilon(limit) if limit is not None else "none set"
        delta = run.result.delta if s.delta is None else s.delta
        rows.append(
            [
                name,
                format_epsilon(spent),
                *([format_epsilon(s.epsilon_run_alone)] if run.result.epsilon_alone else []),
                format_epsilon(s.epsilon_global_model),
                format_epsilon(s.epsilon_prv),
                format_epsilon(everything),
                limit_words,
                used,
                format_value(delta),
            ]
        )
    columns = [
        "Institution",
        "ε this run",
        *(["Alone"] if run.result.epsilon_alone else []),
        "Global model only",
        "PRV check",
        "ε all runs",
        "Limit",
        "Used",
        "δ",
    ]
    caption = (
        "ε is rounded up. This run: against the hub and everybody else. Global model only: against those who see "
        "nothing but the global adapters, by the noise of all institutions that were combined. The statements name the "
        "assumptions behind it. PRV check: the same events by a second accountant. "
        "All runs: the institution's whole ledger, which the limit applies to."
    )
    if run.result.epsilon_alone:
        caption = caption.replace("against the hub and everybody else", "under the assumption of secure aggregation")
        caption += " Alone: if the hub and all other institutions work together."
    return table(columns, rows, caption) if rows else Html("")


def statements(run: RunFiles) -> Html:
    """Return each institution's statement in words, then the risks that the statements cover and leave out."""
    head = tag("h2", "Privacy statements", id="statements")
    parts = [tag("div", tag("h3", name), _in_words(run, name), class_="statement") for name in run.institutions]
    reading = (
        "How to read them: whatever someone computes from what the institution sent, its probability changes by a "
        "factor of at most e^ε, save for a probability of δ, when one record (or customer, if the statement says "
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
    if name not in run.unprotected or s.epsilon_run is None:
        return join(*(tag("p", words) for words in (first, *more)))
    warning = tag("strong", f"NOT PRIVATE. Noise: {format_value(s.noise_source)}.", class_="refused")
    promise = f"With real noise this would be the promise: {first[0].lower()}{first[1:]}"
    return join(tag("p", warning, " ", promise), *(tag("p", words) for words in more))


def _coverage(run: RunFiles) -> Html:
    """Return the list of covered and uncovered risks, once if all institutions state the same list."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for name, s in run.statements.items():
        groups.setdefault((s.covers, s.does_not_cover), []).append(name)
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
