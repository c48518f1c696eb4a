"""Real files become the federation that the configuration describes, and a bad row is named by its number."""

import json
import os
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from common.data.datasets import Dataset, Example, TokenExample
from common.data.reading import read_labelled
from common.errors import ConfigurationError, DataError
from simulation.config import DataConfig
from simulation.loading import load_federation
from simulation.partition import Federation, in_test
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
    with pytest.raises(DataError, match='column "summary" is missing'):
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


SENTIMENT = ("negative", "neutral", "positive")
FEATURES = {"info": {"features": {"label": {"names": ["positive", "neutral", "negative"], "_type": "ClassLabel"}}}}


def forms(path: Path, form: str) -> Path:
    """Write 90 rows in one of the forms in which people have the same labels."""
    labels = [SENTIMENT[number % 3] for number in range(90)]
    texts_ = [f"headline {number}" for number in range(90)]
    if form == "named":
        own = ["positive", "neutral", "negative"]
        rows = pyarrow.table({"text": texts_, "label": [own.index(label) for label in labels]})
        pyarrow.parquet.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(FEATURES)}), path)
        return path
    changed: dict[str, list[Any]] = {
        "title": [label.title() for label in labels],
        "invisible": [label + "\u200b" * (number % 2) for number, label in enumerate(labels)],
        "whole": [SENTIMENT.index(label) for label in labels],
        "floats": [float(SENTIMENT.index(label)) for label in labels],
    }
    pyarrow.parquet.write_table(pyarrow.table({"text": texts_, "label": changed[form]}), path)
    return path


@pytest.mark.parametrize("form", ["named", "title", "invisible", "whole", "floats"])
def test_a_federation_reads_the_labels_that_fine_tuning_reads(tmp_path: Path, form: str) -> None:
    path = forms(tmp_path / "a.parquet", form)
    federation = load(files(path, institutions=2), SENTIMENT)
    alone = read_labelled(path, "sentiment_analysis", labels=SENTIMENT)
    found = [each for rows in (*federation.train.values(), federation.test) for each in rows.examples]
    assert sorted(found, key=repr) == sorted(alone.examples, key=repr)
    assert [SENTIMENT[each.label] for each in alone.examples[:3]] == list(SENTIMENT)


def test_names_of_labels_are_kept_if_the_task_has_none(tmp_path: Path) -> None:
    federation = load(files(forms(tmp_path / "a.parquet", "named"), institutions=2))
    assert federation.test.labels == ("positive", "neutral", "negative")
    assert federation.test.labels_from_rows


def test_one_spelling_of_a_label_serves_all_institutions_and_is_noted(tmp_path: Path) -> None:
    rows = desk_rows()
    for row in rows[:9]:
        row["label"] = row["label"].title() if row["desk"] == "banks" else row["label"]
    federation = load(files(table(tmp_path / "a.jsonl", rows), institution_column="desk", split_column="split"))
    assert federation.test.labels == ("down", "flat", "up")
    assert any(
        note.startswith("Training rows: ") and "spell a label in another way" in note for note in federation.notes
    )
    assert not any(str(tmp_path) in note for note in federation.notes)


def test_words_and_tags_in_lists_are_divided_by_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"tokens": ["Bank", str(n)], "ner_tags": ["B-ORG", "O"], "desk": "ab"[n % 2], "who": n} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    federation = load(files(path, institution_column="desk", customer_column="who"), head="token")
    assert sorted(federation.train) == ["a", "b"]
    assert federation.test.labels == ("O", "B-ORG")
    assert federation.train["a"].units("customer") == len(federation.train["a"])


def test_a_rare_label_that_is_held_out_is_a_label(tmp_path: Path) -> None:
    rare = next(f"files {n}" for n in range(99) if in_test(f"files {n}", 0.2, 0))
    rows = [*desk_rows(), {"text": rare, "label": "insolvency", "desk": "banks", "split": "train"}]
    federation = load(files(table(tmp_path / "a.jsonl", rows), institution_column="desk"))
    assert federation.test.labels == ("down", "flat", "insolvency", "up")
    assert federation.test.label_counts()[2] == 1
    assert all(rows.labels == federation.test.labels for rows in federation.train.values())


