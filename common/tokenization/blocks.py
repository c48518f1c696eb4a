"""Blocks of fixed shape, so that no example's result depends on the examples computed beside it.

A matrix product over a batch gives each row the same bits whatever the other rows hold, as long as the shape of the
batch does not change. So the shape that an example is computed in follows from the example alone: the padded length
follows from its own length, and blocks have one of two fixed numbers of rows. Missing rows are filled with dummies.
That both numbers of rows, and all places in a block, give equal bits is a property of the machine's libraries.
`client.dp.gradient_check` verifies it before every private training. Between 2 and 15 rows they change their method,
and the bits of the last row can differ. Blocks have 8 rows or more, of 8 tokens or more each, or a single one. A layer
over one vector an example gets more rows (`common.adapters.few_rows`). In bfloat16 the method also changes with the
number of rows, so all blocks of one length then have the same number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.tokenization.batches import IGNORED, Batch, TokenizedSet

__all__ = ["POOLED_SIZES", "Block", "block_batch", "fixed_blocks", "padded_length", "pooled_blocks", "sizes"]

IntArray = NDArray[np.int64]

_MULTIPLE = 8  # tokens; padded lengths are multiples of it, of more for longer texts
_BLOCK_TOKENS = 1024  # of a large block; with fewer, most time would pass between the matrix products
_LONGEST = 128  # tokens of an example; longer ones are computed one by one
_MOST_ROWS, _FEW_ROWS, _ONLY_ROWS = 64, 8, 16  # the last if all blocks have the same number

POOLED_SIZES = (256, 32)
"""Rows of the two kinds of blocks if one vector stands for an example."""


@dataclass(frozen=True)
class Block:
    """Some examples and the shape in which they are computed.

    Attributes:
        rows: (n,) indices of the examples.
        size: rows of the block, dummies included, n or more.
        tokens: padded length.
        labels: padded length of the labels if each has a length of its own, else 0.
        chosen: tokens of each row that a masked language model scores, else 0.
        padded: whether every row ends with padding. Only examples as long as the model can read do not. Attention skips
            its mask if no row of a batch has padding, and the mask changes the last bits of a result. So such examples
            never share a block with padded ones.
    """

    rows: IntArray
    size: int
    tokens: int
    labels: int = 0
    chosen: int = 0
    padded: bool = True


def sizes(tokens: int, max_batch_tokens: int, one_size: bool = False) -> tuple[int, int]:
    """Return the two numbers of rows of blocks `tokens` long, within `max_batch_tokens` if one row is.

    Args:
        one_size: whether both are the same. See `common.base_models.load.LoadedBase.needs_one_size`.
    """
    fewest = _ONLY_ROWS if one_size else _FEW_ROWS
    if tokens > _LONGEST or fewest * tokens > max_batch_tokens:
        return 1, 1
    if one_size:
        return _ONLY_ROWS, _ONLY_ROWS
    large = min(_MOST_ROWS, _power(min(_BLOCK_TOKENS, max_batch_tokens) // tokens))
    return max(large, _FEW_ROWS), _FEW_ROWS


def padded_length(length: int, limit: int) -> int:
    """Return the length to which an example of `length` tokens is padded.

    The next multiple of 8 above `length`, of a quarter of the last power of two for texts of 64 tokens or more, or
    `limit` if that is less. At least one token of padding, unless the example fills the model.
    """
    step = max(_MULTIPLE, _power(length) // 4)
    return max(length, min((length // step + 1) * step, limit))


def fixed_blocks(
    data: TokenizedSet,
    rows: IntArray,
    limit: int,
    max_batch_tokens: int,
    masked: bool = False,
    one_size: bool = False,
) -> list[Block]:
    """Put the examples `rows` into blocks of fixed shape.

    Longest first, so that a shape that does not fit in memory is met at once. Examples of equal shape keep their order.

    Args:
        limit: tokens that the model can read, to which an example is padded at most.
        max_batch_tokens: bound on the tokens of a block, unless one example exceeds it.
        masked: whether the model scores the labelled tokens alone. Their number is then part of the shape.
        one_size: see `sizes`.
    """
    classes: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        ids = data.input_ids[row]
        tokens = padded_length(ids.size, limit)
        label = None if data.labels is None else data.labels[row]
        own = 0 if label is None or label.ndim == 0 or label.size == ids.size else _up(label.size)
        chosen = 0 if label is None or not masked else _up(int((label != IGNORED).sum()), 4)
        classes.setdefault((tokens, own, min(chosen, tokens), int(ids.size < tokens)), []).append(int(row))
    blocks: list[Block] = []
    for (tokens, own, chosen, padded), members in sorted(classes.items(), reverse=True):
        for part, size in _cut(np.array(members, dtype=np.int64), sizes(tokens, max_batch_tokens, one_size)):
            blocks.append(Block(part, size, tokens, own, chosen, bool(padded)))
    return blocks


def pooled_blocks(rows: IntArray) -> list[Block]:
    """Put the examples `rows`, each of which is one vector, into blocks of a fixed number of rows."""
    return [Block(part, size, 1) for part, size in _cut(rows, POOLED_SIZES)]


def block_batch(data: TokenizedSet, block: Block, device: str | torch.device = "cpu") -> Batch:
    """Return the examples of `block` as a batch of its shape. Dummies come last, and their losses must be dropped.

    Args:
        data: The examples.
        block: Shape of the batch, and its examples.
        device: Device of the tensors.
    """
    ids = np.full((block.size, block.tokens), data.pad_id, dtype=np.int64)
    mask = np.zeros((block.size, block.tokens), dtype=np.int64)
    mask[len(block.rows) :, : 1 if block.padded else None] = 1
    for place, row in enumerate(block.rows):
        own_ids = data.input_ids[row][: block.tokens]
        ids[place, : own_ids.size] = own_ids
        mask[place, : own_ids.size] = 1
    if data.labels is None:
        return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
    own = [data.labels[row] for row in block.rows]
    labels = np.zeros(block.size, dtype=np.int64)
    if own and own[0].ndim:
        labels = np.full((block.size, block.labels or block.tokens), IGNORED, dtype=np.int64)
    for place, label in enumerate(own):
        labels[place, ...] = _filled(label, labels[place])
    chosen = torch.from_numpy(_chosen(labels, block.chosen)).to(device) if block.chosen else None
    tensors = [torch.from_numpy(part).to(device) for part in (ids, mask, labels)]
    return Batch(tensors[0], tensors[1], tensors[2], chosen=chosen)


def _filled(label: IntArray, target: IntArray) -> IntArray:
    if label.ndim == 0:
        return label
    filled = np.full(target.shape, IGNORED, dtype=np.int64)
    filled[: label.size] = label
    return filled


def _chosen(labels: IntArray, count: int) -> NDArray[np.bool_]:
    """(B, T) the labelled tokens of each row, and its first others until there are `count`."""
    chosen: NDArray[np.bool_] = labels != IGNORED
    for row in chosen:
        row[np.flatnonzero(~row)[: count - int(row.sum())]] = True
    return chosen


def _cut(rows: IntArray, numbers: tuple[int, int]) -> list[tuple[IntArray, int]]:
    """`rows` in large blocks, and the rest in small ones unless a large one has fewer rows than these."""
    large, small = numbers
    whole = len(rows) // large * large
    parts = [(part, large) for part in np.split(rows[:whole], whole // large)] if whole else []
    rest: Sequence[IntArray] = (
        np.split(rows[whole:], range(small, len(rows) - whole, small)) if whole < len(rows) else ()
    )
    if len(rest) * small >= large:
        return [*parts, (rows[whole:], large)]
    return [*parts, *((part, small) for part in rest)]


def _up(number: int, multiple: int = _MULTIPLE) -> int:
    return -(-max(1, number) // multiple) * multiple


def _power(number: int) -> int:
    """The largest power of two up to `number`, 1 at least."""
    return 1 << (max(1, number).bit_length() - 1)
