"""The shape in which an example is computed follows from the example, and from nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.tokenization.batches import IGNORED, TokenizedSet
from common.tokenization.blocks import Block, block_batch, fixed_blocks, padded_length, pooled_blocks, sizes


def texts(lengths: list[int], labels: str = "text") -> TokenizedSet:
    ids = tuple(np.arange(1, length + 1, dtype=np.int64) for length in lengths)
    if labels == "none":
        return TokenizedSet(ids, None, 0)
    if labels == "words":
        return TokenizedSet(ids, tuple(row % 3 for row in ids), 0)
    return TokenizedSet(ids, tuple(np.array(row.size % 3) for row in ids), 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 70), max_size=80), st.sampled_from([16, 64, 512, 4096]), st.integers(8, 64))
def test_an_examples_shape_follows_from_the_example_alone(lengths: list[int], budget: int, limit: int) -> None:
    data = texts([min(length, limit) for length in lengths])
    blocks = fixed_blocks(data, np.arange(len(data)), limit, budget)
    assert sorted(int(row) for block in blocks for row in block.rows) == list(range(len(data)))
    for block in blocks:
        assert block.size in sizes(block.tokens, budget)
        assert 0 < len(block.rows) <= block.size
        for row in block.rows:
            assert block.tokens == padded_length(data.input_ids[row].size, limit)
            assert block.padded is (data.input_ids[row].size < block.tokens)
        assert np.array_equal(block.rows, np.sort(block.rows))  # a customer's examples keep their order


@pytest.mark.parametrize("limit", [1, 7, 64, 100, 512])
def test_every_example_ends_with_padding_unless_it_fills_the_model(limit: int) -> None:
    for length in range(1, limit + 1):
        tokens = padded_length(length, limit)
        assert length < tokens <= limit or length == limit == tokens
        assert tokens <= max(8, 1.5 * length + 8)


@pytest.mark.parametrize("tokens", [8, 24, 64, 128, 512, 4096])
@pytest.mark.parametrize("budget", [1, 60, 1024, 4096])
def test_blocks_stay_within_the_budget_and_both_numbers_of_rows_are_equal_or_large(tokens: int, budget: int) -> None:
    large, small = sizes(tokens, budget)
    assert large * tokens <= budget or large == 1
    assert (large, small) == (1, 1) or (large >= 8 and small == 8)


@pytest.mark.parametrize("count", [1, 16, 17, 100])
def test_all_blocks_of_one_length_have_the_same_number_of_rows_if_asked(count: int) -> None:
    """In bfloat16 the bits of a row change with the number of rows."""
    blocks = fixed_blocks(texts([7] * count), np.arange(count), 64, 4096, one_size=True)
    assert {block.size for block in blocks} == {16}
    assert sorted(int(row) for block in blocks for row in block.rows) == list(range(count))


@pytest.mark.parametrize("labels", ["none", "text", "words"])
@pytest.mark.parametrize("lengths", [[5, 3, 7], [16, 16], [9, 16]])
def test_the_batch_of_a_block_holds_its_examples_and_dummies(lengths: list[int], labels: str) -> None:
    data = texts(lengths, labels)
    for block in fixed_blocks(data, np.arange(len(data)), 16, 4096):
        batch = block_batch(data, block)
        assert batch.input_ids.shape == batch.attention_mask.shape == (block.size, block.tokens)
        assert bool((batch.attention_mask.sum(1) > 0).all())  # attention over nothing would be NaN
        assert bool((batch.attention_mask == 0).any(1).all()) is block.padded
        for place, row in enumerate(block.rows):
            size = data.input_ids[row].size
            assert batch.input_ids[place, :size].tolist() == data.input_ids[row].tolist()
            assert batch.attention_mask[place].tolist() == [1] * size + [0] * (block.tokens - size)
            if labels == "words":
                assert batch.labels is not None
                assert batch.labels[place].tolist() == [*(data.labels or ())[row], *[IGNORED] * (block.tokens - size)]
        if labels == "words" and batch.labels is not None:
            assert bool((batch.labels[len(block.rows) :] == IGNORED).all())


def test_a_masked_models_scored_tokens_are_as_many_in_every_row_of_a_block() -> None:
    ids = tuple(np.arange(1, 11, dtype=np.int64) for _ in range(3))
    labels = [np.full(10, IGNORED, dtype=np.int64) for _ in range(3)]
    for label, places in zip(labels, ([1], [2, 3], [0, 1, 2, 3, 4]), strict=True):
        label[places] = 7
    data = TokenizedSet(ids, tuple(labels), 0)
    blocks = fixed_blocks(data, np.arange(3), 64, 4096, masked=True)
    assert [sorted(block.rows.tolist()) for block in blocks] == [[2], [0, 1]]
    for block in blocks:
        batch = block_batch(data, block)
        assert batch.chosen is not None
        assert batch.labels is not None
        assert batch.chosen.sum(1).tolist() == [block.chosen] * block.size
        assert bool(batch.chosen[batch.labels != IGNORED].all())


def test_blocks_of_single_vectors_have_two_numbers_of_rows() -> None:
    blocks = pooled_blocks(np.arange(600))
    assert [(len(block.rows), block.size) for block in blocks[:3]] == [(256, 256), (256, 256), (32, 32)]
    assert sum(len(block.rows) for block in blocks) == 600
    assert pooled_blocks(np.arange(0)) == []
    assert isinstance(blocks[0], Block)
    assert torch.tensor(blocks[-1].rows).max() == 599
