"""Texts that differ in a few words: MinHash of three-word shingles (Broder 1997), compared within bands.

Each text becomes 64 numbers. Two texts agree in as many of them, on average, as they share shingles. Only texts that
agree in a whole band of four numbers are compared, so the time grows with the number of texts and not with its square.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = ["near_duplicates"]

_WORD = re.compile(r"\w+")
_MOST_WORDS = 200
"""Words of a text, from its beginning, that are compared."""
_SHINGLE = 3
_NUMBERS, _BAND = 64, 4
_ALIKE = 0.8
"""Smallest share of equal numbers (estimated Jaccard similarity) of two near-duplicates."""
_TEXTS_AT_ONCE = 500
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def near_duplicates(texts: Sequence[str], tick: Callable[[], None] = lambda: None) -> dict[int, int]:
    """Return, for each text that is almost an earlier one, the position of that text.

    Args:
        texts: Different texts. Only their first 200 words are compared, without case and punctuation.
        tick: Called after each text, and between two comparisons.

    >>> near_duplicates([
    ...     "profit of the bank rose by four percent in the third quarter of the year on higher fees",
    ...     "sales fell",
    ...     "Profit of the bank rose by four percent in the third quarter of the year, on higher fees and rates",
    ... ])
    {2: 0}
    """
    signatures = _signatures(texts, tick)
    found: dict[int, int] = {}
    for start in range(0, _NUMBERS, _BAND):
        band = np.ascontiguousarray(signatures[:, start : start + _BAND])
        keys = band.view(np.dtype((np.void, band.dtype.itemsize * _BAND)))[:, 0]
        _, bucket = np.unique(keys, return_inverse=True)
        order = np.argsort(bucket, kind="stable")
        same = bucket[order][1:] == bucket[order][:-1]
        # A text is compared with the first one of its bucket and with the one before it.
        firsts = order[np.maximum.accumulate(np.where(np.append(True, ~same), np.arange(len(order)), 0))]
        for earlier in (firsts[1:][same], order[:-1][same]):
            later = order[1:][same]
            alike = (signatures[later] == signatures[earlier]).mean(axis=1) >= _ALIKE
            for one, other in zip(later[alike].tolist(), earlier[alike].tolist(), strict=True):
                found[one] = min(other, found.get(one, other))
        tick()
    return dict(sorted(found.items()))


def _signatures(texts: Sequence[str], tick: Callable[[], None]) -> NDArray[np.uint32]:
    """Return (N, 64) the least hash of each text's shingles under each of 64 hash functions."""
    random = np.random.default_rng(0)
    factors = random.integers(1, 2**63, _NUMBERS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes: dict[str, int] = {}
    signatures = np.empty((len(texts), _NUMBERS), dtype=np.uint32)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = []
        for text in texts[start : start + _TEXTS_AT_ONCE]:
            part.append(_shingles(text, hashes))
            tick()
        ends = np.cumsum([len(shingles) for shingles in part])
        joined, begins = np.concatenate(part), ends - [len(shingles) for shingles in part]
        for number, factor in enumerate(factors):
            high = ((joined * factor) >> np.uint64(32)).astype(np.uint32)
            signatures[start : start + len(part), number] = np.minimum.reduceat(high, begins)
    return signatures


def _shingles(text: str, hashes: dict[str, int]) -> NDArray[np.uint64]:
    """Return a hash of each three words that follow each other. A shorter text is one shingle."""
    words = _WORD.findall(text.lower())[:_MOST_WORDS] or [text]
    for word in words:
        if word not in hashes:
            hashes[word] = xxhash.xxh64_intdigest(word.encode(errors="surrogatepass"))
    numbers = np.array([hashes[word] for word in words] + [0] * (_SHINGLE - len(words)), dtype=np.uint64)
    windows = [numbers[place : len(numbers) - _SHINGLE + 1 + place] for place in range(_SHINGLE)]
    mixed = windows[0] * _MULTIPLIERS[0]
    for window, multiplier in zip(windows[1:], _MULTIPLIERS[1:], strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * multiplier + window
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(32))
    return result
