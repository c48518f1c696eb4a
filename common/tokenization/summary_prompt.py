"""How a decoder is asked for a summary: instruction, text, and the place where its answer begins."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.tokenization.batches import IGNORED, SUMMARY_TOKENS, IntArray, TokenizedSet

__all__ = ["INSTRUCTION", "instruction_prompts", "summary_prompts"]

INSTRUCTION = "Summarise this financial text in a few sentences:"

_TEXT = "\N{ASTERISM}"  # stands for the text while the tokenizer's template is laid around it


def summary_prompts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[IntArray]:
    """Return the ids of the question about each text.

    The frame around the text is the tokenizer's chat template, or a plain one if it has none. It is never cut.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The texts.
        max_tokens: Length at which the ids of a text are cut.
    """
    before, after = _frame(tokenizer)
    cut = tokenizer(list(texts), truncation=True, max_length=max_tokens, add_special_tokens=False)["input_ids"]
    return [np.array([*before, *ids, *after], dtype=np.int64) for ids in cut]


def instruction_prompts(
    tokenizer: Any, texts: Sequence[str], summaries: Sequence[str], max_tokens: int
) -> TokenizedSet:
    """Return question and answer as one row of ids. Only the answer is learned.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The N texts.
        summaries: The N answers, cut at `SUMMARY_TOKENS` tokens.
        max_tokens: Length at which the ids of a text are cut.

    Returns:
        The N rows. Labels are those of the *next* token: `labels[t]` is `input_ids[t + 1]` if that token belongs to the
        answer or ends it, otherwise IGNORED. So they go with a decoder's logits as a token task's labels do.
    """
    answers = tokenizer(list(summaries), truncation=True, max_length=SUMMARY_TOKENS - 1, add_special_tokens=False)[
        "input_ids"
    ]
    ids, labels = [], []
    for question, answer in zip(summary_prompts(tokenizer, texts, max_tokens), answers, strict=True):
        row = np.concatenate([question, np.array([*answer, tokenizer.eos_token_id], dtype=np.int64)])
        target = np.full(row.size, IGNORED, dtype=np.int64)
        target[question.size - 1 : -1] = row[question.size :]
        ids.append(row)
        labels.append(target)
    return TokenizedSet(tuple(ids), tuple(labels), tokenizer.pad_token_id)


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    content = f"{INSTRUCTION}\n\n{_TEXT}"
    if tokenizer.chat_template:
        message = [{"role": "user", "content": content}]
        laid = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    else:
        laid = f"{content}\n\nSummary:"
    before, after = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in str(laid).split(_TEXT, maxsplit=1)
    )
    return before, after
