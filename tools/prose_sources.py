"""Extract the prose of a source file: docstrings and comments of Python, text of Markdown without code."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CODE", "Passage", "passages"]

CODE = "¤"
"""Replaces each character of inline code. It is no letter, so code counts as no word."""

_DIRECTIVE = re.compile(r"(?:noqa|type:|pragma|fmt:|ruff:|mypy:|isort:|!|-\*-)")
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_FENCE = re.compile(r"\s*(```+|~~~+)")
_MARKUP = re.compile(r"<!--.*?-->|(?<=\])\([^)]*\)|<?https?://[^\s>)]+>?|&#?\w+;", re.DOTALL)
_TABLE_RULE = re.compile(r"\s*\|?[\s:-]*-[\s:-]*\|[\s:|-]*$")


@dataclass(frozen=True)
class Passage:
    """Text of one docstring, one block of comments or one Markdown page.

    Attributes:
        path: File that holds the passage.
        kind: "docstrings", "comments" or "docs".
        line: Line number of the first line, counted from 1.
        source: Text with the line breaks of the file.
        text: Prose of `source`, character by character: inline code is replaced by `CODE`, other code by spaces.
    """

    path: Path
    kind: str
    line: int
    source: str
    text: str


def passages(path: Path) -> Iterator[Passage]:
    """Yield the prose of a Python file (`.py`) or of a Markdown page (`.md`)."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield Passage(path, "docs", 1, source, _markdown(source))
        return
    for line, text in _docstrings(source):
        yield Passage(path, "docstrings", line, text, _mask_inline_code(_mask_examples(text)))
    for line, text in _comments(source):
        yield Passage(path, "comments", line, text, _mask_inline_code(text))


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each string that is a statement: docstrings, also those of constants."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.lineno, node.value.value


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each comment. Comments on consecutive lines of their own are one text."""
    start, column, block = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = re.split(r"\s+# ?(?=noqa|type:|pragma)", token.string.lstrip("#").strip())[0]
        if _DIRECTIVE.match(text):
            continue
        line, place = token.start
        if token.line[:place].strip():
            place = -1  # A comment behind code neither continues a block nor is continued.
        elif block and place == column and line == start + len(block):
            block.append(text)
            continue
        if block:
            yield start, "\n".join(block)
        start, column, block = line, place, [text]
    if block:
        yield start, "\n".join(block)


def _mask_examples(text: str) -> str:
    """Mask the examples of a docstring: from `>>>` to the next empty line, and fenced blocks."""
    lines, inside = list[str](), ""
    for line in text.split("\n"):
        fence = _FENCE.match(line) is not None and inside != "doctest"
        if inside == "doctest" and not line.strip():
            inside = ""
        elif not inside and line.lstrip().startswith(">>>"):
            inside = "doctest"
        elif fence:
            inside = "" if inside else "fence"
        lines.append(_blank(line) if inside or fence else line)
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """Mask code blocks, inline code, link targets, HTML comments, table rules and directives (`:::`)."""
    lines, fence, directive = list[str](), "", False
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        directive = line.startswith(":::") or (directive and line[:1] in (" ", ""))
        edge = mark is not None and (not fence or mark[1].startswith(fence))
        if mark and edge:
            fence = "" if fence else mark[1]
        lines.append(_blank(line) if fence or edge or directive or _TABLE_RULE.match(line) else line)
    return _MARKUP.sub(lambda match: _blank(match[0]), _mask_inline_code("\n".join(lines)))


def _mask_inline_code(text: str) -> str:
    return _INLINE_CODE.sub(lambda match: re.sub(r"\S", CODE, match[0]), text)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
