"""Near-duplicates are those that share most of their three-word shingles."""

import random
import re

from client.inspection.near_duplicates import near_duplicates
from tests.tiny_models import VOCABULARY

WORDS = [word for word in VOCABULARY if len(word) > 1 and word.isalpha()] + [f"name{number}" for number in range(300)]


def similarity(one: str, other: str) -> float:
    left, right = (
        {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
        for words in (re.findall(r"\w+", text.lower()) for text in (one, other))
    )
    return len(left & right) / len(left | right)


def test_texts_with_a_word_changed_are_found_and_others_are_not() -> None:
    random_ = random.Random(3)
    originals = [" ".join(random_.choices(WORDS, k=60)) for _ in range(300)]
    changed = []
    for text in originals:
        words = text.split()
        words[random_.randrange(1, 3)] = "another"
        changed.append(" ".join(words).upper())
    found = near_duplicates([*originals, *changed])
    pairs = {number: number - 300 for number in range(300, 600)}
    sure = {
        number for number, first in pairs.items() if similarity([*originals, *changed][number], originals[first]) > 0.9
    }
    assert len(sure) > 250
    assert sum(found.get(number) == pairs[number] for number in sure) >= 0.97 * len(sure)
    assert all(number >= 300 for number in found)


def test_texts_without_words_and_the_beginning_of_long_ones() -> None:
    assert near_duplicates([]) == {}
    assert near_duplicates(["!", "?", "...", ""]) == {}
    long = " ".join(f"word{number}" for number in range(400))
    assert near_duplicates([long, f"{long} and an end of its own"]) == {1: 0}
