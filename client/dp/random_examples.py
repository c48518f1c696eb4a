"""Examples of random tokens, which belong to nobody: the data of the checks and of the audit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapted_model import AdaptedModel
from common.tokenization.batches import IGNORED, TokenizedSet

__all__ = ["RESPONSE", "random_examples"]

RESPONSE = 5
"""Tokens of a random response."""


def random_examples(model: AdaptedModel, lengths: Sequence[int], rng: np.random.Generator) -> TokenizedSet:
    """Return examples of ordinary tokens with random labels of the model's kind.

    Args:
        lengths: tokens of each example, the special tokens that frame a text included. A length that leaves no room
            for a token between them is raised to one that does.
    """
    tokenizer = model.base.tokenizer
    frame = np.array(tokenizer("")["input_ids"], dtype=np.int64)
    words = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    ids = []
    for length in lengths:
        inside = rng.choice(words, max(1, length - frame.size))
        ids.append(np.concatenate([frame[:1], inside, frame[1:]]).astype(np.int64))
    tokens = TokenizedSet(tuple(ids), None, tokenizer.pad_token_id)
    head = model.base.head
    if head.is_language_modelling:
        return model.with_lm_labels(tokens, int(rng.integers(2**31)))
    labels: list[NDArray[np.int64]] = []
    for row in ids:
        if head.labels_texts:
            labels.append(np.array(rng.integers(model.base.labels)))
        elif head.labels_words:
            labels.append(np.where(np.isin(row, frame), IGNORED, rng.integers(0, model.base.labels, row.size)))
        elif model.base.is_encoder_decoder:
            labels.append(rng.choice(words, RESPONSE).astype(np.int64))
        else:
            labels.append(np.where(np.arange(row.size) < row.size - RESPONSE, IGNORED, row))
    return TokenizedSet(tokens.input_ids, tuple(labels), tokens.pad_id)
