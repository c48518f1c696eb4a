"""How a decoder is asked for a summary: instruction, text, and the place where its answer begins."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.tokenization.batches import SUMMARY_TOKENS, IntArray, TokenizedSet
from common.tokenization.responses import answered_rows, end_of_turn, settle_template

__all__ = ["INSTRUCTION", "instruction_prompts", "summary_prompts"]

INSTRUCTION = "Summarise this financial text in a few sentences:"

_TEXT = "\N{ASTERISM}"  # stands for the text while the tokenizer's template is laid around it


def summary_prompts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[IntArray]:
    """Return the ids of the question about each text.

    The frame around the text is the tokenizer's chat template, or the plain one if it has none. It is never cut.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The texts.
        max_tokens: Length at which the ids of a text are cut.
    """
    settle_template(tokenizer)
    message = [{"role": "user", "content": f"{INSTRUCTION}\n\n{_TEXT}"}]
    laid = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in laid.split(_TEXT, maxsplit=1))
    cut = tokenizer(list(texts), truncation=True, max_length=max_tokens, add_special_tokens=False)["input_ids"]
    return [np.array([*before, *ids, *after], dtype=np.int64) for ids in cut]


def instruction_prompts(
    tokenizer: Any, texts: Sequence[str], summaries: Sequence[str], max_tokens: int
) -> TokenizedSet:
    """Return question and answer as one row of ids, see `answered_rows`.

    Args:
        tokenizer: The base model's tokenizer.
        texts: The N texts.
        summaries: The N answers, cut at `SUMMARY_TOKENS` tokens.
        max_tokens: Length at which the ids of a text are cut.
    """
    prompts = summary_prompts(tokenizer, texts, max_tokens)
    written = tokenizer(list(summaries), truncation=True, max_length=SUMMARY_TOKENS - 1, add_special_tokens=False)
    end = end_of_turn(tokenizer)
    answers = [np.array([*ids, end], dtype=np.int64) for ids in written["input_ids"]]
    return answered_rows(prompts, answers, tokenizer.pad_token_id)
