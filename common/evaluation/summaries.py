"""Write summaries with a trained model, and compare them with reference summaries by ROUGE-L."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.adapters.adapted_model import AdaptedModel
from common.data.datasets import Dataset, SummaryExample
from common.evaluation.ratios import f1, ratio
from common.tokenization.batches import SUMMARY_TOKENS, TokenizedSet, token_batches

__all__ = ["rouge_l", "summarise", "summary_metrics"]

_BATCH_TOKENS = 4096


@torch.no_grad()
def summarise(model: AdaptedModel, texts: Sequence[str], max_new_tokens: int = SUMMARY_TOKENS) -> list[str]:
    """Write a summary of each text by greedy decoding, which gives the same words every time.

    Args:
        model: A model with a head for summaries.
        texts: The texts. They are cut at the model's maximum of tokens.
        max_new_tokens: Length of a summary at most, in tokens.
    """
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
    """Return (B, T) ids and mask. Those of a decoder begin with the padding, so that each ends before its answer."""
    batch = tokens.batch(rows, model.base.device)
    if model.base.is_encoder_decoder:
        return batch.input_ids, batch.attention_mask
    order = batch.attention_mask.argsort(dim=1, stable=True)
    return batch.input_ids.gather(1, order), batch.attention_mask.gather(1, order)


def summary_metrics(model: AdaptedModel, data: Dataset) -> dict[str, float]:
    """Return the mean ROUGE-L of the model's summaries against those of `data`."""
    examples = [example for example in data.examples if isinstance(example, SummaryExample)]
    written = summarise(model, [example.text for example in examples])
    return {"rouge_l": rouge_l((e.summary, text) for e, text in zip(examples, written, strict=True))}


def _writer(model: AdaptedModel) -> Any:
    """Return PEFT's own wrapper, whose `generate` puts a soft prompt before the text."""
    return model.module


_WORD = re.compile(r"[^\W_]+")


def rouge_l(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the mean ROUGE-L F1 of (reference, candidate) texts: lower-cased words, no stemming (Lin 2004).

    >>> rouge_l([("Profit rose sharply", "profit rose")])
    0.8
    """
    scores = []
    for reference, candidate in pairs:
        expected, given = _WORD.findall(reference.lower()), _WORD.findall(candidate.lower())
        common = _longest_common(expected, given)
        scores.append(f1(common, len(given) - common, len(expected) - common))
    return ratio(sum(scores), len(scores))


def _longest_common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as bits of one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << position
    ones = (1 << len(left)) - 1
    row = ones
    for word in right:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & ones
    return len(left) - row.bit_count()