def test_test_rows_that_are_training_rows_are_left_out_and_noted(tmp_path: Path) -> None:
    rows = desk_rows()
    own = [{"text": f"t{n}", "label": "up"} for n in range(8)]
    test = table(tmp_path / "b.jsonl", [*own, {"text": rows[0]["text"], "label": "down"}])
    federation = load(files(table(tmp_path / "a.jsonl", rows), test, institution_column="desk"))
    assert rows[0]["text"] not in {text for dataset in federation.train.values() for text in texts(dataset)}
    assert federation.notes == ("1 training rows have a text of the test rows, and are left out of the training.",)
    test = table(tmp_path / "b.jsonl", [{"text": row["text"], "label": row["label"]} for row in rows[:60]])
    with pytest.raises(DataError, match="60 of its 60 different texts are among the training rows"):
        load(files(tmp_path / "a.jsonl", test, institution_column="desk"))
    doubled = table(tmp_path / "c.jsonl", [*rows, *({**row, "split": "test"} for row in rows)])
    with pytest.raises(DataError, match="different texts are among the training rows"):
        load(files(doubled, institution_column="desk", split_column="split"))


@pytest.mark.parametrize("head", ["masked", "causal"])
@pytest.mark.parametrize("name", ["filings", "one.txt"])
def test_a_language_model_trains_on_a_folder_or_a_file_of_text(tmp_path: Path, head: str, name: str) -> None:
    (tmp_path / "filings").mkdir()
    for number in range(6):
        paragraphs = "\n\n".join(f"paragraph {number} {part}" for part in range(20))
        (tmp_path / "filings" / f"{number}.txt").write_text(paragraphs)
    (tmp_path / "one.txt").write_text("\n\n".join(f"paragraph {part}" for part in range(120)))
    federation = load(files(tmp_path / name, institutions=2), head=head)
    assert sum(map(len, federation.train.values())) + len(federation.test) == 120
    with pytest.raises(DataError, match="only a table has a column desk"):
        load(files(tmp_path / name, institution_column="desk"), head=head)


def test_a_folder_of_texts_in_folders_that_name_their_labels_is_divided(tmp_path: Path) -> None:
    for label in ("contract", "report"):
        (tmp_path / label).mkdir()
        for number in range(40):
            (tmp_path / label / f"{number}.txt").write_text(f"{label} {number}")
    federation = load(files(tmp_path, institutions=2))
    assert federation.test.labels == ("contract", "report")
    assert sum(map(len, federation.train.values())) + len(federation.test) == 80


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pyarrow.array([date(2019 + n % 2, 1, 1) for n in range(90)]), ["2019_01_01", "2020_01_01"]),
        (pyarrow.array([datetime(2019 + n % 2, 1, 1) for n in range(90)]), ["2019_01_01", "2020_01_01"]),
        (pyarrow.array([Decimal(n % 2 + 7) for n in range(90)], pyarrow.decimal128(38, 0)), ["7", "8"]),
        (pyarrow.array([n % 2 for n in range(90)], pyarrow.float64()), ["0", "1"]),
        (pyarrow.array(["ab"[n % 2] for n in range(90)]).dictionary_encode(), ["a", "b"]),
    ],
    ids=["date", "timestamp", "decimal", "float", "dictionary"],
)
@pytest.mark.parametrize("column", ["institution_column", "split_column"])
def test_columns_of_a_warehouse_divide_the_rows(
    tmp_path: Path, values: pyarrow.Array, names: list[str], column: str
) -> None:
    labels = [SENTIMENT[n % 3] for n in range(90)]
    rows = {"text": [f"t{n}" for n in range(90)], "label": labels, "by": values, "client": values}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    if column == "institution_column":
        federation = load(files(path, institution_column="by", customer_column="client"))
        assert sorted(federation.train) == names
        assert federation.train[names[0]].units("customer") == 1
        return
    second = {"2020_01_01": "2020-01-01", "1": "1.0"}.get(names[1], names[1])
    federation = load(files(path, institutions=2, split_column="by", test_values=(second,)))
    assert len(federation.test) == 45


def test_an_institution_in_another_script_keeps_its_name_beside_its_number(tmp_path: Path) -> None:
    rows = [row | {"desk": {"banks": "Τράπεζα"}.get(row["desk"], row["desk"])} for row in desk_rows()]
    federation = load(files(table(tmp_path / "a.jsonl", rows), institution_column="desk", split_column="split"))
    assert list(federation.train) == ["fx_rates", "institution_1"]
    assert federation.names == {"institution_1": "Τράπεζα"}
    assert set(federation.test_by_institution) <= {"fx_rates", "institution_1"}
