"""The packaged encoder with an adapter, and random headlines of a chosen length, for the benchmarks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.adapters.adapted_model import AdaptedModel, adapt
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.tasks import task
from common.tokenization.batches import TokenizedSet

__all__ = ["Case", "adapted", "headlines", "prepared"]

_TEXT = (
    "profit loss bank share price rises falls quarter company net sales million euro market contract agreement the of "
    "in to its by operating unchanged strong weak bond yield rate credit default loan fund stock index gold oil"
)
_WORDS = _TEXT.split()
LABELS = 3


@dataclass(frozen=True)
class Case:
    """One training: `rows` headlines of about `tokens` tokens, and the trained part of the encoder."""

    name: str
    rows: int
    tokens: int
    layers: str
    trained_factors: Literal["AB", "B"]
    spread: float = 0.0
    limit: int = 256


def headlines(case: Case, seed: int = 0) -> tuple[list[str], list[int]]:
    """Return texts and labels. Lengths are log-normal with the case's spread: most texts are short, few are long."""
    rng = np.random.default_rng(seed)
    words = np.exp(rng.normal(np.log(case.tokens - 2), case.spread, case.rows)).round().astype(int).clip(1, 254)
    return [" ".join(rng.choice(_WORDS, n)) for n in words], [
        int(label) for label in rng.integers(0, LABELS, case.rows)
    ]


def adapted(case: Case, max_tokens: int = 256) -> AdaptedModel:
    """Return MiniLM with LoRA of rank 8 on all linear layers of the case's blocks, without dropout."""
    kind = task("sentiment_analysis")
    config = AdapterConfig(
        rank=8,
        alpha=16,
        dropout=0.0,
        target_modules="all-linear",
        layers=case.layers,
        trained_factors=case.trained_factors,
    )
    return adapt(load_base(ModelConfig(max_tokens=max_tokens), kind, LABELS), config, kind, seed=0)


def prepared(case: Case, max_tokens: int = 256) -> tuple[AdaptedModel, TokenizedSet]:
    """Return the model and its tokenised examples."""
    model = adapted(case, max_tokens)
    return model, model.encode(*headlines(case))
