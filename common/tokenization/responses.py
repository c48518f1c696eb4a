"""Prompts and responses as ids of a decoder: the chat template, the response's tokens, and the token that ends a turn.

Only the response is learned. A row that is too long keeps its response, and loses the middle of its prompt.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.data.datasets import Dataset, ResponseExample, Turn
from common.errors import ModelError
from common.tokenization.batches import IGNORED, IntArray, TokenizedSet

__all__ = [
    "PLAIN_TEMPLATE",
    "answered_rows",
    "cut_prompts",
    "end_of_turn",
    "prompt_ids",
    "response_rows",
    "settle_template",
    "uncut_lengths",
]

log = logging.getLogger(__name__)

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Response:\\n' }}{% endif %}"
)
"""The template for a tokenizer that has none: each text, then "Response:" and the response on a line of its own."""

_LARGEST_SHARE = 0.75
"""Of the tokens of a row, the share that a response takes at most. The rest is the prompt's."""

_PROBE: Sequence[Turn] = (("user", "a"),)


def settle_template(tokenizer: Any) -> None:
    """Give a tokenizer without a chat template the plain one."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def _render(tokenizer: Any, turns: Sequence[Turn]) -> str:
    """Return a prompt in the template, up to the place where the response begins."""
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _takes_system_turns(tokenizer: Any) -> bool:
    """Whether the template has a place for a system turn. Some refuse it, and some leave it out in silence."""
    mark = "\N{ASTERISM}"
    try:
        return mark in _render(tokenizer, (("system", mark), *_PROBE))
    except Exception:  # a template raises its own errors
        return False


def _placed(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Return the turns with the text of the system at the beginning of the user's first turn."""
    if turns[0][0] != "system":
        return turns
    return (("user", f"{turns[0][1]}\n\n{turns[1][1]}"), *turns[2:])


def prompt_ids(tokenizer: Any, prompts: Sequence[Sequence[Turn]], name: str = "base model") -> list[IntArray]:
    """Return the ids of prompts in the tokenizer's chat template, uncut.

    Args:
        tokenizer: The base model's tokenizer. It must have a template, see `settle_template`.
        prompts: The turns of each prompt, the last one of the user.
        name: The base model's name for messages.

    Raises:
        ModelError: The template cannot be used, or leaves nothing of a prompt.
    """
    if not prompts:
        return []
    if any(turns[0][0] == "system" for turns in prompts) and not _takes_system_turns(tokenizer):
        prompts = [_placed(turns) for turns in prompts]
    try:
        texts = [_render(tokenizer, turns) for turns in prompts]
    except Exception as error:  # a template raises its own errors, and their text may quote a row
        raise ModelError(
            f"base model {name}: its chat template fails on turns of user and assistant: save its tokenizer with "
            "another chat_template"
        ) from error
    rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    if not all(rows):  # the first token of a response is predicted from the last one of its prompt
        raise ModelError(
            f"base model {name}: its chat template leaves nothing of a prompt: save its tokenizer with another "
            "chat_template"
        )
    return [np.array(row, dtype=np.int64) for row in rows]


def cut_prompts(prompts: Sequence[IntArray], max_tokens: int) -> list[IntArray]:
    """Return prompts without the middle of those that are longer than `max_tokens`. A warning counts these."""
    if lost := sum(ids.size > max_tokens for ids in prompts):
        log.warning("%d of %d prompts lost their middle, since only %d tokens are read", lost, len(prompts), max_tokens)
    return [_without_middle(ids, max_tokens) for ids in prompts]


def end_of_turn(tokenizer: Any) -> int:
    """Return the id of the token that ends a response: the template's own, or otherwise the tokenizer's end token."""
    mark = "\N{ASTERISM}"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    try:
        after = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(mark)[2]
    except Exception:  # as above; a template that fails is refused where prompts are made
        after = ""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special |= set(tokenizer.all_special_ids)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after.strip() else []
    return next((int(token) for token in ids if token in special), int(tokenizer.eos_token_id))


def response_rows(tokenizer: Any, dataset: Dataset, max_tokens: int, name: str = "base model") -> TokenizedSet:
    """Return prompts and responses as rows of at most `max_tokens` ids, see `answered_rows`.

    A row that is too long loses the middle of its prompt, and its response is kept whole. Only a response that is
    longer than three quarters of `max_tokens` is cut there, and then nothing ends it. A warning counts such rows.

    Raises:
        ModelError: See `prompt_ids`.
    """
    if tokenizer.chat_template == PLAIN_TEMPLATE:
        _warn_once(f"base model {name}: its tokenizer has no chat template: prompts are written in fedfin's plain one")
    pairs = [example for example in dataset.examples if isinstance(example, ResponseExample)]
    prompts = prompt_ids(tokenizer, [example.turns for example in pairs], name)
    given = [example.response for example in pairs]
    written = tokenizer(given, add_special_tokens=False, verbose=False)["input_ids"] if given else []
    end, most = end_of_turn(tokenizer), max(1, int(_LARGEST_SHARE * max_tokens))
    answers = [np.array([*ids, end], dtype=np.int64) for ids in written]
    rooms = [max_tokens - min(answer.size, most) for answer in answers]
    lost = [
        prompt.size > room or answer.size > most for prompt, answer, room in zip(prompts, answers, rooms, strict=True)
    ]
    if any(lost):
        _warn_once(
            f"{dataset.name}: {sum(lost):,} of {len(pairs):,} rows lost text: the middle of a prompt is cut so that "
            f"the row has {max_tokens} tokens (max_tokens)"
        )
    cut = [_without_middle(prompt, room) for prompt, room in zip(prompts, rooms, strict=True)]
    return answered_rows(cut, [answer[:most] for answer in answers], tokenizer.pad_token_id)


def uncut_lengths(tokenizer: Any, dataset: Dataset) -> list[int]:
    """Return the tokens of each whole row, with its template and its response.

    Raises:
        ModelError: See `prompt_ids`.
    """
    settle_template(tokenizer)
    pairs = [example for example in dataset.examples if isinstance(example, ResponseExample)]
    prompts = prompt_ids(tokenizer, [example.turns for example in pairs])
    written = tokenizer([example.response for example in pairs], add_special_tokens=False, verbose=False)["input_ids"]
    return [prompt.size + len(ids) + 1 for prompt, ids in zip(prompts, written, strict=True)]


def _without_middle(ids: IntArray, room: int) -> IntArray:
    """Return the first and the last ids, `room` in all. The last ones, where the response begins, are the larger part.

    >>> _without_middle(np.arange(10), 5).tolist()
    [0, 1, 7, 8, 9]
    """
    if ids.size <= room:
        return ids
    first = room // 2
    return np.concatenate([ids[:first], ids[ids.size - (room - first) :]])


def answered_rows(prompts: Sequence[IntArray], answers: Sequence[IntArray], pad_id: int) -> TokenizedSet:
    """Return each prompt and its response as one row of ids. Only the response is learned.

    Args:
        prompts: The ids of N prompts.
        answers: The ids of N responses, with the token that ends each.
        pad_id: The id of the padding token.

    Returns:
        The N rows. Labels are those of the *next* token: `labels[t]` is `input_ids[t + 1]` if that token belongs to the
        response or ends it, otherwise IGNORED. So they go with a decoder's logits as a token task's labels do.
    """
    ids, labels = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        row = np.concatenate([prompt, answer])
        target = np.full(row.size, IGNORED, dtype=np.int64)
        target[prompt.size - 1 : -1] = answer
        ids.append(row)
        labels.append(target)
    return TokenizedSet(tuple(ids), tuple(labels), pad_id)
