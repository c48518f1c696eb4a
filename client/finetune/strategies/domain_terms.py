"""Find words that a domain's tokenizer should know: a curated list, a file, or words mined from the institution's text.

The tokenizer itself shows which words are frequent in general English: its vocabulary holds the most frequent words of
its training text whole, about in order of frequency. A word that it splits was rarer there than the rarest word that it
keeps whole. This bounds the frequency of the word in general English. It is an approximation.

A list that was mined from private text reveals something about that text. So a term file names the source of its words,
and a federation refuses a base model that was made with private words.
"""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from common.base_models.extend import holds_blanks
from common.data.raw_text import read_text
from common.errors import ConfigurationError, DataError
from common.files import write_atomic

__all__ = ["DOMAINS", "TermList", "curated", "mine", "read_terms", "write_terms"]

DOMAINS = ("sec_filings", "analyst_reports", "earnings_calls", "prospectuses")

Release = Literal["public", "private"]
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[&/-](?=[^\W\d_]))+")
_MIN_LETTERS, _MAX_LETTERS = 4, 30
_MIN_TEXTS = 5
_FREQUENT = 4.0
"""A word is the domain's own when it is this many times as frequent as general English could have it."""


@dataclass(frozen=True)
class TermList:
    """Words to add, the most useful first, and where they come from.

    release: "public", or "private": mined from private text, may not leave.
    """

    words: tuple[str, ...]
    release: Release
    source: str


def curated(domain: str) -> TermList:
    """Return the words of a domain, those of `domains.toml`, which names the source and the licence of each list.

    Raises:
        ConfigurationError: there is no such domain.
    """
    if domain not in DOMAINS:
        raise ConfigurationError(f"domain is {domain[:40]!r}: use one of {', '.join(DOMAINS)}")
    tables = tomllib.loads((Path(__file__).parent / "domains.toml").read_text())
    words = dict.fromkeys(word for each in tables[domain] for word in each["words"].split())
    sources = "; ".join(f"{each['source']} ({each['licence']})" for each in tables[domain])
    return TermList(tuple(words), "public", f"{domain}: {sources}")


def mine(texts: Sequence[str], tokenizer: Any, limit: int, release: Release = "private") -> TermList:
    """At most `limit` words of `texts`: by the tokens that each would save, most first.

    Kept are words of letters in at least five texts, taken apart by the tokenizer, and at least four times as
    frequent as general English could have them (see above).
    """
    counts, spread = Counter[str](), Counter[str]()
    cased = tokenizer.tokenize("Bank") != tokenizer.tokenize("bank")
    for text in texts:
        words = _words(text if cased else text.casefold())
        counts.update(words)
        spread.update(set(words))
    total = sum(counts.values())
    found = [word for word, number in spread.items() if number >= _MIN_TEXTS]
    pieces = _pieces(tokenizer, found)
    bound = _general_bound(tokenizer)
    saved = {
        word: counts[word] * (pieces[word] - 1)
        for word in found
        if pieces[word] > 1 and counts[word] / total >= _FREQUENT * bound
    }
    best = sorted(saved, key=lambda word: (-saved[word], word))[:limit]
    return TermList(tuple(best), release, f"mined from {len(texts)} texts")


def write_terms(path: Path, terms: TermList) -> None:
    """Write a term file for `read_terms`. If its words are private, only its owner can read it."""
    content = {"release": terms.release, "source": terms.source, "words": list(terms.words)}
    write_atomic(path, tomli_w.dumps(content).encode(), mode=0o600 if terms.release == "private" else 0o644)


def read_terms(path: Path) -> TermList:
    """Read a term file, or a plain list of one word a line, which counts as public: whoever wrote it chose the words.

    Raises:
        DataError: absent, damaged, or without words.
    """
    text = read_text(path)
    if path.suffix != ".toml":
        words = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
        return TermList(words, "public", path.name)
    try:
        content = tomllib.loads(text)
        words, release = tuple(content["words"]), content["release"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: not a term file: give words and release, or one word a line in a .txt file") from None
    if release not in ("public", "private") or not words or not all(isinstance(word, str) for word in words):
        raise DataError(f"{path}: release must be public or private, and words a list of texts")
    return TermList(words, release, str(content.get("source", path.name)))


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if _MIN_LETTERS <= len(word) <= _MAX_LETTERS]


def _pieces(tokenizer: Any, words: Sequence[str]) -> dict[str, int]:
    if not words:
        return {}
    before = " " if holds_blanks(tokenizer) else ""
    rows = tokenizer([before + word for word in words], add_special_tokens=False)["input_ids"]
    return {word: len(ids) for word, ids in zip(words, rows, strict=True)}


def _general_bound(tokenizer: Any) -> float:
    """How frequent a word that the tokenizer takes apart can be in general English: Zipf's law at the last rank."""
    ranks = len(tokenizer)
    return 1 / (ranks * (math.log(ranks) + 0.5772))
