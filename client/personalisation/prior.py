"""Label-shift correction by the institution's own label shares.

If only the label shares differ between the federation and an institution, its model is p(y|x) times own(y) / shared(y),
normalised (Saerens et al. 2002). Own shares are counted here. The federation's are not known, and no release is made
to learn them: the ratio is the one at which the mean corrected prediction on the institution's training rows equals
its own shares. That is the stationary point of Saerens' EM, solved for the ratio instead of the own shares, and the
maximum-likelihood bias of a logistic model. A ratio is a factor of probabilities, so its logarithm is added to the bias
of the head, and the result is an ordinary adapter.

The ratio is computed from private rows without noise. It stays inside.
"""

import numpy as np
from numpy.typing import NDArray

from client.federation.local_round import FederatedJob
from common.errors import ModelError
from common.evaluation.evaluate import scores
from common.tokenization.batches import IGNORED

__all__ = ["fit_label_shares", "log_ratios"]

_STEPS = 2000
_TOLERANCE = 1e-6
"""Largest difference between mean prediction and label share at which the fit ends."""

Floats = NDArray[np.float64]


def fit_label_shares(job: FederatedJob) -> None:
    """Add the log ratios to the bias of the head of `job.model`, in place. Nothing happens without a row.

    Raises:
        ModelError: The head has no bias.
    """
    bias = job.model.output_bias()
    if bias is None:
        raise ModelError("the head has no bias: choose another personal part")
    logits, labels = _labelled_scores(job)
    if not len(labels):
        return
    tensors = job.model.export()
    tensors[bias] = (tensors[bias] + log_ratios(logits, labels)).astype(np.float32)
    job.model.load(tensors)


def log_ratios(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the bias of each label, (C,), at which the mean prediction equals the label shares. Its mean is 0.

    Shares are counted with half a row more of each label, so that a label without rows keeps a small share.

    Args:
        logits: (N, C) scores of the global model.
        labels: (N,) labels from 0 to C - 1.

    >>> logits = np.zeros((4, 2))
    >>> bias = log_ratios(logits, np.array([0, 0, 0, 1]))
    >>> bool(np.isclose(np.exp(bias[0] - bias[1]), 3.5 / 1.5))
    True
    """
    count = logits.shape[1]
    shares = (np.bincount(labels, minlength=count) + 0.5) / (len(labels) + 0.5 * count)
    bias: Floats = np.zeros(count)
    for _ in range(_STEPS):
        corrected = logits + bias
        corrected = np.exp(corrected - corrected.max(axis=1, keepdims=True))
        mean = (corrected / corrected.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(mean - shares).max() < _TOLERANCE:
            break
        bias += np.log(shares) - np.log(np.maximum(mean, 1e-12))
    return np.asarray(bias - bias.mean())


def _labelled_scores(job: FederatedJob) -> tuple[Floats, NDArray[np.int64]]:
    """Return the scores of the model for each labelled training row (or word), and its label."""
    tokens = job.data.tokens
    if tokens.labels is None or not len(tokens):
        return np.zeros((0, 1)), np.zeros(0, np.int64)
    found = scores(job.model, tokens)
    logits = np.concatenate([np.atleast_2d(row) for row in found]).astype(np.float64)
    labels = np.concatenate([np.atleast_1d(np.asarray(each, dtype=np.int64)) for each in tokens.labels])
    known = labels != IGNORED
    return logits[known], labels[known]
