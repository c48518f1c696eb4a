"""Filings as paragraphs: HTML, XHTML with inline XBRL, XML, and the full submissions of EDGAR (SGML in a `.txt` file).

lxml parses the markup, and is imported when it is used. Everything that is left out is counted by its kind.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from common.data.encodings import encoding_of

__all__ = ["MARKUP", "Filing", "is_markup", "read_filing"]

MARKUP = (".html", ".htm", ".xhtml", ".xml")

_HEAD = 4096
"""Number of characters at the beginning of a file in which markup shows."""
_BEGINNINGS = ("<", "-----BEGIN PRIVACY-ENHANCED MESSAGE-----")
_SUBMISSION = re.compile(r"<(?:SEC-DOCUMENT|SEC-HEADER|IMS-DOCUMENT|IMS-HEADER)>|<DOCUMENT>\s*<TYPE>")
_DOCUMENT = re.compile(r"<DOCUMENT>(.*?)(?:</DOCUMENT>|\Z)", re.DOTALL)
_TYPE = re.compile(r"<TYPE>[ \t]*([^\r\n<]*)")
_TEXT = re.compile(r"<TEXT>(.*?)(?:</TEXT>|\Z)", re.DOTALL)
_WRAPPER = re.compile(r"\A\s*<(?:XBRL|XML|PDF)>\s*")
_HTML = re.compile(r"<(?:!DOCTYPE\s+html|html|body|div|table|p|font)[\s>]", re.IGNORECASE)
_XML = re.compile(r"<\?xml\s|<[A-Za-z_][\w.:-]*\sxmlns[:=]")
_OLD_TAG = re.compile(r"</?(?:PAGE|TABLE|CAPTION|S|C|FN|F\d+|R)>", re.IGNORECASE)
"""Tags in the plain text of older filings: page breaks, tables, their columns, and footnotes."""
_FORMATTING = re.compile(r"</?(?:font|a|b|i|u|em|strong|small|big|span|sup|sub)\b[^>]*>", re.IGNORECASE)
_UUENCODED = re.compile(r"^begin [0-7]{3} \S", re.MULTILINE)
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t\r\f\v]*\n")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FEWEST_WORDS = 3
"""Fewest words of a value in XML that is text. Shorter values are dates, codes and names."""

_BLOCKS = frozenset(
    re.findall(
        r"\S+",
        "address article aside blockquote body caption center dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 "
        "h6 header hr html li main nav ol p pre section table title tr ul",
    )
)
_PAGE = frozenset(("html", "body", "div", "table", "p", "font"))
"""Elements of which one shows that XML holds HTML."""
_BREAKS = _BLOCKS | {"br", "td", "th"}
_UNREAD = frozenset(("script", "style", "noscript", "template", "head", "ix:header", "ix:hidden"))
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_DATA_TYPES = ("EX-100", "EX-101", "GRAPHIC", "ZIP", "EXCEL", "XML", "JSON", "PDF")
"""Types of a submission's documents that hold data, pictures or copies instead of text."""


@dataclass(frozen=True)
class Filing:
    """The text of a filing.

    Attributes:
        paragraphs: Texts without line breaks, in their order. The rows of a table are one paragraph.
        left_out: How many parts were left out, by their kind.
    """

    paragraphs: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)


def is_markup(text: str) -> bool:
    """Return whether a text file is HTML, XML or a submission, whatever its name is."""
    head = text[:_HEAD]
    if not head.lstrip("\ufeff \t\r\n").startswith(_BEGINNINGS):
        return False
    return any(pattern.search(head) for pattern in (_SUBMISSION, _HTML, _XML))


def read_filing(data: bytes) -> Filing:
    """Return the paragraphs of a filing. `data` is the content of its file.

    Of a submission, every document with text is read. Its header, pictures and data files are left out. Of inline XBRL,
    the facts that no reader sees are left out. Of other XML, values of fewer than three words are left out.

    Raises:
        ValueError: Its XML is not well-formed, or its elements are nested too deeply.
    """
    text = _decoded(data)
    if not _SUBMISSION.search(text[:_HEAD]):
        return _document(text)
    left_out: Counter[str] = Counter()
    paragraphs: list[str] = []
    for document in _DOCUMENT.findall(text):
        kind, body = _TYPE.search(document), _TEXT.search(document)
        content = body[1] if body else ""
        if (kind and kind[1].strip().upper().startswith(_DATA_TYPES)) or _UUENCODED.search(content):
            left_out["documents of a submission without text (data, pictures, archives)"] += 1
            continue
        filing = _document(_WRAPPER.sub("", content))
        paragraphs += filing.paragraphs
        left_out += filing.left_out
    return Filing(tuple(paragraphs), left_out)


def _decoded(data: bytes) -> str:
    known, declared = encoding_of(data), _CHARSET.search(data[:_HEAD])
    if known in (None, "cp1252") and declared and declared[1].lower() not in (b"utf-8", b"utf8"):
        with suppress(LookupError):  # a name that is no encoding
            return data.decode(declared[1].decode("ascii"), errors="replace")
    return data.decode(known or "cp1252", errors="replace")


def _document(text: str) -> Filing:
    text = text.lstrip("\ufeff \t\r\n")
    head = text[:_HEAD]
    root = _parsed_xml(text) if _XML.match(head) else None
    if root is not None:
        is_page = _HTML.search(head) and any(_local_name(each.tag) in _PAGE for each in root.iter())  # not in CDATA
        return _hypertext(root) if is_page or _local_name(root.tag) == "html" else _values(root)
    if _HTML.search(head):
        return _hypertext(_parsed_html(text))
    if _XML.match(head):
        raise ValueError("not well-formed XML")
    plain = html.unescape(_OLD_TAG.sub(" ", text.replace("\r\n", "\n")))
    return Filing(_paragraphs(plain))


