"""Hidden tokens: which, how many, and that one text's say nothing about another's."""

import numpy as np

from common.tokenization.batches import IGNORED, TokenizedSet, tokenize_texts
from common.tokenization.language_modelling import MASKED_SHARE, mask_tokens
from tests.tiny_models import VOCABULARY, tiny_tokenizer

WORDS = [word for word in VOCABULARY if len(word) > 3 and not word.startswith("[")]


def texts(count: int, words: int = 20, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, words)) for _ in range(count)]


def mask(given: list[str], seed: int = 0) -> tuple[TokenizedSet, TokenizedSet]:
    tokenizer = tiny_tokenizer()
    tokens = tokenize_texts(tokenizer, given, 64)
    return tokens, mask_tokens(tokens, tokenizer, seed)


def test_a_texts_masks_are_the_same_whatever_other_texts_are_there() -> None:
    given = texts(8)
    _, together = mask(given)
    for position, text in enumerate(given):
        _, alone = mask([text])
        assert np.array_equal(alone.input_ids[0], together.input_ids[position])
        assert together.labels is not None
        assert alone.labels is not None
        assert np.array_equal(alone.labels[0], together.labels[position])


def test_another_seed_hides_other_tokens() -> None:
    _, one = mask(texts(8), seed=1)
    _, two = mask(texts(8), seed=2)
    assert any(not np.array_equal(a, b) for a, b in zip(one.input_ids, two.input_ids, strict=True))


def test_labels_hold_what_stood_there_and_nothing_else_changed() -> None:
    before, after = mask(texts(50))
    for original, ids, labels in zip(before.input_ids, after.input_ids, after.labels or (), strict=True):
        counted = labels != IGNORED
        assert np.array_equal(labels[counted], original[counted])
        assert np.array_equal(ids[~counted], original[~counted])
        assert counted.sum() == round(MASKED_SHARE * (original.size - 2))
        assert not counted[[0, -1]].any(), "a special token was hidden"


def test_four_in_five_hidden_tokens_become_the_mask_and_one_in_ten_stays() -> None:
    before, after = mask(texts(1500))
    mask_id = tiny_tokenizer().mask_token_id
    pairs = [
        (ids[place], original[place])
        for original, ids, labels in zip(before.input_ids, after.input_ids, after.labels or (), strict=True)
        for place in np.flatnonzero(labels != IGNORED)
    ]
    shares = [np.mean([new == mask_id for new, _ in pairs]), np.mean([new == old for new, old in pairs])]
    # 4,500 coins: six standard deviations are .036 and .027. "another token" is the same one in a hundred times.
    assert abs(shares[0] - 0.8) < 0.036
    assert abs(shares[1] - 0.1) < 0.03


def test_a_text_of_one_word_has_its_word_hidden_and_one_of_none_has_no_label() -> None:
    _, after = mask(["bank", ""])
    assert after.labels is not None
    assert [int((labels != IGNORED).sum()) for labels in after.labels] == [1, 0]
