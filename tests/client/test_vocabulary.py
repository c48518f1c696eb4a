"""Which words a domain adds, and that a private list says that it is one."""

import math
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.noise import FixedNoise
from client.vocabulary import DOMAINS, TermList, curated, mine, read_terms, vote, vote_event, write_terms
from common.accounting import epsilon
from common.errors import ConfigurationError, DataError
from tests.tiny_models import tiny_tokenizer


class Quiet:
    """No noise: what is left is the counting."""

    def normal(self, n):
        return np.zeros(n)


def test_every_domain_has_a_short_list_of_plain_words() -> None:
    for domain in DOMAINS:
        words = curated(domain).words
        assert 40 < len(words) < 200
        assert len(set(words)) == len(words)
        assert all(word == word.lower() for word in words)
        assert curated(domain).release == "public"
    with pytest.raises(ConfigurationError, match="sec_filings"):
        curated("tweets")


def test_mined_are_words_that_are_frequent_and_badly_split_and_in_enough_texts() -> None:
    texts = ["bank ebitda rises"] * 6 + ["goodwill bank"] * 3 + ["noncontrolling sales"] * 5 + ["bank rises"] * 20
    found = mine(texts, tiny_tokenizer(), 10)
    # "bank" is one token already, "goodwill" is in three texts only; the longer word saves more tokens.
    assert found.words == ("noncontrolling", "ebitda")
    assert found.release == "private"
    assert mine(texts, tiny_tokenizer(), 1).words == ("noncontrolling",)


def test_a_rare_word_of_general_english_is_not_the_domains() -> None:
    texts = ["ebitda"] * 5 + ["bank " * 400] * 5000
    assert mine(texts, tiny_tokenizer(), 10).words == ()


def test_votes_are_counted_by_text_and_only_public_candidates_can_win() -> None:
    texts = ["ebitda ebitda ebitda", "ebitda goodwill", "goodwill secretword", "goodwill"]
    found = vote(texts, ("ebitda", "goodwill", "accrual"), Quiet(), 2.0, 2, votes_per_text=2)  # type: ignore[arg-type]
    assert found.words == ()  # 3 and 2 votes are below two deviations of the noise, 5.66
    many = vote(texts * 10, ("ebitda", "goodwill", "accrual"), Quiet(), 1.0, 2, votes_per_text=2)  # type: ignore[arg-type]
    assert many.words == ("goodwill", "ebitda")
    assert many.release == "dp"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "zeta", "theta"]), max_size=12), st.integers(1, 6))
def test_one_text_has_no_more_votes_than_its_share(words: list[str], share: int) -> None:
    candidates = ("alpha", "beta", "gamma", "delta", "zeta", "theta")

    chosen = set(vote([" ".join(words)], candidates, Quiet(), 1e-9, 6, votes_per_text=share).words)  # type: ignore[arg-type]
    assert len(chosen) <= share
    assert chosen <= set(words)


def test_the_noise_of_a_vote_is_what_its_event_says() -> None:
    """Counts of nothing at all are the noise itself: sigma times the square root of the votes a text has."""
    candidates = tuple(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600))
    found = vote([], candidates, FixedNoise(bytes(32)), 2.0, 600, votes_per_text=9)
    # Above two standard deviations lie 2.3 % of normal numbers; with two thirds of sigma it would be 0.1 %, with
    # three halves 9 %.
    assert 4 <= len(found.words) <= 27
    assert epsilon([vote_event(2.0)], 1e-5) == pytest.approx(_gaussian_epsilon(2.0, 1e-5), rel=0.01)


def _gaussian_epsilon(sigma: float, delta: float) -> float:
    """Balle & Wang 2018, theorem 8, by bisection: the exact curve of one Gaussian mechanism of sensitivity 1."""

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def curve(e: float) -> float:
        return normal(1 / (2 * sigma) - e * sigma) - math.exp(e) * normal(-1 / (2 * sigma) - e * sigma)

    low, high = 0.0, 50.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if curve(middle) > delta else (low, middle)
    return high


def test_a_term_file_keeps_where_its_words_come_from(tmp_path: Path) -> None:
    terms = TermList(("ebitda", "pari passu"), "private", "mined from 3 texts")
    write_terms(tmp_path / "terms.toml", terms)
    assert read_terms(tmp_path / "terms.toml") == terms
    assert stat.S_IMODE((tmp_path / "terms.toml").stat().st_mode) == 0o600
    (tmp_path / "list.txt").write_text("ebitda\n\n goodwill \nebitda\n")
    assert read_terms(tmp_path / "list.txt") == TermList(("ebitda", "goodwill"), "public", "list.txt")


@pytest.mark.parametrize(
    "content", ["words = 3", 'release = "other"\nwords = ["a"]', "[", 'release = "public"\nwords = []']
)
def test_a_damaged_term_file_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "terms.toml").write_text(content)
    with pytest.raises(DataError, match=r"terms\.toml"):
        read_terms(tmp_path / "terms.toml")
