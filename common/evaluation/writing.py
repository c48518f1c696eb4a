"""Let a trained model write texts: summaries, or the responses to prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig

from common.adapters.adapted_model import AdaptedModel
from common.tokenization.batches import IGNORED, SUMMARY_TOKENS, TokenizedSet, token_batches
from common.tokenization.responses import end_of_turn

__all__ = ["prompts_of", "summarise", "write"]

_BATCH_TOKENS = 4096
_WITHOUT_LIMIT = 131_072


def summarise(model: AdaptedModel, texts: Sequence[str], max_new_tokens: int = SUMMARY_TOKENS) -> list[str]:
    """Write a summary of each text, see `write`. Texts are cut at the model's maximum of tokens."""
    return write(model, model.encode(texts), max_new_tokens)


def prompts_of(model: AdaptedModel, tokens: TokenizedSet) -> TokenizedSet:
    """Return the prompts of rows that have responses. Those of an encoder-decoder are apart already."""
    if tokens.labels is None or model.base.is_encoder_decoder:
        return replace(tokens, labels=None)
    ends = [int(np.flatnonzero(labels != IGNORED)[0]) + 1 for labels in tokens.labels]
    ids = tuple(row[:end] for row, end in zip(tokens.input_ids, ends, strict=True))
    return replace(tokens, input_ids=ids, labels=None)


@torch.no_grad()
def write(model: AdaptedModel, prompts: TokenizedSet, max_new_tokens: int) -> list[str]:
    """Write the text for each prompt by greedy decoding, which gives the same words every time.

    Prompts of similar length are written together, with the keys and values of earlier tokens kept.

    Args:
        model: A model with a head that writes text.
        prompts: The ids of the prompts.
        max_new_tokens: Length of a text at most, in tokens. A decoder has no more than its positions leave.
    """
    model.eval_mode()
    base = model.base
    # PEFT's own wrapper, whose `generate` puts a soft prompt before the text.
    writer: Any = model.module
    virtual = getattr(writer.peft_config["default"], "num_virtual_tokens", 0)
    places = (getattr(base.model.config, "max_position_embeddings", None) or _WITHOUT_LIMIT) - virtual - 1
    ends = {} if base.is_encoder_decoder else {"eos_token_id": _ends(base.tokenizer)}
    found: dict[int, str] = {}
    for rows in token_batches(prompts.lengths, np.arange(len(prompts)), _BATCH_TOKENS):
        ids, mask = _padded(model, prompts, rows)
        with _greedy(base.model):
            written = writer.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=min(max_new_tokens, places), **ends
            )
        if not base.is_encoder_decoder:
            written = written[:, ids.shape[1] :]  # a decoder's output begins with its prompt
        for row, text in zip(rows, base.tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
            found[int(row)] = text.strip()
    return [found[index] for index in range(len(prompts))]


@contextmanager
def _greedy(model: Any) -> Iterator[None]:
    """Leave out the model's own settings of generation, such as a penalty on repeated words, but for its tokens."""
    own = model.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    model.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, **{name: getattr(own, name) for name in names}
    )
    try:
        yield
    finally:
        model.generation_config = own


def _ends(tokenizer: Any) -> list[int]:
    """The tokens that end a text: the one that ends a turn in the chat template, and the tokenizer's own."""
    return list(dict.fromkeys([end_of_turn(tokenizer), int(tokenizer.eos_token_id)]))


def _padded(model: AdaptedModel, tokens: TokenizedSet, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return (B, T) ids and mask. Those of a decoder begin with the padding, so that each ends before its answer."""
    batch = tokens.batch(rows, model.base.device)
    if model.base.is_encoder_decoder:
        return batch.input_ids, batch.attention_mask
    order = batch.attention_mask.argsort(dim=1, stable=True)
    return batch.input_ids.gather(1, order), batch.attention_mask.gather(1, order)
