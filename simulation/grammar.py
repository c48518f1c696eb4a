"""A small grammar of financial headlines, which are the rows of the synthetic banks.

`{symbol}` in a phrase is replaced by one of the symbol's alternatives. Alternatives are separated by "|". In a
list of the form "a | b // c | d", training rows use the wordings a and b, and the test also uses c and d.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Grammar", "Wordings"]

SYMBOL = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Wordings:
    """The alternatives of one symbol: those seen in training, and those kept for the test (none: no difference)."""

    seen: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Wordings":
        seen, _, kept = text.partition("//")
        return cls(_split(seen), _split(kept))

    def dealt(self, hand: int, hands: int) -> tuple[str, ...]:
        """Return the training wordings of bank `hand` of `hands`. Short lists are shared by all banks."""
        return self.seen[hand::hands] if self.kept and len(self.seen) >= hands else self.seen


def _split(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split("|") if part.strip())


def _headline(text: str) -> str:
    return text[0].upper() + text[1:]


class Grammar:
    """Makes headlines from phrases by symbol. Equal generator states give equal headlines."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = {symbol: Wordings.parse(text) for symbol, text in rules.items()}

    def train(self, symbol: str, rng: random.Random, hand: int, hands: int) -> str:
        """Return a headline in the wordings of bank `hand` of `hands`."""
        return _headline(self._expand(symbol, rng, lambda words: words.dealt(hand, hands)))

    def test(self, symbol: str, rng: random.Random, kept: float) -> str:
        """Return a headline of the test set. With probability `kept`, a wording is one that no training row has."""
        return _headline(
            self._expand(symbol, rng, lambda words: words.kept if words.kept and rng.random() < kept else words.seen)
        )

    def _expand(self, symbol: str, rng: random.Random, choose: Callable[[Wordings], tuple[str, ...]]) -> str:
        phrase = rng.choice(choose(self._rules[symbol]))
        return SYMBOL.sub(lambda match: self._expand(match.group(1), rng, choose), phrase)
