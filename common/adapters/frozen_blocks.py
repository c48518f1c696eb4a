"""Compute the frozen part of a model once.

The layers below every trained parameter give the same output in every step, so this output is computed once for each
example and kept. If only the last K blocks are trained, it is the hidden states that enter them. If only a linear head
is trained, it is the input of the head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.adapters.few_rows import FewRows
from common.adapters.target_modules import block_stacks
from common.base_models.heads import MeanPoolClassifier, SharedEncoder
from common.base_models.load import LoadedBase
from common.base_models.masked_lm import MaskedLanguageModel
from common.tasks import Head
from common.tokenization.batches import Batch, TokenizedSet
from common.tokenization.blocks import Block, block_batch, fixed_blocks

__all__ = ["BlockSplit", "FrozenFeatures", "HeadSplit", "split"]

_EMBEDDINGS = {"encoder.layer": "embeddings", "transformer.layer": "embeddings", "layers": "embed_tokens"}
"""Path of the stack of blocks inside the body -> path of the module whose output enters the first block."""

_FAMILIES = frozenset(
    ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "llama", "mistral", "qwen2", "qwen3")
)


class _Reached(Exception):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class _Given(nn.Module):
    """Takes the place of the embeddings and returns hidden states that were computed before."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: object, **__: object) -> Tensor:
        return self.hidden


def _first(value: Any) -> Tensor:
    result = value[0] if isinstance(value, tuple) else value
    if not isinstance(result, Tensor):
        raise TypeError("a block's output is not a tensor")
    return result


def _stop_after(module: nn.Module) -> Any:
    def hook(_: nn.Module, __: object, output: object) -> None:
        raise _Reached(_first(output))

    return module.register_forward_hook(hook)


def _stop_before(module: nn.Module) -> Any:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Reached(inputs[0])

    return module.register_forward_pre_hook(hook)


@torch.no_grad()
def _run_until(model: nn.Module, handle: Any, batch: Batch) -> Tensor:
    try:
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    except _Reached as reached:
        return reached.value.detach()
    finally:
        handle.remove()
    raise RuntimeError("the model did not pass through the module at which to stop")


