"""A LoRA adapter and task head on a frozen base model: the trained parameters, which are also those exchanged.

`adapt` attaches them once. Hub and institutions then `load` the weights of each turn into the same memory.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from numpy.typing import NDArray
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from common.adapters.frozen_blocks import FrozenFeatures, split
from common.adapters.peft_config import lora_config, refuse_adapted
from common.adapters.saving import write_adapter
from common.adapters.target_modules import parse_layers, target_names
from common.adapters.task_heads import task_head
from common.adapters.tensors import (
    NEW_ROWS,
    PROMPT,
    array,
    initial_tensors,
    is_ours,
    last_head_layers,
    numbers,
    read_rows_exactly,
    wire_name,
    write,
)
from common.base_models.load import LoadedBase
from common.base_models.masked_lm import MaskedLanguageModel
from common.config.adapter import AdapterConfig
from common.data.datasets import Dataset
from common.errors import ModelError
from common.protocol.adapter_codec import Spec, Tensors
from common.tasks import Task
from common.tokenization.batches import Batch, TokenizedSet, tokenize_words

__all__ = ["AdaptedModel", "adapt"]


class AdaptedModel:
    """A base model that carries one adapter. Made by `adapt`.

    Attributes:
        base: the base model. `base.model` is the module that runs, now with the adapter inside.
        module: the same module wrapped by PEFT, for Opacus.
        spec: names and shapes of the exchanged tensors, by PEFT's names.
        parameters_trained, parameters_total: numbers trained, and all numbers of the model.
        verified: for which training, and at which adapter, its private gradients were verified last in this process.
            See `client.dp.training.verify_training`. None before.
    """

    def __init__(
        self,
        base: LoadedBase,
        module: Any,
        config: peft.PeftConfig,
        seed: int,
        trained_factors: str,
        layers: str = "all",
    ) -> None:
        self.base = base
        self.verified: tuple[str, str] | None = None
        self.head = task_head(base)
        self.module: nn.Module = module
        self._peft: Any = module
        self._config = config
        self._seed = seed
        self._parameters = {wire_name(name): p for name, p in module.named_parameters() if is_ours(name)}
        for name, parameter in self._parameters.items():
            parameter.data = parameter.data.to(torch.float32)
            parameter.requires_grad_(trained_factors == "AB" or ".lora_A." not in name)
        self._new_rows = {name: array(p) for name, p in self._parameters.items() if NEW_ROWS in name}
        self._trainable = {name: p for name, p in sorted(self._parameters.items()) if p.requires_grad}
        self._owners = [m for m in module.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self._dropouts = [
            child
            for m in module.modules()
            if isinstance(m, BaseTunerLayer) and hasattr(m, "lora_dropout")
            for child in m.lora_dropout.values()
        ]
        self._cast_head_inputs()
        for layer in module.modules():
            if isinstance(layer, TrainableTokensLayer) and isinstance(layer.get_base_layer(), nn.Embedding):
                read_rows_exactly(layer)
        self._last_layer = last_head_layers(base, self._parameters)
        if isinstance(base.model, MaskedLanguageModel):
            base.model.tie()
        # If rows of the embeddings are trained, nothing below them is frozen.
        self._split = None if self._new_rows else split(base, parse_layers(layers))
        self.parameters_trained = sum(p.numel() for p in self._trainable.values())
        # PEFT keeps the base model's own head beside the trained copy.
        own = [p for name, p in module.named_parameters() if ".original_module." not in name]
        self.parameters_total = sum(numbers(p) for p in own)
        self._frozen_a = {n: p for n, p in self._parameters.items() if not p.requires_grad}
        self.spec = Spec.of(self.export())
        write(self._frozen_a, {name: self._start(name, p) for name, p in self._frozen_a.items()})
        self.load(self.initial())
        self.eval_mode()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by wire name, sorted. Exactly these are exchanged."""
        return dict(self._trainable)

    def head_names(self) -> frozenset[str]:
        """Wire names of the task head's parameters."""
        return frozenset(
            name for name in self._trainable if ".lora_" not in name and NEW_ROWS not in name and name != PROMPT
        )

    def output_bias(self) -> str | None:
        """Return the wire name of the bias of the one layer whose outputs are the labels. None if there is none."""
        names = [name for name in self._last_layer if name.endswith(".bias") and name in self._trainable]
        return names[0] if len(names) == 1 else None

    def initial(self) -> Tensors:
        """Return the tensors with which every run of this seed starts.

        B and the head's last layer are zero, and the rest comes from the seed. The bits are equal on every machine and
        release, by SHA-256, Philox and exact arithmetic, without the normal numbers of a library.
        """
        return {name: self._start(name, parameter) for name, parameter in self._trainable.items()}

    def load(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Put travelled weights in place.

        Raises:
            ModelError: they are not of `spec`. Nothing was changed. (`codec.decode` gives a foreign adapter's reasons.)
        """
        for name, shape, _ in self.spec.tensors:
            if name not in tensors or tensors[name].shape != shape:
                raise ModelError(f"adapter tensor {name}: absent or misshapen: this model needs {list(shape)}")
        if len(tensors) != len(self.spec.tensors):
            raise ModelError(f"adapter: {len(tensors)} tensors: this model needs {len(self.spec.tensors)}")
        write(self._trainable, tensors)

    def restore(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Load the tensors that `save_pretrained` wrote: the trained ones, and a frozen A.

        Raises:
            ModelError: a tensor is absent, misshapen or too many. Nothing was changed.
        """
        for name, parameter in self._parameters.items():
            if name not in tensors or tensors[name].shape != tuple(parameter.shape):
                raise ModelError(f"adapter tensor {name}: absent or misshapen: it was trained on another model")
        if len(tensors) != len(self._parameters):
            raise ModelError(f"adapter: {len(tensors)} tensors: this model holds {len(self._parameters)}")
        self.verified = None  # it speaks of the trained tensors alone, and a frozen A may change here
        write(self._parameters, tensors)

    def export(self) -> Tensors:
        """Return a copy of the exchanged tensors by name, sorted: trained LoRA factors and head, never a frozen A."""
        return {name: array(parameter) for name, parameter in self._trainable.items()}

    def encode(self, texts: Sequence[str], labels: Sequence[int] | None = None) -> TokenizedSet:
        """Return the ids of `texts`, cut at the run's maximum of tokens. A decoder that writes summaries gets each
        text inside the instruction that it answers."""
        return self.head.encode(texts, labels)

    def encode_words(
        self, sentences: Sequence[Sequence[str]], labels: Sequence[Sequence[int]] | None = None
    ) -> TokenizedSet:
        """Return the ids of sentences that are split into words. For the labels see `tokenize_words`."""
        return tokenize_words(self.base.tokenizer, sentences, self.base.max_tokens, labels)

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        """Return the ids and labels of a data set, in its order.

        The labels of a language model are the tokens that it is to predict. For a decoder that writes summaries, a
        row is an instruction with its answer (see `instruction_prompts`).
        """
        return self.head.encode_dataset(dataset)

    def with_lm_labels(self, tokens: TokenizedSet, seed: int = 0) -> TokenizedSet:
        """Return `tokens` with the labels of language modelling: tokens masked by `seed`, or each next token."""
        return self.head.with_lm_labels(tokens, seed)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's scores for a batch, computed from `batch.hidden` if it is given.

        Returns:
            (B, C), or (B, T, C) if words are labelled. Of a language model (M, V): one row for each of the M tokens
            that have a label. So it is for the responses of a decoder. Of a text that an encoder-decoder writes
            (B, T, V): each token of `batch.labels` from those before it. If there are several tasks and labels, the
            labels of other tasks than an example's own get the lowest score.
        """
        with self.head.scoring(batch):
            if batch.hidden is not None:
                scored = self.head.scored_tokens(batch)
                logits = self.logits_from(batch.hidden, batch.attention_mask, batch.input_ids, scored)
            else:
                logits = self.base.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, **self.head.inputs(batch)
                ).logits
        return self.head.select(logits, batch)

    def frozen_output(self, batch: Batch) -> Tensor | None:
        """Return the output of the frozen part below the first trained parameter, or None if there is no such part.

        (B, T, H) hidden states below the adapted blocks, or, with `layers = "none"`, the input of a linear head:
        (B, H) for a sequence, (B, T, H) for a token head. `logits_from` it equals `logits` to rounding.
        """
        return None if self._split is None else self._split.frozen_output(batch)

    def logits_from(
        self, hidden: Tensor, attention_mask: Tensor, input_ids: Tensor | None = None, chosen: Tensor | None = None
    ) -> Tensor:
        """Return `logits` computed from `frozen_output`, with a gradient. For the arguments see `BlockSplit.logits`.

        Raises:
            ModelError: No part of this model is frozen below the first trained parameter.
        """
        if self._split is None:
            raise ModelError(f"base model {self.base.name}: its frozen blocks cannot be computed apart: use logits")
        return self._split.logits(hidden, attention_mask, input_ids, chosen)

    def features(self, data: TokenizedSet, max_batch_tokens: int = 8192) -> FrozenFeatures | None:
        """Compute `frozen_output` of a whole set once. It does not change while the model trains. None as for it."""
        if self._split is None:
            return None
        self.eval_mode()
        return FrozenFeatures.compute(self._split, data, self.base, max_batch_tokens)

    def recompute(self) -> None:
        """Keep only the input of each block from now on, and compute the rest again for the backward pass.

        Less memory, about a third more time, the same gradients. Not for gradients of one example alone.

        Raises:
            ModelError: the architecture cannot.
        """
        bodies = [part for part in self.base.model.modules() if isinstance(part, PreTrainedModel)]
        if not bodies or not bodies[0].supports_gradient_checkpointing:
            raise ModelError(
                f"base model {self.base.name} ({self.base.family}): it has no gradient checkpointing: leave it out"
            )
        self.verified = None  # gradients are computed in another way from now on
        bodies[0].activation_checkpointing_enable()
        # Blocks look at their own flag, and at none below them: nothing of the frozen base drops anything by this.
        self._owners += [block for block in bodies[0].modules() if isinstance(block, GradientCheckpointingLayer)]

    def train_mode(self, dropout: bool = True) -> None:
        """Set the trained modules, and LoRA's dropout if asked, to training mode. The frozen base has no dropout."""
        self.eval_mode()
        for module in [*self._owners, *(self._dropouts if dropout else ())]:
            module.training = True

    def eval_mode(self) -> None:
        """Evaluation mode for all of it."""
        self.module.eval()

    def save_pretrained(
        self,
        directory: str | Path,
        card: Mapping[str, Any] | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write the adapter in PEFT's format, the frozen A included, with a model card. Replaces `directory` whole.

        `PeftModel.from_pretrained(load_classifier(base, labels, pooling), directory)` gives the same logits.

        Args:
            card: lines of the model card, by name.
            beside: other files of the directory, by name.
        """
        tensors = {name: array(parameter) for name, parameter in sorted(self._parameters.items())}
        write_adapter(Path(directory), self.base, self._config, tensors, card or {}, beside or {})

    def merge(self) -> LoadedBase:
        """Fold the adapter into the base model's weights for good. This object cannot be used afterwards."""
        for handle in self._handles:
            handle.remove()
        self._peft.merge_and_unload()
        return self.base

    def release(self) -> LoadedBase:
        """Take the adapter off, so that another can be attached. This object cannot be used afterwards."""
        for handle in self._handles:
            handle.remove()
        self._peft.unload()
        for parameter in self.base.model.parameters():
            parameter.requires_grad_(False)
        return self.base

    def _start(self, name: str, parameter: nn.Parameter) -> NDArray[np.float32]:
        if name in self._new_rows:
            return self._new_rows[name].copy()
        return initial_tensors(self._seed, name, tuple(parameter.shape), zero=name in self._last_layer)

    def _cast_head_inputs(self) -> None:
        """A head in float32 on a base in bfloat16."""

        def cast(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(value.to(torch.float32) if isinstance(value, Tensor) else value for value in inputs)

        heads = [getattr(self.base.model, name) for name in self.base.head_names]
        self._handles = [head.register_forward_pre_hook(cast) for head in heads]


def adapt(base: LoadedBase, cfg: AdapterConfig, task: Task, seed: int) -> AdaptedModel:
    """Attach an adapter to `base`, in place, at the starting point of `seed`.

    `layers = "none"` trains the head alone. "last:K" adapts the last K blocks (of each stack, if there are two).

    Raises:
        ModelError: `base` carries one already, or has none of the modules asked for.
    """
    refuse_adapted(base)
    names = target_names(base.model, base.family, cfg.target_modules, task.target_modules, cfg.layers, base.head_names)
    config = lora_config(base, cfg, names)
    # Another for PEFT: it shortens the list of modules in place, to names that another model could read differently.
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        module = peft.get_peft_model(base.model, lora_config(base, cfg, names))
    config.base_model_name_or_path = base.name
    return AdaptedModel(base, module, config, seed, cfg.trained_factors, cfg.layers)
