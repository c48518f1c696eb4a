"""Batches hold every example once, padded, with labels on the right tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data.datasets import Dataset, Example, TokenExample
from common.tokenization.batches import (
    IGNORED,
    token_batches,
    tokenize_dataset,
    tokenize_texts,
    tokenize_words,
)
from tests.tiny_models import TOKENIZERS, tiny_tokenizer


@given(st.lists(st.integers(1, 40), min_size=0, max_size=60), st.integers(1, 200), st.data())
def test_token_batches_partition_the_indices_within_the_budget(
    lengths: list[int], budget: int, data: st.DataObject
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    chosen = data.draw(st.lists(st.sampled_from(range(len(lengths))), unique=True)) if lengths else []
    batches = token_batches(sizes, np.array(chosen, dtype=np.int64), budget)
    assert sorted(int(index) for batch in batches for index in batch) == sorted(chosen)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= budget
    ordered = [int(sizes[index]) for batch in batches for index in batch]
    assert ordered == sorted(ordered, reverse=True)


def test_examples_know_their_customer_by_number_if_every_one_has_one() -> None:
    examples = [Example("profit rises", 0, "b"), Example("loss", 1, "a"), Example("bank", 0, "b")]
    tokens = tokenize_dataset(tiny_tokenizer(), Dataset(tuple(examples), ("x", "y"), "t"), 64)
    assert tokens.owners is not None
    assert tokens.owners.tolist() == [0, 1, 0]
    assert tokens.customers == 2
    some = Dataset((*examples, Example("sales", 1)), ("x", "y"), "t")
    assert tokenize_dataset(tiny_tokenizer(), some, 64).customers is None


def test_a_batch_is_padded_on_the_right_and_masked() -> None:
    tokens = tokenize_texts(tiny_tokenizer(), ["profit rises", "net loss of the bank"], 64, [2, 0])
    assert tokens.lengths.tolist() == [4, 7]
    batch = tokens.batch([1, 0, 1])
    assert batch.input_ids.shape == (3, 7)
    assert batch.attention_mask.sum(1).tolist() == [7, 4, 7]
    assert (batch.input_ids[1, 4:] == tokens.pad_id).all()
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 2, 0]
    assert len(batch) == 3
    assert tokenize_texts(tiny_tokenizer(), ["profit"], 64).batch([0]).labels is None
    assert len(tokenize_texts(tiny_tokenizer(), [], 64)) == 0


def test_long_texts_are_cut_with_their_special_tokens_kept() -> None:
    tokens = tokenize_texts(tiny_tokenizer(), ["profit " * 50], 8)
    assert tokens.lengths.tolist() == [8]
    assert (tokens.input_ids[0][0], tokens.input_ids[0][-1]) == (3, 4)


def test_only_the_first_piece_of_a_word_is_labelled() -> None:
    words = ("bank", "xyz", "rises")  # "xyz" is three pieces
    tokens = tokenize_words(tiny_tokenizer(), [words, ("profit",)], 64, [(1, 2, 0), (1,)])
    assert tokens.labels is not None
    assert tokens.labels[0].tolist() == [IGNORED, 1, 2, IGNORED, IGNORED, 0, IGNORED]
    batch = tokens.batch([0, 1])
    assert batch.labels is not None
    assert torch.equal(batch.labels[1], torch.tensor([IGNORED, 1, *[IGNORED] * 5]))
    positions = tokenize_words(tiny_tokenizer(), [words], 5).labels
    assert positions is not None
    assert positions[0].tolist() == [IGNORED, 0, 1, IGNORED, IGNORED]


def test_a_data_set_keeps_its_order_and_labels() -> None:
    texts = Dataset((Example("profit rises", 1), Example("loss", 0)), ("bad", "good"), "x")
    tokens = tokenize_dataset(tiny_tokenizer(), texts, 64)
    assert tokens.labels is not None
    assert [int(label) for label in tokens.labels] == [1, 0]
    sentences = Dataset((TokenExample(("bank", "rises"), (1, 0)),), ("O", "B-ORG"), "y")
    words = tokenize_dataset(tiny_tokenizer(), sentences, 64)
    assert words.labels is not None
    assert words.labels[0].tolist() == [IGNORED, 1, 0, IGNORED]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_words_of_a_sentence_become_the_tokens_of_the_sentence(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    words = ["net", "profit", "grew", "in", "the", "quarter", "of", "2024"]
    whole = tokenizer(" ".join(words))["input_ids"]
    rows = tokenize_words(tokenizer, [words], 64)
    assert rows.input_ids[0].tolist() == whole
    assert rows.labels is not None
    counted = [int(label) for label in rows.labels[0] if label != IGNORED]
    assert counted == list(range(len(words)))