def _paragraphs(text: str) -> tuple[str, ...]:
    parts = (" ".join(part.split()) for part in _BLANK_LINE.split(text))
    return tuple(part for part in parts if part)


def _parsed_xml(text: str) -> Any:
    """Return the root of well-formed XML, or None. No entity is expanded, and no other file is read."""
    import lxml.etree

    parser = lxml.etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8"
    )
    try:
        return lxml.etree.fromstring(text.encode(errors="replace"), parser)
    except lxml.etree.XMLSyntaxError:
        return None


def _parsed_html(text: str) -> Any:
    """Return the root of HTML, however faulty. Trees deeper than libxml2 allows (2,048) come from unclosed tags."""
    root, complete = _tree(text)
    if not complete:
        root, complete = _tree(_FORMATTING.sub("", text))
    if not complete:
        raise ValueError("nested too deeply")
    return root


def _tree(text: str) -> tuple[Any, bool]:
    """Return the root of HTML, and whether all of it was read. libxml2 skips the rest beyond its limits silently."""
    import lxml.etree

    parser = lxml.etree.HTMLParser(huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        root = lxml.etree.fromstring(text.encode(errors="replace"), parser)
    except lxml.etree.XMLSyntaxError:  # nothing but comments
        root = None
    return lxml.etree.Element("html") if root is None else root, not any(
        error.type == lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log
    )


@cache
def _local_name(tag: Any) -> str:
    """Return the name of an element without its namespace, in lower case. Those of inline XBRL begin with "ix:".

    A reference to an entity has no name: lxml gives it a function as its tag.
    """
    if not isinstance(tag, str):
        return ""
    namespace, _, name = tag.rpartition("}")
    return f"ix:{name.lower()}" if "inlinexbrl" in namespace.lower() else name.lower()


def _values(root: Any) -> Filing:
    """Return the texts of XML: the values of its outermost elements that hold text, some of which hold HTML."""
    import lxml.etree

    left_out: Counter[str] = Counter()
    paragraphs: list[str] = []
    walk = lxml.etree.iterwalk(root, events=("start",))
    for _, element in walk:
        if not any(part and part.strip() for part in (element.text, *(child.tail for child in element))):
            continue
        content = "".join(element.itertext())
        walk.skip_subtree()
        if _HTML.search(content[:_HEAD]):
            inner = _hypertext(_parsed_html(content))
            paragraphs += inner.paragraphs
            left_out += inner.left_out
        elif len(_WORD.findall(content)) >= _FEWEST_WORDS:
            paragraphs += _paragraphs(content)
        else:
            left_out[f"values of XML with fewer than {_FEWEST_WORDS} words"] += 1
    return Filing(tuple(paragraphs), left_out)


def _hypertext(root: Any) -> Filing:
    left_out: Counter[str] = Counter()
    return Filing(_paragraphs("".join(_pieces(root, left_out))), left_out)


def _pieces(root: Any, left_out: Counter[str]) -> Iterator[str]:
    """Yield the visible text of a tree, with a blank line between paragraphs. Trees may be deep: no recursion."""
    import lxml.etree

    walk = lxml.etree.iterwalk(root, events=("start", "end"))
    table = unread = None  # the table of rows and columns, and the part to leave out, that the walk is in
    preformatted = 0
    for event, element in walk:
        name = _local_name(element.tag)
        begins = event == "start"
        if begins and _is_unread(element, name):
            _count_unread(element, left_out)
            unread = element
            walk.skip_subtree()
            continue
        if begins and table is None and name == "table" and _has_columns(element):
            yield "\n\n"
            table = element
        if element is not unread:
            if name in _BREAKS:
                yield _gap(name, begins=begins, within_table=table is not None)
            preformatted += (name == "pre") * (1 if begins else -1)
        if element is table and not begins:
            yield "\n\n"
            table = None
        text = element.text if begins else element.tail
        if text and begins and not name:  # an entity, such as &nbsp;, which only the DTD defines
            text = html.unescape(text)
        if text:
            yield text if preformatted else _SPACE.sub(" ", text)


def _gap(name: str, *, begins: bool, within_table: bool) -> str:
    if name == "br":
        return "\n" if begins else ""
    return " " if within_table or name in ("td", "th") else "\n\n"


def _has_columns(table: Any) -> bool:
    """Return whether a table holds rows and columns. Otherwise it only places text on a page."""
    names = [_local_name(element.tag) for element in table.iterdescendants()]
    return "table" not in names and sum(name in ("td", "th") for name in names) > 1


def _is_unread(element: Any, name: str) -> bool:
    if name in _UNREAD or element.get("hidden") is not None:
        return True
    style = element.get("style")
    return style is not None and _HIDDEN.search(style) is not None


def _count_unread(element: Any, left_out: Counter[str]) -> None:
    facts = sum(_local_name(each.tag) in ("ix:nonfraction", "ix:nonnumeric") for each in element.iter())
    if facts:
        left_out["hidden facts of inline XBRL"] += facts
    elif _local_name(element.tag) not in _UNREAD and _WORD.search("".join(element.itertext())):
        left_out["hidden passages of HTML"] += 1
