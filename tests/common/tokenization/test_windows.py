"""Long texts are read whole: every word is in some window, and every window fits."""

import random

import pytest

from common.data.datasets import Dataset, Example, TokenExample
from common.tokenization.windows import in_windows
from tests.tiny_models import TOKENIZERS, VOCABULARY, tiny_tokenizer

WORDS = [word for word in VOCABULARY if len(word) > 1 and word.isalpha()]


def text_of(words: int, seed: int) -> str:
    random_ = random.Random(seed)
    return " ".join(random_.choice([*WORDS, "Zürich", "1,234", "unheard-of", "🙂"]) for _ in range(words))


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("most", [8, 33])
def test_every_word_is_read_once_and_every_window_fits(kind: str, most: int) -> None:
    tokenizer = tiny_tokenizer(kind)
    texts = [text_of(number, number) for number in (1, 5, 40, 700)]
    data = Dataset(tuple(Example(text, 0, f"bank {place}") for place, text in enumerate(texts)), (), "texts")
    cut = in_windows(data, tokenizer, most)
    assert max(len(ids) for ids in tokenizer([e.text for e in cut.examples])["input_ids"]) <= most
    for place, text in enumerate(texts):
        pieces = [e.text for e in cut.examples if e.customer == f"bank {place}"]
        assert "".join("".join(pieces).split()) == "".join(text.split())
        if most > 20:  # no word is longer, so none is cut
            assert " ".join(pieces).split() == text.split()
    longest = [e for e in cut.examples if e.customer == "bank 3"]
    assert len(longest) < 2.5 * len(tokenizer(texts[3], add_special_tokens=False)["input_ids"]) / (most - 2)


def test_texts_that_fit_and_sentences_stay_as_they_are() -> None:
    data = Dataset((Example("profit rises", 0), Example(" ", 0)), (), "texts")
    assert in_windows(data, tiny_tokenizer(), 16) == data
    tagged = Dataset((TokenExample(("profit",) * 99, (0,) * 99),), ("O",), "words")
    assert in_windows(tagged, tiny_tokenizer(), 16) == tagged


def test_a_word_longer_than_a_window_is_cut_and_not_dropped() -> None:
    word = "abcdefgh" * 30
    cut = in_windows(Dataset((Example(word, 0),), (), "texts"), tiny_tokenizer(), 10)
    assert "".join(example.text for example in cut.examples) == word
