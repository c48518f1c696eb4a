"""The frame of an HTML report: one self-contained page that runs no script and loads nothing."""

from collections.abc import Sequence

from common.report.html import Child, Html, tag
from common.report.style import STYLE

__all__ = ["facts", "figure", "figures", "page"]

# Even if some text slipped through the escaping, a browser would run and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, *children: Child) -> str:
    """Return the whole page as text, with `children` as its body."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *children), lang='en')}\n"


def figures(rows: Sequence[tuple[str, str]]) -> Html:
    """Return the numbers that readers look for first, without those that are absent."""
    cells = [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value not in {"", "–"}]
    return tag("dl", *cells, class_="figures") if cells else Html("")


def facts(rows: Sequence[tuple[str, str]]) -> Html:
    """Return a list of terms and values, without those that are absent."""
    entries = [child for name, value in rows if value not in {"", "–"} for child in (tag("dt", name), tag("dd", value))]
    return tag("dl", *entries, class_="facts") if entries else Html("")


def figure(caption: str, plot: Html) -> Html:
    """Return a plot under its caption, or nothing if there is nothing to plot."""
    return tag("figure", tag("figcaption", caption), plot) if plot else Html("")
