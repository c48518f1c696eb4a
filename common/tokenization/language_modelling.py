"""Targets of language modelling: the masked tokens of a text (BERT, arXiv 1810.04805), or each next token (causal).

A text's masks follow from the seed and the text alone. So under differential privacy adding or removing one text
changes no other text's masks, and the same text is measured with the same masks before and after.
"""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.tokenization.batches import IGNORED, TokenizedSet

__all__ = ["MASKED_SHARE", "mask_tokens", "next_token_labels"]

MASKED_SHARE = 0.15
"""Fraction of tokens selected for prediction (BERT). 80 % of them are masked, 10 % replaced at random, 10 % kept."""

IntArray = NDArray[np.int64]


def mask_tokens(tokens: TokenizedSet, tokenizer: Any, seed: int) -> TokenizedSet:
    """Return `tokens` with some of them masked, and labels with the original ids there (IGNORED elsewhere).

    At least one token of each text is masked, special tokens never. A text of special tokens alone has no label.

    Args:
        tokens: Ids of the texts.
        tokenizer: The tokenizer that made them. It must have a mask token.
        seed: Of the selection, which for each text depends on the text and the seed alone.
    """
    special = np.array(sorted(tokenizer.all_special_ids), dtype=np.int64)
    ordinary = np.setdiff1d(np.arange(len(tokenizer), dtype=np.int64), special)
    pairs = [_mask_one(ids, int(tokenizer.mask_token_id), special, ordinary, seed) for ids in tokens.input_ids]
    return TokenizedSet(tuple(ids for ids, _ in pairs), tuple(labels for _, labels in pairs), tokens.pad_id)


def next_token_labels(tokens: TokenizedSet) -> TokenizedSet:
    """Return `tokens` with the next token as label: at t the id at t + 1, IGNORED at the end."""
    labels = tuple(np.append(ids[1:], IGNORED).astype(np.int64)[: ids.size] for ids in tokens.input_ids)
    return replace(tokens, labels=labels)


def _mask_one(
    ids: IntArray, mask_id: int, special: IntArray, ordinary: IntArray, seed: int
) -> tuple[IntArray, IntArray]:
    key = hashlib.sha256(f"fedfin masks|{seed}|".encode() + ids.astype("<i8").tobytes()).digest()
    random = np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8").astype(np.uint64)))
    places = np.flatnonzero(~np.isin(ids, special))
    labels = np.full(ids.size, IGNORED, dtype=np.int64)
    if not places.size:
        return ids, labels
    hidden = random.permutation(places)[: max(1, round(MASKED_SHARE * places.size))]
    labels[hidden] = ids[hidden]
    coins, others = random.random(hidden.size), random.choice(ordinary, hidden.size)
    changed = ids.copy()
    changed[hidden] = np.where(coins < 0.8, mask_id, np.where(coins < 0.9, others, ids[hidden]))
    return changed, labels
