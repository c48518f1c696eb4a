"""A mean-pooled classifier as a transformers model of its own. `fedfin-institution merge` copies this file beside the
weights, with the configuration class of the model at hand, so that it needs nothing of fedfin to be loaded.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

FEATURE_NORM = 4.0


class MeanPoolForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """Encoder, mean over the real tokens, scaled to norm `FEATURE_NORM`, linear `classifier`."""

    config_class = BertConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True  # `merge` writes False for an encoder that has no such attention

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        encoder = AutoModel.from_config(config, trust_remote_code=False)
        self.encoder = encoder.get_encoder() if config.is_encoder_decoder else encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        width = getattr(config, "hidden_size", None) or config.d_model
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """(B, T) ids and mask to (B, C) logits, and the mean loss if (B,) labels are given."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state.to(torch.float32)
        weights = mask.unsqueeze(-1).to(torch.float32)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits = self.classifier(FEATURE_NORM * nn.functional.normalize(mean, dim=-1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
