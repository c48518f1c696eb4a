"""HTML and SVG that cannot be broken out of: every string is escaped unless it already is `Html`."""

import html
import unicodedata

__all__ = ["Child", "Html", "join", "table", "tag"]

_VOID = frozenset({"meta", "br", "line", "rect", "circle", "path", "polyline"})


class Html(str):
    """Markup made by `tag`. Only these strings pass unescaped."""

    __slots__ = ()


Child = str | int | None


def _clean(text: str) -> str:
    """Drop characters that a browser would not read as plain text: control and direction characters, surrogates."""
    kept = "".join(" " if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cf", "Cs"} else c for c in text)
    return html.escape(kept, quote=True)


def join(*children: Child) -> Html:
    """Join several pieces of markup. None is left out."""
    return Html("".join(c if isinstance(c, Html) else _clean(str(c)) for c in children if c is not None))


def tag(name: str, *children: Child, **attributes: str | float | None) -> Html:
    """Return an element. `class_` gives `class`, and underscores in other attribute names give hyphens.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    >>> tag("td", tag("b", '"'), title="<script>")
    '<td title="&lt;script&gt;"><b>&quot;</b></td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_clean(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def _number(value: str | float) -> str:
    """Coordinates to a tenth of a pixel, so that equal runs give equal bytes."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def table(
    head: list[str], rows: list[list[Child]], caption: str | None = None, words: int = 1, marked: tuple[int, ...] = ()
) -> Html:
    """Return a table.

    Args:
        head: Titles of the columns.
        rows: Cells of each row, in the order of the columns.
        caption: Text above the table.
        words: Number of the first columns that hold words. All others hold numbers.
        marked: Indices of the rows that stand out.
    """

    def cells(kind: str, row: list[Child]) -> Html:
        scope = "col" if kind == "th" else None
        return join(*(tag(kind, c, class_=None if i < words else "figure", scope=scope) for i, c in enumerate(row)))

    body = [tag("tr", cells("td", row), class_="marked" if i in marked else None) for i, row in enumerate(rows)]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else None,
            tag("thead", tag("tr", cells("th", list(head)))),
            tag("tbody", join(*body)),
        ),
        class_="scroll",
    )