@dataclass(frozen=True)
class BlockSplit:
    """The model below and above one block.

    Attributes:
        model: The whole model.
        body: The part of it that holds the stack of blocks.
        stack_path, embeddings_path: Paths inside `body` of the stack, and of the module that feeds its first block.
        first: Number of the first trained block, counted from 0.
        pad_id: Id of the padding token.
    """

    model: nn.Module
    body: nn.Module
    stack_path: str
    embeddings_path: str
    first: int
    pad_id: int

    def frozen_output(self, batch: Batch) -> Tensor:
        """Return the (B, T, H) hidden states that enter block `first`, without a gradient."""
        stack = self.body.get_submodule(self.stack_path)
        below = self.body.get_submodule(self.embeddings_path)
        if self.first > 0 and isinstance(stack, nn.ModuleList):
            below = stack[self.first - 1]
        return _run_until(self.model, _stop_after(below), batch)

    def logits(
        self,
        hidden: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of the whole model, computed from the output of its frozen part.

        Args:
            hidden: (B, T, H) output of `frozen_output`.
            attention_mask: (B, T), 1 for tokens and 0 for padding.
            input_ids: (B, T). None if the model reads nothing from the ids but the place of the padding.
            chosen: (B, T) mask of the tokens to score, for `MaskedLanguageModel` alone.

        Returns:
            Logits in the shape that the model's own forward pass gives.
        """
        # The model's own forward pass runs over fewer blocks, so that masks, positions and pooling stay its affair.
        ids = (
            torch.where(attention_mask.bool(), 0 if self.pad_id else 1, self.pad_id) if input_ids is None else input_ids
        )
        # Kept states are float32. A base model in bfloat16 computes in bfloat16.
        dtype = next(self.body.get_submodule(self.embeddings_path).parameters()).dtype
        with self._only_last(hidden.to(dtype)):
            extra = {} if chosen is None else {"chosen": chosen}
            output = self.model(input_ids=ids, attention_mask=attention_mask, **extra)
        logits: Tensor = output.logits
        return logits

    @contextmanager
    def _only_last(self, hidden: Tensor) -> Iterator[None]:
        parent_path, _, name = self.stack_path.rpartition(".")
        above_path, _, below_name = self.embeddings_path.rpartition(".")
        parent, above = self.body.get_submodule(parent_path), self.body.get_submodule(above_path)
        stack, embeddings = getattr(parent, name), getattr(above, below_name)
        setattr(parent, name, stack[self.first :])
        setattr(above, below_name, _Given(hidden))
        try:
            yield
        finally:
            setattr(parent, name, stack)
            setattr(above, below_name, embeddings)


@dataclass(frozen=True)
class HeadSplit:
    """The model below and above its linear head.

    Attributes:
        model: The whole model.
        head: The linear head.
        last_token: Whether the head reads the last token of a text, as the head of a decoder does.
        pad_id: Id of the padding token.
    """

    model: nn.Module
    head: nn.Module
    last_token: bool
    pad_id: int

    def frozen_output(self, batch: Batch) -> Tensor:
        """Return the input of the head in float32, without a gradient: (B, H), or (B, T, H) for a token head."""
        hidden = _run_until(self.model, _stop_before(self.head), batch).to(torch.float32)
        if self.last_token:
            # As transformers picks it: the last token that is not the padding's, whatever the mask says.
            positions = torch.arange(hidden.shape[1], device=hidden.device)
            last = (positions * (batch.input_ids != self.pad_id)).argmax(1)
            return hidden[torch.arange(len(batch), device=hidden.device), last]
        return hidden

    def logits(
        self,
        hidden: Tensor,
        attention_mask: Tensor,  # noqa: ARG002
        input_ids: Tensor | None = None,  # noqa: ARG002
        chosen: Tensor | None = None,
    ) -> Tensor:
        """Return the (B, C) or (B, T, C) logits of the head. For the arguments see `BlockSplit.logits`."""
        if isinstance(self.model, MaskedLanguageModel):
            return self.model.decode(hidden, chosen)
        logits: Tensor = self.head(hidden)
        return logits


def split(base: LoadedBase, trained_blocks: int | None) -> BlockSplit | HeadSplit | None:
    """Divide a model into its frozen and its trained part.

    Args:
        base: The base model, with its adapter attached.
        trained_blocks: Number of the last blocks that are adapted: 0 for the head alone, None for all blocks.

    Returns:
        The division. None if nothing is frozen, or if the architecture cannot be divided.
    """
    if trained_blocks is None:
        return None
    model: Any = base.model
    wrapped = isinstance(model, MeanPoolClassifier | MaskedLanguageModel)
    if isinstance(model, SharedEncoder) or (base.head.generates and (base.is_encoder_decoder or not trained_blocks)):
        return None
    pad = int(model.config.pad_token_id)
    head = getattr(model, base.head_names[0]) if base.head_names else None
    if trained_blocks == 0 and head is not None and len(base.head_names) == 1 and _is_linear(head):
        token = base.head in (Head.TOKEN, Head.MASKED)
        # A decoder's head sees every position, and the model picks the last real one afterwards.
        last_token = not token and base.head_names[0] == "score"
        return HeadSplit(model, head, last_token, pad)
    if base.family not in _FAMILIES:
        return None
    body = model.encoder if wrapped else getattr(model, model.base_model_prefix)
    stacks = block_stacks(body)
    if len(stacks) != 1:
        return None
    path, stack = next(iter(stacks.items()))
    if path not in _EMBEDDINGS or trained_blocks >= len(stack):
        return None
    return BlockSplit(model, body, path, _EMBEDDINGS[path], len(stack) - trained_blocks, pad)


@dataclass(frozen=True)
class FrozenFeatures:
    """The output of a model's frozen part for every example of a set: float32, on the CPU, without padding.

    Attributes:
        values: (sum of tokens, H), example after example. (N, H) if one vector represents an example.
        offsets: (N + 1,) index in `values` of the first row of each example.
        pooled: Whether one vector represents an example.
    """

    values: Tensor
    offsets: NDArray[np.int64]
    pooled: bool

    @classmethod
    def compute(cls, part: BlockSplit | HeadSplit, data: TokenizedSet, base: LoadedBase, max_batch_tokens: int) -> Self:
        """Compute the features of `data` in blocks of fixed shape, so that they depend on no other example.

        The model must be in evaluation mode.

        Args:
            part: The divided model.
            data: N examples. Their labels play no part.
            base: The model that `part` belongs to.
            max_batch_tokens: Bound on the tokens of a block.
        """
        lengths = data.lengths
        # Labels have no part in the features, and would split the blocks.
        texts = replace(data, labels=None)
        rows: dict[int, Tensor] = {}
        pooled = False
        for block in fixed_blocks(
            texts, np.arange(len(data)), base.max_tokens, max_batch_tokens, one_size=base.needs_one_size
        ):
            with FewRows():
                hidden = part.frozen_output(block_batch(texts, block, base.device)).to("cpu", torch.float32)
            pooled = hidden.ndim == 2
            for row, index in enumerate(block.rows):
                # A copy: a view would keep the padded batch alive.
                rows[int(index)] = hidden[row : row + 1] if pooled else hidden[row, : lengths[index]].clone()
        sizes = np.ones_like(lengths) if pooled else lengths
        values = torch.cat([rows[index] for index in range(len(data))]) if rows else torch.zeros(0, 1)
        return cls(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), pooled)

    @classmethod
    def of(cls, parts: "Sequence[tuple[FrozenFeatures, NDArray[np.int64]]]") -> Self:
        """Return the features of examples of several sets, in the order of the parts.

        Args:
            parts: One or more sets of one model, and indices of examples of each.
        """
        examples = [example for features, rows in parts for example in features._parts(rows)]
        offsets = np.cumsum([0, *(len(example) for example in examples)]).astype(np.int64)
        filled = next((features for features, _ in parts if len(features.offsets) > 1), parts[0][0])
        values = torch.cat(examples) if examples else filled.values[:0]
        return cls(values, offsets, filled.pooled)

    def part(self, start: int, end: int) -> Self:
        """Return the features of the examples from `start` to `end`, over the same memory."""
        offsets = self.offsets[start : end + 1]
        return replace(self, values=self.values[offsets[0] : offsets[-1]], offsets=offsets - offsets[0])

    def batch(self, data: TokenizedSet, indices: Sequence[int] | NDArray[np.int64], device: str = "cpu") -> Batch:
        """Return `data.batch(indices)` with `hidden` filled in."""
        batch = data.batch(indices, device)
        parts = self._parts(indices)
        hidden = torch.cat(parts) if self.pooled else nn.utils.rnn.pad_sequence(parts, batch_first=True)
        return replace(batch, hidden=hidden.to(device))

    def block_batch(self, data: TokenizedSet, block: Block, device: str = "cpu") -> Batch:
        """Return `common.tokenization.blocks.block_batch` with `hidden` filled in. Padding and dummies are zeros."""
        width = self.values.shape[1]
        hidden = self.values.new_zeros((block.size, width) if self.pooled else (block.size, block.tokens, width))
        for place, part in enumerate(self._parts(block.rows)):
            if self.pooled:
                hidden[place] = part[0]
            else:
                hidden[place, : len(part)] = part
        return replace(block_batch(data, block, device), hidden=hidden.to(device))

    def _parts(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Tensor]:
        return [self.values[self.offsets[index] : self.offsets[index + 1]] for index in indices]


def _is_linear(head: nn.Module) -> bool:
    inner = getattr(head, "original_module", head)  # PEFT's wrapper of a trained head
    return isinstance(inner, nn.Linear)
