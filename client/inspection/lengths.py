"""Lengths of texts in tokens, and the share that a model does not read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.inspection.samples import evenly_spaced

__all__ = ["TokenLengths", "token_lengths"]

_MOST_CHARACTERS = 20_000_000
"""Characters that are tokenised at most, about 5 million tokens. More texts are sampled."""
_TEXTS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class TokenLengths:
    """Lengths of texts in tokens, special tokens included.

    Attributes:
        limit: Tokens at which a text is cut.
        median, percentile_95, longest: Lengths.
        share_cut: Share of the texts that are longer than `limit`.
        share_lost: Share of all tokens that lie beyond `limit`.
        measured: Number of texts that were measured.
    """

    limit: int
    median: int
    percentile_95: int
    longest: int
    share_cut: float
    share_lost: float
    measured: int


def token_lengths(
    texts: Sequence[str | Sequence[str]], tokenizer: Any, limit: int, tick: Callable[[], None] = lambda: None
) -> TokenLengths:
    """Measure texts, or sentences of words.

    Args:
        texts: At least one.
        tokenizer: Of the base model.
        limit: Tokens at which texts are cut.
        tick: Called after every few texts.
    """
    characters = sum(map(len, texts)) if isinstance(texts[0], str) else 0
    some = evenly_spaced(texts, max(1, int(len(texts) * min(1.0, _MOST_CHARACTERS / max(1, characters)))))
    lengths: list[int] = []
    for start in range(0, len(some), _TEXTS_AT_ONCE):
        part = list(some[start : start + _TEXTS_AT_ONCE])
        words = not isinstance(part[0], str)
        rows = tokenizer(part, is_split_into_words=words, return_attention_mask=False, verbose=False)["input_ids"]
        lengths += [len(row) for row in rows]
        tick()
    sizes = np.array(lengths)
    return TokenLengths(
        limit=limit,
        median=int(np.median(sizes)),
        percentile_95=int(np.percentile(sizes, 95)),
        longest=int(sizes.max()),
        share_cut=float((sizes > limit).mean()),
        share_lost=float(np.maximum(sizes - limit, 0).sum() / sizes.sum()),
        measured=len(some),
    )
