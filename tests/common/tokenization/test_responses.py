"""Rows of prompts and responses: the chat template, what is learned, and what a row that is too long loses."""

import logging
from typing import Any

import numpy as np
import pytest

from common.data.datasets import Dataset, ResponseExample
from common.errors import ModelError
from common.tokenization.batches import IGNORED
from common.tokenization.responses import (
    PLAIN_TEMPLATE,
    cut_prompts,
    end_of_turn,
    prompt_ids,
    response_rows,
    settle_template,
    uncut_lengths,
)
from tests.tiny_models import TOKENIZERS, tiny_tokenizer

CHAT = (
    "{% for m in messages %}{{ m['role'][0] + ' ' + m['content'] + ' [MASK] ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a ' }}{% endif %}"
)
"""A turn begins with the letter of its role, and [MASK] ends it."""


def tokenizer_with(template: str | None = CHAT) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokenizer.chat_template = template
    return tokenizer


def rows_of(*examples: ResponseExample) -> Dataset:
    return Dataset(examples, (), "rows")


def test_only_the_response_and_the_end_of_its_turn_are_learned() -> None:
    tokenizer = tokenizer_with()
    before = (("system", "the bank"), ("user", "sales"), ("assistant", "falls"))
    rows = response_rows(tokenizer, rows_of(ResponseExample("profit of the bank", "rises strong", before=before)), 64)
    assert rows.labels is not None
    [ids], [labels] = rows.input_ids, rows.labels
    learned = labels[labels != IGNORED]
    assert tokenizer.convert_ids_to_tokens(learned) == ["rises", "strong", "[MASK]"]
    assert tokenizer.decode(ids) == (
        "s the bank [MASK] u sales [MASK] a falls [MASK] u profit of the bank [MASK] a rises strong [MASK]"
    ), "the template's own text, token for token"
    assert np.flatnonzero(labels != IGNORED).tolist() == list(range(ids.size - 4, ids.size - 1)), "the next tokens"


def test_a_row_that_is_too_long_keeps_its_response_and_loses_the_middle_of_its_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = tokenizer_with()
    long = ResponseExample("profit " + "sales " * 60 + "bank", "rises strong")
    rows = response_rows(tokenizer, Dataset((long, ResponseExample("loss", "falls")), (), "long rows"), 12)
    assert rows.lengths.tolist() == [12, 6]
    assert tokenizer.decode(rows.input_ids[0]).startswith("u profit sales")
    assert tokenizer.decode(rows.input_ids[0]).endswith("sales bank [MASK] a rises strong [MASK]")
    assert "1 of 2 rows lost text" in caplog.text


def test_the_length_of_a_row_counts_its_template_and_its_response() -> None:
    rows = rows_of(ResponseExample("profit " + "sales " * 60, "rises strong"), ResponseExample("loss", "falls"))
    assert uncut_lengths(tokenizer_with(), rows) == response_rows(tokenizer_with(), rows, 500).lengths.tolist()


def test_a_response_beyond_three_quarters_of_a_row_is_cut_and_nothing_ends_it() -> None:
    tokenizer = tokenizer_with()
    rows = response_rows(tokenizer, rows_of(ResponseExample("profit", "rises " * 40)), 16)
    assert rows.labels is not None
    learned = rows.labels[0][rows.labels[0] != IGNORED]
    assert (rows.lengths[0], learned.size) == (16, 12)
    assert set(tokenizer.convert_ids_to_tokens(learned)) == {"rises"}


def test_a_tokenizer_without_a_template_gets_the_stated_one_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tokenizer_with(None)
    settle_template(tokenizer)
    assert tokenizer.chat_template == PLAIN_TEMPLATE
    before = (("system", "bank"), ("user", "sales"), ("assistant", "falls"))
    messages = [{"role": role, "content": text} for role, text in (*before, ("user", "profit"))]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "bank\n\nsales\n\nResponse:\nfalls[SEP]\n\nprofit\n\nResponse:\n"
    )
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    with caplog.at_level(logging.WARNING):
        response_rows(tokenizer, rows_of(ResponseExample("profit", "rises")), 32, "bare")
    assert "bare: its tokenizer has no chat template" in caplog.text
    own = tokenizer_with()
    settle_template(own)
    assert own.chat_template == CHAT


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT,
        CHAT.replace("%}{{ m['role']", "if m['role'] != 'system' %}{{ m['role']", 1),
    ],
    ids=["refuses it", "leaves it out"],
)
def test_a_template_without_system_turns_gets_their_text_in_the_first_turn_of_the_user(template: str) -> None:
    tokenizer = tokenizer_with(template)
    [ids] = prompt_ids(tokenizer, [(("system", "the bank"), ("user", "profit"))])
    assert tokenizer.decode(ids) == "u the bank profit [MASK] a"


def test_a_template_that_fails_is_one_line_without_the_text_of_a_row() -> None:
    tokenizer = tokenizer_with("{{ raise_exception(messages[0]['content']) }}")
    with pytest.raises(ModelError, match="model bare: its chat template fails") as caught:
        prompt_ids(tokenizer, [(("user", "secret"),)], "bare")
    assert "secret" not in str(caught.value)


def test_a_template_that_leaves_nothing_of_a_prompt_is_one_line() -> None:
    tokenizer = tokenizer_with("{{ '' }}")
    with pytest.raises(ModelError, match="model bare: its chat template leaves nothing of a prompt"):
        response_rows(tokenizer, rows_of(ResponseExample("profit", "rises")), 32, "bare")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ ' sales [MASK] net' }}{% endif %}"
        "{{ ' ' }}{% endfor %}{% if add_generation_prompt %}{{ 'a ' }}{% endif %}",
        "{% for m in messages %}{{ m['content'] + '[MASK]' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'pro' }}{% endif %}",
    ],
    ids=["text after the response", "letters that would join it"],
)
def test_the_response_alone_is_learned_with_each_kind_of_tokenizer(kind: str, template: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    tokenizer.eos_token, tokenizer.chat_template = "[SEP]", template
    rows = response_rows(tokenizer, rows_of(ResponseExample("the bank", "fit rises")), 64)
    assert rows.labels is not None
    [ids], [labels] = rows.input_ids, rows.labels
    learned = labels[labels != IGNORED]
    assert learned.tolist() == [*tokenizer("fit rises", add_special_tokens=False)["input_ids"], end_of_turn(tokenizer)]
    assert tokenizer.convert_ids_to_tokens(int(learned[-1])) == "[MASK]"
    [prompt] = prompt_ids(tokenizer, [(("user", "the bank"),)])
    assert ids.tolist() == [*prompt.tolist(), *learned.tolist()], "the ids that the model sees when it responds"
    assert np.flatnonzero(labels != IGNORED).tolist() == list(range(prompt.size - 1, ids.size - 1))


def test_prompts_that_are_too_long_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    cut = cut_prompts([np.arange(10), np.arange(3)], 5)
    assert [ids.tolist() for ids in cut] == [[0, 1, 7, 8, 9], [0, 1, 2]]
    assert "1 of 2 prompts lost their middle" in caplog.text
