"""Measure how plain the prose is: docstrings, comments, `docs/*.md` and `README.md`.

Three habits make text hard to read for readers whose first language is not English: "what" in place of a noun,
"where" in place of "if", and semicolons that tie statements together. Each is counted per 1,000 words and has a limit.

    python -m tools.prose                       print the rates, exit with code 1 if a limit is passed
    python -m tools.prose --list client/dp      list each place in these files or folders
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.prose_sources import CODE, Passage, passages

__all__ = ["LIMITS", "Finding", "count_words", "find", "main", "sources"]

ROOT = Path(__file__).parent.parent
PYTHON = ("fedfin", "common", "client", "server", "simulation", "benchmarks", "examples", "tools", "tests")
"""Folders whose docstrings and comments are measured."""

LIMITS = {"what": 2.0, "where": 1.0, "semicolon": 3.0}
"""Occurrences per 1,000 words that must not be reached: noun clauses with "what", "where" for "if", semicolons."""

_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_BOUNDARY = re.compile(
    r"(?<=[.!?])[\"')\]*_]*\s+"  # the end of a sentence
    r"|\n\s*\n"  # the end of a paragraph
    r"|\n(?=\s*(?:[-*+]|\d+\.|\#+|\|)\s)"  # the next list item, heading or table row
    r"|(?<=[^\\])\|"  # the next table cell
    r"|\n(?=\s*\*{0,2}\w+: )"  # the next entry of Args
)
_LEAD = re.compile(r"[\s(\[*_#+-]*(?:\d+\.\s+)?")

_WHAT = re.compile(r"(?<![\"“])\bwhat\b(?![-\"'”’])", re.IGNORECASE)
_WHERE = re.compile(r"(?<![.\w\"“])where\b(?![-(=\"'”’])", re.IGNORECASE)
_WHO = re.compile(r"\b(?:who|whom|whoever|whose)\b", re.IGNORECASE)
_IF = re.compile(r"\bif\b", re.IGNORECASE)
_SEMICOLON = re.compile(";")

_ASKING = re.compile(r"(?:^|[,:(–—]\s*)(?:(?:and|but|or|so|then|at|by|for|from|in|of|on|to|with)\s+)*$", re.IGNORECASE)
"""Text before a question word that opens a direct question."""

_PLACE_NOUN = re.compile(
    r"\b(?:place|point|position|director(?:y|ies)|folder|file|path|page|section|line|row|column|cell|table|machine|host|"
    r"address|site|region|range|block|layer|spot|disk|cache|step|round|epoch|moment|plot|curve|end|start|module|"
    r"function|package|process)s?,?\s+$|\b(?:zero|0|[CG]PU),\s+$",
    re.IGNORECASE,
)
"""A noun that the clause with "where" describes: "the directory where ..."."""

_ASKED_PLACE = re.compile(
    r"\b(?:says?|tells?|knows?|known|shows?|records?|decides?|finds?|checks?|chooses?|determines?|asks?|explains?|"
    r"remembers?|notes?|from|to|of|near|about|depends? on|is|are|exactly|just)\s+$",
    re.IGNORECASE,
)
"""A word whose object is a place: "says where the run stands", "from where it began"."""

_AT_A_PLACE = re.compile(
    r"(?:\b(?:lies?|lay|stands?|stood|belongs?|begins?|began|starts?|ends?|stops?|stopped|lives?|happens?|"
    r"occurs?|goes|go|went|points?|leads?|looks?|looks? for(?: it)?|finds (?:it|them)|connects?|listens?|departs?|"
    r"comes?|from|(?:is|are|was|were)(?: to be)? (?:cut|stored|kept|saved|written|read|found|made|placed|installed|"
    r"used|defined|shown|run))(?: here)?|^it (?:is|was)|^they (?:are|were))$",
    re.IGNORECASE,
)
"""The end of a clause about a place: "where the data lies", "where texts are cut"."""

_SYMBOL = re.compile(rf"\s+(?:[^\W\d_]|{CODE}+)\s+(?:is|are|denotes?|stands?|counts?)\b")
"""The legend of a formula: ", where q is the sampling rate"."""


@dataclass(frozen=True)
class Finding:
    """One occurrence of a measured habit.

    Attributes:
        habit: "what", "where", "semicolon", "who" or "if".
        line: Line number in the file, counted from 1.
        text: Part of the sentence around the occurrence, on one line.
    """

    habit: str
    line: int
    text: str


def find(passage: Passage) -> Iterator[Finding]:
    """Yield each measured habit of a passage, sentence by sentence."""
    for start, sentence in _sentences(passage.text):
        for habit, place in _habits(sentence):
            line = passage.line + passage.text.count("\n", 0, start + place)
            around = passage.source[start + max(0, place - 60) : start + min(len(sentence), place + 70)]
            yield Finding(habit, line, " ".join(around.split()))


def count_words(text: str) -> int:
    """Return the number of words in a passage. Numbers, symbols and inline code are no words."""
    return len(_WORD.findall(text))


def sources(paths: Sequence[Path] = ()) -> list[Path]:
    """Return the files to measure: those at or below `paths`, or the whole project's."""
    if not paths:
        pages = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
        return [*(file for folder in PYTHON for file in sorted((ROOT / folder).rglob("*.py"))), *pages]
    found = list[Path]()
    for path in paths:
        found += [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in (".py", ".md"))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the rates of the chosen files. Return 1 if a limit is reached, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.prose", description="Measure how plain the prose is.")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="file or folder (default: the project)")
    parser.add_argument("--list", action="store_true", help="print each place as FILE:LINE: HABIT: TEXT")
    given = parser.parse_args(arguments)
    if missing := [str(path) for path in given.paths if not path.exists()]:
        print(f"{missing[0]}: no such file or folder: check the path", file=sys.stderr)
        return 2
    words, habits = Counter[str](), dict[str, Counter[str]]()
    for passage in (passage for path in sources(given.paths) for passage in passages(path)):
        words[passage.kind] += count_words(passage.text)
        counted = habits.setdefault(passage.kind, Counter())
        for finding in find(passage):
            counted[finding.habit] += 1
            if given.list and finding.habit in LIMITS:
                print(f"{_shown(passage.path)}:{finding.line}: {finding.habit}: {finding.text}")
    return _report(words, habits)


