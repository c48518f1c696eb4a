"""`inspect` reads every kind of file, and prints counts and row numbers alone."""

import gzip
import json
from pathlib import Path

import pytest

from client.cli import main
from client.commands.inspect import read_rows_of
from tests.tiny_models import save_tiny_model

SECRET = "zxq-secret-phrase"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def test_files_are_compared_and_no_text_is_printed(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv.gz"
    train.write_text(
        f"text,label\n{SECRET} {'bank ' * 30},Up\nsales of the bank,up \n{SECRET} mail a@example.com,down\n"
    )
    test.write_bytes(gzip.compress(b"text,label\nsales of the bank,up\n"))
    arguments = ["inspect", str(train), str(test), "--base-model", str(model), "--max-tokens", "16"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    for line in (
        f"{train}: 3 rows",
        "66.7% of the rows are cut",
        "likely e-mail      1 (row 3)",
        "'Up' and 'up ': write them alike",
        f"{train} and {test}: 1 (row 1) of {test} with a text of the other",
    ):
        assert line in printed.out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["shared"] == [{"first": str(train), "second": str(test), "count": 1, "rows": [1]}]
    assert [split["lengths"]["limit"] for split in found["splits"]] == [16, 16]


def test_rows_of_every_kind_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("headline;tone\nProfit rose;up\n")
    (tmp_path / "texts.csv").write_text("sentence\nProfit rose\n")
    (tmp_path / "words.jsonl").write_text(json.dumps({"tokens": ["Acme", "rose"], "ner_tags": ["B-ORG", "O"]}))
    (tmp_path / "conll.txt").write_text("Acme B-ORG\nrose O\n\nIt O\n")
    (tmp_path / "bank.txt").write_bytes("Säästöpankki rose@positive\n".encode("latin-1"))
    (tmp_path / "plain.txt").write_text("Some text.\n\nAnother one.\n")
    assert read_rows_of(tmp_path / "rows.csv", "headline", "tone").labels == ("up",)
    assert read_rows_of(tmp_path / "texts.csv").labels == ()
    assert read_rows_of(tmp_path / "words.jsonl").labels == ("O", "B-ORG")
    assert len(read_rows_of(tmp_path / "conll.txt")) == 2
    assert read_rows_of(tmp_path / "bank.txt").labels == ("positive",)
    assert len(read_rows_of(tmp_path / "plain.txt")) == 2
    turns = [{"role": "user", "content": "Up?"}, {"role": "assistant", "content": "yes"}]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "chat.jsonl").write_text(json.dumps({"messages": turns}))
    assert [each.text for each in read_rows_of(tmp_path / "other" / "chat.jsonl").examples] == ["Up?"]
    (tmp_path / "other" / "chat.jsonl").unlink()
    assert len(read_rows_of(tmp_path)) == 6  # texts without labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "absent.csv: no such data file"),
        (["a.csv", "a.csv"], "a file is named twice"),
        (["a.csv", "--max-tokens", "1"], "max_tokens is 1"),
        (["a.csv", "--label-column", "tone"], 'column "tone" is missing'),
    ],
)
def test_a_wrong_argument_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
    model: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text,label\nprofit,up\n")
    assert main(["inspect", *arguments, "--base-model", str(model)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
