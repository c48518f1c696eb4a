"""Make PEFT's configuration of an adapter from the configuration of the run."""

from collections.abc import Sequence
from typing import Any

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from peft.utils.constants import DUMMY_TARGET_MODULES

from common.adapters.task_heads import task_head
from common.base_models.load import LoadedBase
from common.config.adapter import AdapterConfig
from common.errors import ModelError

__all__ = ["lora_config", "refuse_adapted"]


def refuse_adapted(base: LoadedBase) -> None:
    """Raise ModelError if a base model carries an adapter already."""
    if any(isinstance(m, BaseTunerLayer | ModulesToSaveWrapper) for m in base.model.modules()):
        raise ModelError(f"base model {base.name}: it carries an adapter already: release that one first")


def lora_config(base: LoadedBase, cfg: AdapterConfig, names: Sequence[str]) -> peft.LoraConfig:
    """Return PEFT's configuration of LoRA, with the task head trained and saved whole.

    Args:
        base: The base model.
        cfg: The adapter's settings of the run.
        names: Paths of the modules that get LoRA. If empty, the head alone is trained.

    Raises:
        ModelError: The run has more new tokens than the vocabulary of the base model.
    """
    return peft.LoraConfig(
        task_type=task_head(base).peft_type,
        r=cfg.rank,
        lora_alpha=cfg.alpha,
        lora_dropout=cfg.dropout,
        target_modules=list(names) if names else DUMMY_TARGET_MODULES,
        modules_to_save=list(base.head_names) or None,
        trainable_token_indices=_new_rows(base, cfg.new_tokens),
    )


def _new_rows(base: LoadedBase, count: int) -> dict[str, list[int]] | None:
    """The last `count` rows of the embeddings, and of a head that is not tied to them, by module name as PEFT wants."""
    if not count:
        return None
    model: Any = base.model
    embeddings = model.get_input_embeddings()
    tables = [embeddings]
    if base.head.generates and model.get_output_embeddings().weight is not embeddings.weight:
        tables.append(model.get_output_embeddings())
    if count > embeddings.num_embeddings:
        raise ModelError(f"adapter.new_tokens: {count}, but the base model has {embeddings.num_embeddings} tokens")
    rows = list(range(embeddings.num_embeddings - count, embeddings.num_embeddings))
    return {name: rows for name, module in model.named_modules() if any(module is table for table in tables)}
