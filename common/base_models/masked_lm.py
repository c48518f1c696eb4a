"""An encoder that predicts masked tokens, with its own head if its files have one, else one tied to its embeddings.

Little of the head is trained either way: a linear correction of the hidden states in front of it, zero at the
start. If the files lack a head (MiniLM's do), that correction is all there is to learn before the tied embeddings
mean anything, so it is warmed up first (`common.adapters.warm_up`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MaskedLanguageModel", "MaskedOutput"]


@dataclass(frozen=True)
class MaskedOutput:
    """`logits` (M, V): of the chosen tokens, row by row of the batch. (B, T, V), of every token, if none is chosen.

    Only chosen tokens are scored: a score for each word of the vocabulary costs more than all blocks below.
    """

    logits: Tensor


class MaskedLanguageModel(nn.Module):
    """Encoder, linear correction `head` (trained), then scores over the vocabulary (frozen).

    Args:
        model: a transformers model for masked language modelling.
        own_head: whether the files brought its head. Otherwise scores are products with the input embeddings.
    """

    def __init__(self, model: Any, own_head: bool) -> None:
        super().__init__()
        self.encoder = model.base_model
        self.config = model.config
        size = int(getattr(model.config, "hidden_size", None) or model.config.d_model)
        self.head = nn.Linear(size, size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        children = [child for name, child in model.named_children() if name != model.base_model_prefix]
        self.scores: nn.Module | None = children[0] if own_head and len(children) == 1 else None
        self.tie()

    @property
    def has_own_head(self) -> bool:
        """Whether the scores come from the model's own head, which needs no warming up."""
        return self.scores is not None

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of the encoder. PEFT asks for them by this name."""
        embeddings: nn.Module = self.encoder.get_input_embeddings()
        return embeddings

    def tie(self) -> None:
        """Score with the input embeddings as they are now. Call it again after they were wrapped or replaced."""
        # In a tuple, so that it is no submodule: it is the encoder's, and must be found once only.
        self._embeddings = (self.encoder.get_input_embeddings(),)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        chosen: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedOutput:
        """Return scores for (B, T) ids and mask. `chosen` is a (B, T) mask of the tokens to score."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask, **kwargs).last_hidden_state
        return MaskedOutput(self.decode(hidden, chosen))

    def decode(self, hidden: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return scores from the encoder's (B, T, H) hidden states. For the shape see `MaskedOutput`."""
        # The head sees whole examples, so that its gradient can be taken for each of them.
        hidden = hidden.to(torch.float32)
        hidden = hidden + self.head(hidden)
        if chosen is not None:
            hidden = hidden[chosen]
        if self.scores is not None:
            return self._own_scores(self.scores, hidden.to(next(self.scores.parameters()).dtype)).to(torch.float32)
        return hidden @ self._table().to(torch.float32).T

    def _own_scores(self, head: nn.Module, hidden: Tensor) -> Tensor:
        """Return the scores of the model's own head. If rows of the embeddings are trained and it is tied to them, it
        uses those rows too: PEFT ties heads of transformers' own classes only."""
        layer = getattr(self._embeddings[0], "token_adapter", None)
        if layer is not None:
            frozen = layer.get_base_layer().weight
            tied = {name: self._table() for name, weight in head.named_parameters() if weight is frozen}
            if tied:
                result: Tensor = torch.func.functional_call(head, tied, (hidden,))
                return result
        scores: Tensor = head(hidden)
        return scores

    def _table(self) -> Tensor:
        embeddings: Any = self._embeddings[0]
        if hasattr(embeddings, "token_adapter"):  # PEFT's wrapper, if rows of it are trained
            merged: Tensor = embeddings.token_adapter.get_merged_weights(embeddings.token_adapter.active_adapters)
            return merged
        weight: Tensor = embeddings.weight
        return weight
