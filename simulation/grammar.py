"""A small grammar of financial headlines: what the synthetic banks "hold".

`{symbol}` in a phrase is replaced by one of the symbol's alternatives. Alternatives are separated by "|"; where a
list has the form "a | b // c | d", a and b are wordings that training rows use and c and d are kept for the test.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Grammar", "Wordings"]

SYMBOL = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Wordings:
    """The alternatives of one symbol: seen in training, and kept for the test (empty = no difference)."""

    seen: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Wordings":
        seen, _, kept = text.partition("//")
        return cls(_split(seen), _split(kept))

    def dealt(self, hand: int, hands: int) -> tuple[str, ...]:
        """The part of the training wordings that bank `hand` of `hands` uses; short lists are shared by all."""
        return self.seen[hand::hands] if self.kept and len(self.seen) >= hands else self.seen


def _split(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split("|") if part.strip())


def _headline(text: str) -> str:
    return text[0].upper() + text[1:]


class Grammar:
    """Phrases by symbol. Pure: the same generator state gives the same headline."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = {symbol: Wordings.parse(text) for symbol, text in rules.items()}

    def train(self, symbol: str, rng: random.Random, hand: int, hands: int) -> str:
        """A headline as bank `hand` words it: with its own share of the wordings."""
        return _headline(self._expand(symbol, rng, lambda words: words.dealt(hand, hands)))

    def test(self, symbol: str, rng: random.Random, kept: float) -> str:
        """A headline of the test set: each wording is, with probability `kept`, one that no training row has."""
        return _headline(
            self._expand(symbol, rng, lambda words: words.kept if words.kept and rng.random() < kept else words.seen)
        )

    def _expand(self, symbol: str, rng: random.Random, choose: Callable[[Wordings], tuple[str, ...]]) -> str:
        phrase = rng.choice(choose(self._rules[symbol]))
        return SYMBOL.sub(lambda found: self._expand(found.group(1), rng, choose), phrase)
