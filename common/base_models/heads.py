"""Linear heads on an encoder: one on mean-pooled features, or one for each of several tasks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from common.base_models.architecture import hidden_size
from common.tasks import Head

__all__ = ["FEATURE_NORM", "MeanPoolClassifier", "SharedEncoder", "pool_mean"]

FEATURE_NORM = 4.0
"""L2 norm of the mean-pooled features that a linear head sees. Fixed, so that no example's head gradient is larger
than another's by its text alone, and above 1, so that a linear head learns in few steps."""


def pool_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H) to (B, H), in float32: the mean over real tokens, scaled to norm `FEATURE_NORM`."""
    weights = mask.unsqueeze(-1).to(torch.float32)
    mean = (hidden.to(torch.float32) * weights).sum(1) / weights.sum(1).clamp(min=1)
    return FEATURE_NORM * nn.functional.normalize(mean, dim=-1)


class MeanPoolClassifier(nn.Module):
    """Encoder, mean over the real tokens, scaled to norm `FEATURE_NORM`, linear `classifier`.

    For encoders whose own pooler was never trained. Forward as in transformers: (B, T) ids and mask to an output
    with `logits` (B, C), and `loss` when (B,) labels are given.
    """

    def __init__(self, encoder: nn.Module, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.is_loaded_in_4bit = getattr(encoder, "is_loaded_in_4bit", False)  # PEFT asks
        self.classifier = nn.Linear(hidden_size(encoder.config), labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """See the class. The mask also covers a prefix in `past_key_values`, which is attended to and not pooled."""
        given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "past_key_values": past_key_values}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        hidden = self.encoder(attention_mask=attention_mask, **kwargs).last_hidden_state
        mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask[:, -hidden.shape[1] :]
        logits = self.classifier(self.pool(hidden, mask))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of the encoder. PEFT asks for them by this name."""
        encoder: Any = self.encoder
        embeddings: nn.Module = encoder.get_input_embeddings()
        return embeddings

    @property
    def device(self) -> torch.device:
        """Device of its weights, for PEFT."""
        return self.classifier.weight.device

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H) to (B, H), in float32."""
        return pool_mean(hidden, mask)


class SharedEncoder(nn.Module):
    """Forward as in transformers, for the task that `select` named last: (B, C) logits, (B, T, C) for labelled words.

    A task's head is a child of the task's name. While it trains, every head takes part in every pass, with weight
    zero if it was not selected. So each parameter has a gradient of every example.

    Args:
        heads: by task name, the kind of head and the number of labels.
    """

    def __init__(self, encoder: nn.Module, width: int, heads: Mapping[str, tuple[Head, int]]) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.is_loaded_in_4bit = getattr(encoder, "is_loaded_in_4bit", False)  # PEFT asks
        self.kinds = {name: kind for name, (kind, _) in heads.items()}
        for name, (_, labels) in heads.items():
            self.add_module(name, nn.Linear(width, labels))
        self._counts = {name: labels for name, (_, labels) in heads.items()}
        self.active = next(iter(heads))

    @property
    def device(self) -> torch.device:
        """Device of its weights, for PEFT."""
        return next(self.parameters()).device

    def labels(self, name: str) -> int:
        """Return the number of labels of task `name`."""
        return self._counts[name]

    def select(self, name: str) -> None:
        """Answer task `name` from now on."""
        self.active = name

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """See the class. The mask also covers a prefix in `past_key_values`."""
        given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "past_key_values": past_key_values}
        kwargs.pop("labels", None)
        kwargs |= {name: value for name, value in given.items() if value is not None}
        hidden = self.encoder(attention_mask=attention_mask, **kwargs).last_hidden_state.to(torch.float32)
        mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask[:, -hidden.shape[1] :]
        pooled = pool_mean(hidden, mask)
        logits = self._head(self.active, hidden, pooled)
        if torch.is_grad_enabled():
            others = [self._head(name, hidden, pooled) for name in self.kinds if name != self.active]
            unasked = torch.stack([0.0 * other.flatten(1).sum(1) for other in others]).sum(0)
            logits = logits + unasked.view(-1, *[1] * (logits.ndim - 1))
        return SequenceClassifierOutput(logits=logits)

    def _head(self, name: str, hidden: Tensor, pooled: Tensor) -> Tensor:
        head = self.get_submodule(name)
        logits: Tensor = head(hidden if self.kinds[name].labels_words else pooled)
        return logits
