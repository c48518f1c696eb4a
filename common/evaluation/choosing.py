"""Let a model that responds to prompts choose among declared answers, by the likelihood of each."""

from collections.abc import Sequence

import numpy as np
import torch

from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import batch_losses
from common.data.datasets import Dataset, ResponseExample, Turn
from common.tokenization.batches import token_batches

__all__ = ["choose"]

_BATCH_TOKENS = 1024
_ROWS_AT_ONCE = 4096
"""Prompts with an answer that are in memory at once, if one prompt has no more answers."""


@torch.no_grad()
def choose(model: AdaptedModel, prompts: Sequence[Sequence[Turn]], answers: Sequence[str]) -> list[str]:
    """Return the answer to each prompt whose tokens have the highest mean log-likelihood.

    Every choice is one of `answers`, whether the model would write it or not. The mean over the tokens, with the one
    that ends the answer, keeps long answers from losing to short ones.

    Args:
        model: A model that responds to prompts.
        prompts: Turns of each prompt, the last one of the user.
        answers: The answers to choose among.
    """
    model.eval_mode()
    chosen: list[str] = []
    most = max(1, _ROWS_AT_ONCE // len(answers))
    for start in range(0, len(prompts), most):
        part = prompts[start : start + most]
        rows = tuple(
            ResponseExample(turns[-1][1], answer, before=tuple(turns[:-1])) for turns in part for answer in answers
        )
        tokens = model.encode_dataset(Dataset(rows, (), "prompts with their answers"))
        losses = np.zeros(len(tokens))
        for indices in token_batches(tokens.lengths, np.arange(len(tokens)), _BATCH_TOKENS):
            losses[indices] = batch_losses(model, tokens.batch(indices, model.base.device)).float().cpu().numpy()
        chosen.extend(answers[int(place)] for place in losses.reshape(len(part), len(answers)).argmin(axis=1))
    return chosen
