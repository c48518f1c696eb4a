"""Federations: the synthetic banks keep their promises, and real files are split as configured."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from common.data.datasets import Dataset, Example, TokenExample, merge
from common.errors import ConfigurationError, DataError
from simulation.config import DataConfig
from simulation.grammar import SYMBOL, Wordings
from simulation.partition import LABEL_NOISE, Federation, dirichlet_split, load_federation, synthetic_banks
from simulation.wordings import BANKS, RISK, SENTIMENT, SHARED

TASKS = ["sentiment_analysis", "risk_classification"]
SECRET = "zxq-secret-phrase"


def files(train: Path, test: Path | None = None, **fields: Any) -> DataConfig:
    return DataConfig(train=train, test=test, **fields)


def load(settings: DataConfig, labels: tuple[str, ...] = (), head: str = "sequence") -> Federation:
    return load_federation(settings, labels, head)


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
    monkeypatch.setattr("simulation.partition._mislabel", lambda example, *_: example)
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


def test_synthetic_source_gives_the_task_its_banks_and_refuses_other_labels() -> None:
    config = DataConfig(source="synthetic")
    assert load_federation(config, (), "sequence", task=TASKS[1], seed=5) == synthetic_banks(5, TASKS[1])
    assert load(config, ("negative", "neutral", "positive")) == synthetic_banks(0)
    with pytest.raises(ConfigurationError, match=r"task\.labels: the synthetic banks have negative, neutral"):
        load(config, ("bad", "good"))


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def desk_rows(n: int = 120) -> list[dict[str, str]]:
    return [
        {
            "text": f"headline {i}",
            "label": ("down", "flat", "up")[i % 3],
            "desk": ("FX & Rates", "banks")[i % 5 == 0],
            "split": "test" if i % 4 == 0 else "train",
        }
        for i in range(n)
    ]


def test_columns_say_institution_and_split(tmp_path: Path) -> None:
    path = table(tmp_path / "a.jsonl", desk_rows())
    federation = load(files(path, institution_column="desk", split_column="split"))
    assert list(federation.train) == ["banks", "fx_rates"]
    assert sorted(texts(federation.test)) == sorted(r["text"] for r in desk_rows() if r["split"] == "test")
    assert texts(federation.train["banks"]) == [
        r["text"] for r in desk_rows() if r["split"] == "train" and r["desk"] == "banks"
    ]
    assert sum(map(len, federation.test_by_institution.values())) == len(federation.test) == 30
    assert federation.train["banks"].labels == federation.test.labels == ("down", "flat", "up")


def test_own_test_file_needs_no_institutions(tmp_path: Path) -> None:
    train = table(tmp_path / "a.jsonl", desk_rows())
    test = table(tmp_path / "b.jsonl", [{"text": "t", "label": "up"}])
    federation = load(files(train, test, institution_column="desk"))
    assert federation.test.examples == (Example("t", 2),)
    assert federation.test_by_institution == {"all": federation.test}
    table(test, [{"text": SECRET, "label": "sideways"}])
    with pytest.raises(DataError, match=r'b.jsonl: row 1, column "label" holds a label that is not'):
        load(files(train, test, institution_column="desk"))


def test_fraction_split_keeps_equal_texts_together_whatever_the_order(tmp_path: Path) -> None:
    rows = desk_rows(400) + desk_rows(400)
    one = load(files(table(tmp_path / "a.jsonl", rows), institution_column="desk"))
    two = load(files(table(tmp_path / "b.jsonl", rows[::-1]), institution_column="desk"))
    assert set(texts(one.test)) == set(texts(two.test))
    assert not set(texts(one.test)) & {t for d in one.train.values() for t in texts(d)}
    assert len(one.test) / 800 == pytest.approx(0.2, abs=0.06)


BAD = [
    ("institution", {"desk": " &"}, 'row 7, column "desk" names no institution'),
    ("twin", {"desk": "Banks!"}, 'row 7, column "desk" differs from "banks"'),
    ("split", {"split": SECRET}, 'row 7, column "split" is neither'),
    ("text", {"text": ""}, 'row 7, column "text" is empty'),
]


@pytest.mark.parametrize(("case", "change", "expected"), BAD)
def test_bad_row_is_named_by_its_number_in_the_file(
    tmp_path: Path, case: str, change: dict[str, str], expected: str
) -> None:
    rows = desk_rows()
    rows[6] |= change
    with pytest.raises(DataError, match=expected) as raised:
        load(files(table(tmp_path / "a.jsonl", rows), institution_column="desk", split_column="split"))
    assert SECRET not in str(raised.value)


def test_one_label_or_no_test_rows_or_no_split_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.jsonl", [r | {"label": "up"} for r in desk_rows()])
    with pytest.raises(DataError, match="one label"):
        load(files(path, institution_column="desk"))
    path = table(tmp_path / "a.jsonl", [r | {"split": "train"} for r in desk_rows()])
    with pytest.raises(DataError, match="no rows are left for the test"):
        load(files(path, institution_column="desk", split_column="split"))
    with pytest.raises(ConfigurationError, match="cannot be simulated"):
        load(files(path, institutions=2, dirichlet_alpha=1.0), head="summary")


@pytest.mark.parametrize("alpha", [None, 0.3, 100.0])
def test_dealing_out_keeps_every_example_once(alpha: float | None) -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 3) for i in range(600)), ("a", "b", "c"), "x")
    parts = dirichlet_split(whole, 4, alpha, seed=1)
    assert sorted(t for d in parts.values() for t in texts(d)) == sorted(texts(whole))
    assert parts == dirichlet_split(whole, 4, alpha, seed=1)
    assert parts != dirichlet_split(whole, 4, alpha, seed=2)
    spread = [max(c) / len(d) for d in parts.values() for c in [d.label_counts()]]
    assert max(spread) > 0.6 if alpha == 0.3 else max(spread) < 0.5


def test_dealing_out_too_thinly_is_refused() -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 2) for i in range(100)), ("a", "b"), "x")
    with pytest.raises(ConfigurationError, match="10 rows each"):
        dirichlet_split(whole, 11, None, 0)
    with pytest.raises(ConfigurationError, match="dirichlet_alpha"):
        dirichlet_split(whole, 10, 0.01, 0)


def test_conll_documents_are_institutions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    sentences = "x O\nBank I-ORG\n\n" * 3
    path.write_text("".join(f"-DOCSTART- O\n\n{sentences}y{d} O\n\n" for d in range(3)))
    federation = load(files(path, path, institution_column="document"), head="token")
    assert {n: len(d) for n, d in federation.train.items()} == {"document_1": 4, "document_2": 4, "document_3": 4}
    assert federation.test.examples[0] == TokenExample(("x", "Bank"), (0, 1), "document_1")
    with pytest.raises(ConfigurationError, match="document"):
        load(files(path, path, institution_column="desk"), head="token")


DESKS = Path(os.environ.get("FEDFIN_DATA", "../shared/data")) / "sentfin" / "desks.csv"


@pytest.mark.skipif(not DESKS.exists(), reason="needs FEDFIN_DATA")
def test_six_desks_of_sentfin() -> None:
    federation = load(files(DESKS, institution_column="desk", split_column="split"))
    sizes = {name: len(d) for name, d in federation.train.items()}
    assert len(sizes) == 6
    assert (sum(sizes.values()), len(federation.test)) == (7538, 1923)
    assert (min(sizes.values()), max(sizes.values())) == (386, 4681)
    assert federation.test.labels == ("negative", "neutral", "positive")
