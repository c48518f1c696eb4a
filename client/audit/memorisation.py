"""Canary sentences: what does a model that writes give back of the secrets that it was trained on?

A canary is a prompt and a response of random tokens, its secret. A fair coin puts each into the data. The run's own
training learns them, once without privacy and once with the run's noise. The exposure of a secret is the number of bits
by which it became easier to guess: log2 of the number of candidates, less log2 of its rank by loss among them (Carlini
et al. 2019, arXiv 1802.08232). A secret comes out if greedy decoding writes it after its prompt.

The attacker also guesses the coins, by how far the loss of each canary fell, and the right guesses bound epsilon as in
`client.audit.one_run`. Few sentences cannot show much. The gradient canaries can, and no sentence is as clear as they.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from client.audit.one_run import best_bound
from client.audit.subject import Subject
from client.dp.noise import SystemNoise
from client.dp.random_examples import RESPONSE, random_examples
from client.dp.training import train
from common.adapters.adapted_model import AdaptedModel
from common.adapters.losses import batch_losses
from common.privacy.accounting import DpSgdEvent
from common.report.records import MemorisationResult
from common.tokenization.batches import IGNORED, TokenizedSet

__all__ = ["CANARIES", "memorise"]

CANARIES = 40
_CANDIDATES = 64  # the secret and random ones
_PROMPT = 7  # tokens
_AT_ONCE = 32  # candidates whose losses are computed together

Progress = Callable[[str, int, int], None]


def memorise(
    subject: Subject, confidence: float, noise_multiplier: float | None = None, progress: Progress | None = None
) -> MemorisationResult:
    """Train on the canary sentences that the coins chose, with and without privacy, and try to get them back.

    Args:
        subject: A run whose model writes. Its adapter is overwritten.
        confidence: Of the lower bound.
        noise_multiplier: Plants other noise than the claim needs.
        progress: Called with the name of the work under way, the number done, and the number in all.
    """
    report, model, dp = progress or (lambda *_: None), subject.model, subject.dp
    rng = np.random.default_rng()
    canaries = random_examples(model, [_PROMPT + RESPONSE] * CANARIES, rng)
    included = rng.random(CANARIES) < 0.5
    inside = _rows(canaries, np.flatnonzero(included))
    noise = dp.noise_multiplier if noise_multiplier is None else noise_multiplier
    size = max(1.0, subject.training.sampling_probability * len(inside))
    private = replace(subject.training, dp=replace(dp, noise_multiplier=noise, expected_batch_size=size, unit="record"))
    plain = replace(subject.training, dp=None, adam_noise_correction=False)
    start, found = model.initial(), {}
    before = _losses(_loaded(model, start), canaries)
    for number, (name, plan) in enumerate({"plain": plain, "private": private}.items()):
        report("training on canary sentences", number, 2)
        _loaded(model, start)
        if len(inside):
            train(model, inside, plan, None if plan.dp is None else SystemNoise())
        model.eval_mode()
        found[name] = _found(model, canaries, rng)
    report("training on canary sentences", 2, 2)
    fell = before - _losses(model, canaries)
    claim = DpSgdEvent(dp.noise_multiplier, dp.sampling_probability, subject.training.steps)
    bound, guesses = best_bound(np.nan_to_num(fell, nan=0.0), included, claim, subject.delta, confidence)
    (plain_bits, plain_out), (bits, out) = found["plain"], found["private"]
    return MemorisationResult(
        canaries=CANARIES,
        included=int(included.sum()),
        most_bits=math.log2(_CANDIDATES),
        plain_bits=_mean(plain_bits[included]),
        private_bits=_mean(bits[included]),
        absent_bits=_mean(bits[~included]),
        plain=int(plain_out[included].sum()),
        private=int(out[included].sum()),
        guesses=guesses.made,
        right_guesses=guesses.right,
        lower_bound=bound,
    )


def _loaded(model: AdaptedModel, tensors: dict[str, NDArray[np.float32]]) -> AdaptedModel:
    model.load(tensors)
    model.eval_mode()
    return model


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _rows(data: TokenizedSet, rows: NDArray[np.int64]) -> TokenizedSet:
    labels = data.labels or ()
    ids = tuple(data.input_ids[row] for row in rows)
    return replace(data, input_ids=ids, labels=tuple(labels[row] for row in rows), owners=None)


@torch.no_grad()
def _losses(model: AdaptedModel, data: TokenizedSet) -> NDArray[np.float64]:
    """(N,) the loss of each example."""
    parts = np.array_split(np.arange(len(data)), max(1, math.ceil(len(data) / _AT_ONCE)))
    return np.concatenate(
        [batch_losses(model, data.batch(part, model.base.device)).double().cpu().numpy() for part in parts]
    )


def _found(
    model: AdaptedModel, canaries: TokenizedSet, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N,) the exposure of each secret, in bits, and whether greedy decoding writes it."""
    bits, out = [], []
    for row in range(len(canaries)):
        losses = np.nan_to_num(_losses(model, _candidates(model, canaries, row, rng)), nan=np.inf)
        # Equal losses count half, so that a model that has learned nothing, or broke, shows nothing.
        rank = 1 + (losses[1:] < losses[0]).sum() + (losses[1:] == losses[0]).sum() / 2
        bits.append(math.log2(_CANDIDATES / rank))
        out.append(_is_written(model, _rows(canaries, np.array([row]))))
    return np.array(bits), np.array(out)


def _candidates(model: AdaptedModel, canaries: TokenizedSet, row: int, rng: np.random.Generator) -> TokenizedSet:
    """The canary, and its prompt with other random secrets."""
    others = random_examples(model, [_PROMPT + RESPONSE] * (_CANDIDATES - 1), rng)
    canary = _rows(canaries, np.array([row]))
    if model.base.is_encoder_decoder:
        ids = canary.input_ids * _CANDIDATES
    else:
        prompt = canary.input_ids[0][:-RESPONSE]
        ids = (*canary.input_ids, *(np.concatenate([prompt, other[-RESPONSE:]]) for other in others.input_ids))
    labels = (*(canary.labels or ()), *(others.labels or ()))
    if not model.base.is_encoder_decoder:
        labels = tuple(np.where(np.arange(each.size) < each.size - RESPONSE, IGNORED, each) for each in ids)
    return replace(canary, input_ids=ids, labels=labels)


@torch.no_grad()
def _is_written(model: AdaptedModel, canary: TokenizedSet) -> bool:
    """Whether each token of the secret has the highest score after those before it: then greedy decoding writes it."""
    batch = canary.batch([0], model.base.device)
    logits, labels = model.logits(batch), batch.labels
    if labels is None:
        return False
    return bool((logits.reshape(-1, logits.shape[-1]).argmax(-1) == labels[labels != IGNORED]).all())
