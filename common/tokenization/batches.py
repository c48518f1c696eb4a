"""Tokenised examples, unpadded, and the padded batches made from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.data.datasets import Dataset, Example, ResponseExample, TokenExample

__all__ = [
    "IGNORED",
    "SUMMARY_TOKENS",
    "Batch",
    "TokenizedSet",
    "joined",
    "minibatches",
    "token_batches",
    "tokenize_dataset",
    "tokenize_summaries",
    "tokenize_texts",
    "tokenize_words",
    "with_owners",
]

IGNORED = -100
"""Label of a token that does not count: padding, special tokens, and all but the first piece of a word."""

SUMMARY_TOKENS = 128
"""The longest summary that is learned from, and written."""

_PLAIN_SENTENCE = "net sales of the bank rose in the third quarter"

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Padded to the longest of its examples, on one device.

    Attributes:
        input_ids: (B, T), padded on the right.
        attention_mask: (B, T), 1 at real tokens.
        labels: (B,) of a sequence task, (B, T) with IGNORED of a token task or a summary, or None.
        hidden: output of the model's frozen part for these examples, or None. (B, T, H), or (B, H) if pooled.
        chosen: (B, T) true at the tokens that a masked language model scores. None scores those with a label.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None = None
    hidden: Tensor | None = None
    chosen: Tensor | None = None

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


@dataclass(frozen=True)
class TokenizedSet:
    """Examples as token ids.

    Attributes:
        input_ids: one array an example, special tokens included.
        labels: one array an example, of shape () for a sequence task, as long as its ids for a token task, and of its
            own length for a summary. None if there are no labels.
        pad_id: the id of the padding token.
        owners: (N,) the customer of each example, counted from 0. None if examples carry no customer.
    """

    input_ids: tuple[IntArray, ...]
    labels: tuple[IntArray, ...] | None
    pad_id: int
    owners: IntArray | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def customers(self) -> int | None:
        """Return the number of customers, or None if examples carry none."""
        return None if self.owners is None else len(np.unique(self.owners))

    @property
    def lengths(self) -> IntArray:
        """(N,) tokens of each example."""
        return np.array([ids.size for ids in self.input_ids], dtype=np.int64)

    def batch(self, indices: Sequence[int] | IntArray, device: str | torch.device = "cpu") -> Batch:
        """Return the examples at `indices`, in that order, as one padded batch."""
        ids = [self.input_ids[index] for index in indices]
        padded = _pad(ids, self.pad_id)
        lengths = np.array([row.size for row in ids])
        mask = (np.arange(padded.shape[1]) < lengths[:, None]).astype(np.int64)
        labels = None
        if self.labels is not None:
            chosen = [self.labels[index] for index in indices]
            array = _pad(chosen, IGNORED) if chosen[0].ndim else np.stack(chosen)
            labels = torch.from_numpy(array).to(device)
        return Batch(torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device), labels)


def joined(parts: Sequence[tuple[TokenizedSet, IntArray]]) -> TokenizedSet:
    """Return examples of several sets as one set without owners, in the order of the parts.

    Args:
        parts: One or more sets of one tokenizer, all with labels or all without, and indices of examples of each.
    """
    ids = tuple(data.input_ids[row] for data, rows in parts for row in rows)
    with_labels = all(data.labels is not None for data, _ in parts)
    labels = tuple(data.labels[row] for data, rows in parts if data.labels is not None for row in rows)
    return TokenizedSet(ids, labels if with_labels else None, parts[0][0].pad_id)


def _pad(rows: Sequence[IntArray], value: int) -> IntArray:
    padded = np.full((len(rows), max(row.size for row in rows)), value, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: row.size] = row
    return padded


def token_batches(lengths: IntArray, indices: IntArray, max_batch_tokens: int) -> list[IntArray]:
    """Split `indices` into batches of like length.

    Every index is in exactly one batch. The longest examples come first, so that a batch that does not fit in memory
    is met at once.

    Args:
        lengths: (N,) tokens of each example.
        indices: (n,) indices of the examples to split.
        max_batch_tokens: Tokens of a padded batch at most. A longer example is a batch of its own.
    """
    order = indices[np.argsort(-lengths[indices], kind="stable")]
    batches: list[IntArray] = []
    start = 0
    while start < order.size:
        rows = max(1, max_batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def tokenize_texts(
    tokenizer: Any, texts: Sequence[str], max_tokens: int, labels: Sequence[int] | None = None
) -> TokenizedSet:
    """Return the ids of texts.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The N texts.
        max_tokens: Length at which ids are cut, special tokens included.
        labels: (N,) number of each text's label. None if there are no labels.
    """
    rows = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"] if texts else []
    ids = tuple(np.array(row, dtype=np.int64) for row in rows)
    targets = None if labels is None else tuple(np.array(label, dtype=np.int64) for label in labels)
    return TokenizedSet(ids, targets, tokenizer.pad_token_id)


def tokenize_words(
    tokenizer: Any, sentences: Sequence[Sequence[str]], max_tokens: int, labels: Sequence[Sequence[int]] | None = None
) -> TokenizedSet:
    """Return the ids of sentences that are split into words. The label of a word is at its first token.

    The ids are those of the sentence as a text. A tokenizer that keeps the space before a word gets this space.

    Args:
        tokenizer: The base model's tokenizer.
        sentences: The words of each sentence.
        max_tokens: Length at which ids are cut, special tokens included.
        labels: One label for each word. None labels each word by its own position, so that predictions can be put
            back on words.
    """
    spaced = _keeps_spaces(tokenizer)
    ids: list[IntArray] = []
    targets: list[IntArray] = []
    for index, words in enumerate(sentences):
        written = _with_spaces(words) if spaced else list(words)
        row = tokenizer(written, is_split_into_words=True, truncation=True, max_length=max_tokens)
        of_word = range(len(words)) if labels is None else labels[index]
        target = np.full(len(row["input_ids"]), IGNORED, dtype=np.int64)
        previous = None
        for position, word in enumerate(row.word_ids()):
            if word is not None and word != previous:
                target[position] = of_word[word]
            previous = word
        ids.append(np.array(row["input_ids"], dtype=np.int64))
        targets.append(target)
    return TokenizedSet(tuple(ids), tuple(targets), tokenizer.pad_token_id)


def _keeps_spaces(tokenizer: Any) -> bool:
    """Whether words must be given with the space before them to become the tokens of their sentence.

    So it is for byte-level BPE (RoBERTa, Llama 3, Qwen). SentencePiece marks the beginning of each word by itself.
    """
    words = _PLAIN_SENTENCE.split()
    whole = tokenizer(_PLAIN_SENTENCE, add_special_tokens=False)["input_ids"]
    bare, spaced = (
        tokenizer(written, is_split_into_words=True, add_special_tokens=False)["input_ids"]
        for written in (words, _with_spaces(words))
    )
    return _likeness(spaced, whole) > _likeness(bare, whole)


def _likeness(left: Sequence[int], right: Sequence[int]) -> float:
    return SequenceMatcher(None, left, right, autojunk=False).ratio()


def _with_spaces(words: Sequence[str]) -> list[str]:
    return [word if position == 0 else f" {word}" for position, word in enumerate(words)]


def tokenize_summaries(tokenizer: Any, texts: Sequence[str], summaries: Sequence[str], max_tokens: int) -> TokenizedSet:
    """Return the ids of texts, with the ids of each text's summary as its labels.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The N texts.
        summaries: The N summaries, cut at `SUMMARY_TOKENS` tokens.
        max_tokens: Length at which the ids of a text are cut.
    """
    written = tokenizer(text_target=list(summaries), truncation=True, max_length=SUMMARY_TOKENS)["input_ids"]
    read = tokenize_texts(tokenizer, texts, max_tokens)
    return TokenizedSet(read.input_ids, tuple(np.array(row, dtype=np.int64) for row in written), read.pad_id)


def tokenize_dataset(tokenizer: Any, dataset: Dataset, max_tokens: int) -> TokenizedSet:
    """Return the ids and labels of a data set in its order, with the customers if every example carries one.

    Args:
        tokenizer: The base model's tokenizer.
        dataset: The examples.
        max_tokens: Length at which ids are cut, special tokens included.
    """
    sentences = [example for example in dataset.examples if isinstance(example, TokenExample)]
    pairs = [example for example in dataset.examples if isinstance(example, ResponseExample)]
    if sentences:
        words, tags = [s.words for s in sentences], [s.labels for s in sentences]
        tokens = tokenize_words(tokenizer, words, max_tokens, tags)
    elif pairs:
        tokens = tokenize_summaries(tokenizer, [e.prompt for e in pairs], [e.response for e in pairs], max_tokens)
    else:
        examples = [example for example in dataset.examples if isinstance(example, Example)]
        tokens = tokenize_texts(tokenizer, [e.text for e in examples], max_tokens, [e.label for e in examples])
    return with_owners(tokens, dataset)


def with_owners(tokens: TokenizedSet, dataset: Dataset) -> TokenizedSet:
    """Return the tokens of a data set with its customers, if every example carries one."""
    customers = [example.customer for example in dataset.examples]
    if not customers or None in customers:
        return tokens
    first = {customer: number for number, customer in enumerate(dict.fromkeys(customers))}
    return replace(tokens, owners=np.array([first[customer] for customer in customers], dtype=np.int64))


def minibatches(examples: int, size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each minibatch: all examples in random order, again and again.

    Args:
        examples: Number of examples.
        size: Rows of a minibatch.
        steps: Number of minibatches.
        seed: Of the order.
    """
    generator = np.random.default_rng(seed)
    waiting = np.zeros(0, dtype=np.int64)
    for _ in range(steps):
        if len(waiting) < size:
            waiting = np.concatenate([waiting, generator.permutation(examples)])
        yield waiting[:size]
        waiting = waiting[size:]
