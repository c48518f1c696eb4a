"""Long texts as several texts that a model can read whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from common.data.datasets import AnyExample, Dataset, Example

__all__ = ["in_windows"]

_TEXTS_AT_ONCE = 256

Offsets = Sequence[tuple[int, int]]
"""First character of each token, and the character after its last one."""


def in_windows(dataset: Dataset, tokenizer: Any, max_tokens: int) -> Dataset:
    """Return the data set with each long text cut into as many texts as it takes to read all of it.

    Cuts lie between words. Only a word that is longer than a window is cut inside. Texts that fit stay as they are, and
    so do sentences of words and texts with summaries.

    Args:
        dataset: Texts of any length.
        tokenizer: A fast tokenizer. Others do not say where their tokens lie.
        max_tokens: Most tokens of a text, special tokens included.
    """
    room = max_tokens - tokenizer.num_special_tokens_to_add()
    examples: list[AnyExample] = []
    for start in range(0, len(dataset), _TEXTS_AT_ONCE):
        part = dataset.examples[start : start + _TEXTS_AT_ONCE]
        texts = [example.text if isinstance(example, Example) else "" for example in part]
        for example, windows in zip(part, _windows(texts, tokenizer, room), strict=True):
            if isinstance(example, Example):
                examples += [replace(example, text=text) for text in windows]
            else:
                examples.append(example)
    return replace(dataset, examples=tuple(examples))


def _windows(texts: Sequence[str], tokenizer: Any, room: int) -> Iterator[list[str]]:
    rows = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for text, offsets in zip(texts, rows["offset_mapping"], strict=True):
        parts = [text] if len(offsets) <= room else _cut(text, offsets, room)
        if len(parts) > 1:
            # The first word of a window may take more tokens than it took within its text.
            parts = [smaller for part in _windows(parts, tokenizer, room) for smaller in part]
        yield parts


def _cut(text: str, offsets: Offsets, room: int) -> list[str]:
    """Cut a text after each `room` tokens, or at the last blank before."""
    parts: list[str] = []
    first = 0
    while first < len(offsets):
        last = min(first + room, len(offsets))
        if last < len(offsets):
            last = next((token for token in range(last, first, -1) if _begins_word(text, offsets, token)), last)
        end = offsets[last][0] if last < len(offsets) else len(text)
        parts.append(text[offsets[first][0] : end].strip())
        first = last
    return [part for part in parts if part]


def _begins_word(text: str, offsets: Offsets, token: int) -> bool:
    start = offsets[token][0]
    return text[start : start + 1].isspace() or text[start - 1 : start].isspace()
