"""Which words a domain adds, and that a private list says that it is one."""

import stat
from pathlib import Path

import pytest

from client.finetune.strategies.domain_terms import DOMAINS, TermList, curated, mine, read_terms, write_terms
from common.errors import ConfigurationError, DataError
from tests.tiny_models import tiny_tokenizer


def test_every_domain_has_several_hundred_plain_words_and_says_where_they_come_from() -> None:
    for domain in DOMAINS:
        words = curated(domain).words
        assert 300 <= len(words) < 500
        assert len(set(words)) == len(words)
        assert all(word == word.lower() for word in words)
        assert curated(domain).release == "public"
        assert "(MIT)" in curated(domain).source
    with pytest.raises(ConfigurationError, match="sec_filings"):
        curated("tweets")


def test_mined_are_words_that_are_frequent_and_badly_split_and_in_enough_texts() -> None:
    texts = ["bank ebitda rises"] * 6 + ["goodwill bank"] * 3 + ["noncontrolling sales"] * 5 + ["bank rises"] * 20
    found = mine(texts, tiny_tokenizer(), 10)
    # "bank" is one token already, "goodwill" is in three texts only. The longer word saves more tokens.
    assert found.words == ("noncontrolling", "ebitda")
    assert found.release == "private"
    assert mine(texts, tiny_tokenizer(), 1).words == ("noncontrolling",)


def test_a_rare_word_of_general_english_is_not_the_domains() -> None:
    texts = ["ebitda"] * 5 + ["bank " * 400] * 5000
    assert mine(texts, tiny_tokenizer(), 10).words == ()


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
