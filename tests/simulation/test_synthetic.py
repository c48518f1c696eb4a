"""The synthetic banks keep their promises: they differ, no headline repeats, and counting words does not solve them."""

from collections import Counter

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from common.data.datasets import Dataset, Example, merge
from common.errors import ConfigurationError
from simulation.grammar import SYMBOL, Wordings
from simulation.partition import Federation
from simulation.synthetic import LABEL_NOISE, synthetic_banks
from simulation.wordings import BANKS, RISK, SENTIMENT, SHARED

TASKS = ["sentiment_analysis", "risk_classification"]


def texts(dataset: Dataset) -> list[str]:
    return [e.text for e in dataset.examples if isinstance(e, Example)]


def targets(dataset: Dataset) -> list[int]:
    return [e.label for e in dataset.examples if isinstance(e, Example)]


@pytest.fixture(scope="module", params=TASKS)
def banks(request: pytest.FixtureRequest) -> Federation:
    return synthetic_banks(0, request.param)


def test_same_seed_same_headlines_and_another_seed_others() -> None:
    assert synthetic_banks(3) == synthetic_banks(3)
    assert texts(synthetic_banks(3).test) != texts(synthetic_banks(4).test)


def test_banks_differ_in_size_labels_and_vocabulary(banks: Federation) -> None:
    sizes = [len(d) for d in banks.train.values()]
    assert len(set(sizes)) == len(banks.train) == 4
    assert sum(sizes) == 6000
    shares = [[count / len(d) for count in d.label_counts()] for d in banks.train.values()]
    for label in range(len(banks.test.labels)):
        assert max(s[label] for s in shares) - min(s[label] for s in shares) > 0.1
    words = {n: {w for t in texts(d) for w in t.lower().split()} for n, d in banks.train.items()}
    for name in words:
        assert len(words[name] - set().union(*(w for other, w in words.items() if other != name))) > 50


def test_no_headline_occurs_twice_and_all_are_short(banks: Federation) -> None:
    every = [t for d in (*banks.train.values(), banks.test) for t in texts(d)]
    assert len(set(every)) == len(every) == 6800
    assert max(len(t.split()) for t in every) <= 18
    assert not any("{" in t or "|" in t or "//" in t or "  " in t for t in every)


def test_parts_of_the_test_set_are_the_whole(banks: Federation) -> None:
    assert banks.test.examples == merge(list(banks.test_by_institution.values()), "x").examples
    assert set(banks.test_by_institution) == set(banks.train)


def test_every_symbol_of_the_grammar_is_defined_and_ends() -> None:
    for rules in (SENTIMENT, RISK):
        for bank in BANKS.values():
            grammar = SHARED | rules | bank

            def depth(symbol: str, above: tuple[str, ...] = (), grammar: dict[str, str] = grammar) -> int:
                assert symbol not in above
                return 1 + max((depth(s, (*above, symbol)) for s in SYMBOL.findall(grammar[symbol])), default=0)

            assert all(depth(symbol) < 8 for symbol in grammar)


def test_wordings_kept_for_the_test_never_train_and_banks_word_differently() -> None:
    for symbol, text in (SENTIMENT | RISK).items():
        words = Wordings.parse(text)
        assert not set(words.seen) & set(words.kept), symbol
        hands = [words.dealt(hand, 4) for hand in range(4)]
        assert all(hands), symbol
        if words.kept and len(words.seen) >= 4:
            assert sorted(w for hand in hands for w in hand) == sorted(words.seen)


def test_label_noise_is_in_training_only_and_as_large_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = synthetic_banks(1)
    monkeypatch.setattr("simulation.synthetic._mislabel", lambda example, *_: example)
    clean = synthetic_banks(1)
    # Mislabelling draws after all rows of a bank, so its training rows agree with and without it.
    pairs = [
        (a, b)
        for name in noisy.train
        for a, b in zip(noisy.train[name].examples, clean.train[name].examples, strict=True)
    ]
    assert [a.text for a, _ in pairs if isinstance(a, Example)] == [b.text for _, b in pairs if isinstance(b, Example)]
    assert sum(a != b for a, b in pairs) / len(pairs) == pytest.approx(LABEL_NOISE, abs=0.012)


def test_neither_majority_nor_a_bag_of_words_solves_it(banks: Federation) -> None:
    train = merge(list(banks.train.values()), "train")
    majority = Counter(targets(train)).most_common(1)[0][0]
    assert 0.3 < sum(t == majority for t in targets(banks.test)) / len(banks.test) < 0.5
    best = 0.0
    for strength in (0.3, 1, 10):
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        model = LogisticRegression(C=strength, max_iter=500).fit(vectors.fit_transform(texts(train)), targets(train))
        best = max(best, float(model.score(vectors.transform(texts(banks.test)), targets(banks.test))))
    assert 0.5 < best < 0.78


def test_unknown_synthetic_task_lists_those_that_exist() -> None:
    with pytest.raises(ConfigurationError, match="risk_classification, sentiment_analysis"):
        synthetic_banks(0, "financial_ner")