def _report(words: Counter[str], habits: dict[str, Counter[str]]) -> int:
    print(f"{'per 1,000 words':16}{'words':>9}" + "".join(f"{habit:>11}" for habit in (*LIMITS, "who", "if")))
    for kind, counted in habits.items():
        print(_row(kind, words[kind], counted))
    total, number = sum(habits.values(), Counter[str]()), words.total()
    print(_row("all", number, total))
    print(f"{'limit':16}{'':9}" + "".join(f"{f'< {limit:g}':>11}" for limit in LIMITS.values()))
    over = [habit for habit, limit in LIMITS.items() if _rate(total[habit], number) >= limit]
    if over:
        print(f"too many: {', '.join(over)}: list each place with `python -m tools.prose --list` and rewrite it")
    return 1 if over else 0


def _row(name: str, words: int, counted: Counter[str]) -> str:
    return f"{name:16}{words:9,}" + "".join(f"{_rate(counted[h], words):11.1f}" for h in (*LIMITS, "who", "if"))


def _rate(count: int, words: int) -> float:
    return 1000 * count / max(words, 1)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its offset in `text`, without the marks of list items and headings."""
    start = 0
    for end, resume in [*((m.start(), m.end()) for m in _BOUNDARY.finditer(text)), (len(text), len(text))]:
        sentence = text[start:end]
        if sentence.strip():
            lead = _LEAD.match(sentence)
            skipped = lead.end() if lead else 0
            yield start + skipped, sentence[skipped:]
        start = resume


def _habits(sentence: str) -> Iterable[tuple[str, int]]:
    yield from (("what", m.start()) for m in _WHAT.finditer(sentence) if _is_noun_clause(sentence, m))
    yield from (("where", m.start()) for m in _WHERE.finditer(sentence) if _is_condition(sentence, m))
    yield from (("semicolon", m.start()) for m in _SEMICOLON.finditer(sentence))
    yield from (("who", m.start()) for m in _WHO.finditer(sentence) if not _asks(sentence, m))
    yield from (("if", m.start()) for m in _IF.finditer(sentence))


def _asks(sentence: str, match: re.Match[str]) -> bool:
    """Whether the word opens a direct question ("What is it?")."""
    return sentence.rstrip("\"')*_ \n").endswith("?") and _ASKING.search(sentence[: match.start()]) is not None


def _is_noun_clause(sentence: str, match: re.Match[str]) -> bool:
    """Whether "what" stands for a noun. It does not in a question, nor as the name of an argument."""
    return not _asks(sentence, match) and not _names_argument(sentence, match)


def _is_condition(sentence: str, match: re.Match[str]) -> bool:
    """Whether "where" means "if". It does not if the clause describes, or is, a place."""
    before, after = sentence[: match.start()], sentence[match.end() :]
    whole = re.split(r"[;:.()–—]", after, maxsplit=1)[0]
    clauses = [re.split(r",|\s(?:and|or|but|which)\s", whole)[0]]
    if not before.rstrip().endswith(","):
        clauses.append(whole)  # "where its keys, ledger and answers lie"
    leads = before.strip()[-1:] in ("", ";") and "," in whole
    place = (
        _PLACE_NOUN.search(before)
        or _ASKED_PLACE.search(before)
        or (not leads and any(_AT_A_PLACE.search(" ".join(clause.split())) for clause in clauses))
        or (before.rstrip().endswith(",") and _SYMBOL.match(after))
        or after.lstrip().startswith("to ")
    )
    return not (place or _asks(sentence, match) or _names_argument(sentence, match))


def _names_argument(sentence: str, match: re.Match[str]) -> bool:
    return match.start() == 0 and sentence[match.end() :].startswith(":")


if __name__ == "__main__":
    sys.exit(main())
