"""Real files become the federation that the configuration describes, and a bad row is named by its number."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from common.data.datasets import Dataset, Example, TokenExample
from common.errors import ConfigurationError, DataError
from simulation.config import DataConfig
from simulation.loading import load_federation
from simulation.partition import Federation
from simulation.synthetic import synthetic_banks

SECRET = "zxq-secret-phrase"


def files(train: Path, test: Path | None = None, **fields: Any) -> DataConfig:
    return DataConfig(train=train, test=test, **fields)


def load(settings: DataConfig, labels: tuple[str, ...] = (), head: str = "sequence") -> Federation:
    return load_federation(settings, labels, head)


def texts(dataset: Dataset) -> list[str]:
    return [e.text for e in dataset.examples if isinstance(e, Example)]


def test_synthetic_source_gives_the_task_its_banks_and_refuses_other_labels() -> None:
    config = DataConfig(source="synthetic")
    assert load_federation(config, (), "sequence", task="risk_classification", seed=5) == synthetic_banks(
        5, "risk_classification"
    )
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


def test_conll_documents_are_institutions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    sentences = "x O\nBank I-ORG\n\n" * 3
    path.write_text("".join(f"-DOCSTART- O\n\n{sentences}y{d} O\n\n" for d in range(3)))
    test = tmp_path / "test.txt"
    test.write_text("z O\nBank I-ORG\n\n")
    federation = load(files(path, test, institution_column="document"), head="token")
    assert {n: len(d) for n, d in federation.train.items()} == {"document_1": 4, "document_2": 4, "document_3": 4}
    assert federation.test.examples[0] == TokenExample(("z", "Bank"), (0, 1), "document_1")
    with pytest.raises(ConfigurationError, match="document"):
        load(files(path, test, institution_column="desk"), head="token")


DESKS = Path(os.environ.get("FEDFIN_DATA", "../shared/data")) / "sentfin" / "desks.csv"


@pytest.mark.skipif(not DESKS.exists(), reason="needs FEDFIN_DATA")
def test_six_desks_of_sentfin() -> None:
    federation = load(files(DESKS, institution_column="desk", split_column="split"))
    sizes = {name: len(d) for name, d in federation.train.items()}
    assert len(sizes) == 6
    assert (sum(sizes.values()), len(federation.test)) == (7538, 1923)
    assert (min(sizes.values()), max(sizes.values())) == (386, 4681)
    assert federation.test.labels == ("negative", "neutral", "positive")
