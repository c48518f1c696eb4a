"""Summaries written by a trained model, and how far they are from those a person wrote."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.adapters.adapted_model import AdaptedModel
from common.data.datasets import Dataset, SummaryExample
from common.evaluation.metrics import rouge_l
from common.tokenization.batches import SUMMARY_TOKENS, TokenizedSet, token_batches

__all__ = ["summarise", "summary_metrics"]

_BATCH_TOKENS = 4096


@torch.no_grad()
def summarise(model: AdaptedModel, texts: Sequence[str], max_new_tokens: int = SUMMARY_TOKENS) -> list[str]:
    """A summary of each text, its likeliest next word at a time (greedy: the same every time)."""
    model.eval_mode()
    tokens, writer = model.encode(texts), _writer(model)
    prompt = getattr(writer.peft_config["default"], "num_virtual_tokens", 0)
    places = (getattr(model.base.model.config, "max_position_embeddings", None) or 131_072) - prompt - 1
    found: dict[int, str] = {}
    for rows in token_batches(tokens.lengths, np.arange(len(tokens)), _BATCH_TOKENS):
        ids, mask = _padded(model, tokens, rows)
        written = writer.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=min(max_new_tokens, places),
            do_sample=False,
            num_beams=1,
        )
        if not model.base.is_encoder_decoder:
            written = written[:, ids.shape[1] :]  # a decoder's output begins with its prompt
        for row, text in zip(rows, model.base.tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
            found[int(row)] = text.strip()
    return [found[index] for index in range(len(tokens))]


def _padded(model: AdaptedModel, tokens: TokenizedSet, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """(B, T) ids and mask. A decoder's begin with the padding, so that each ends where its answer begins."""
    batch = tokens.batch(rows, model.base.device)
    if model.base.is_encoder_decoder:
        return batch.input_ids, batch.attention_mask
    order = batch.attention_mask.argsort(dim=1, stable=True)
    return batch.input_ids.gather(1, order), batch.attention_mask.gather(1, order)


def summary_metrics(model: AdaptedModel, data: Dataset) -> dict[str, float]:
    """ROUGE-L of the summary that the model writes of each text of `data` against that text's summary."""
    examples = [example for example in data.examples if isinstance(example, SummaryExample)]
    written = summarise(model, [example.text for example in examples])
    return {"rouge_l": rouge_l((e.summary, text) for e, text in zip(examples, written, strict=True))}


def _writer(model: AdaptedModel) -> Any:
    """PEFT's own wrapper: its `generate` puts a soft prompt before the text."""
    return model.module
