"""What a run asks is worked out from its configuration and the settings, and no answer tells what a row holds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.federation.planning import event_of_round, probe_data, read_for_run, select_rows
from client.institution.config import DataConfig
from common.config.run import RunConfig, parse_run
from common.data.datasets import ResponseExample, TokenExample
from common.errors import AssignmentRefused
from common.privacy.accounting import DpSgdEvent
from common.protocol.messages import RefusalCode
from tests.client.institution.example_config import institution_config

PRIVATE: dict[str, Any] = {"mode": "custom", "noise_multiplier": 1.5, "clipping_norm": 0.5, "delta": 1e-4}


def config(
    labels: tuple[str, ...] = ("negative", "positive"), task: str = "sentiment_analysis", **privacy: Any
) -> RunConfig:
    tables = {
        "run": {"name": "tiny", "seed": 3, "rounds": 3},
        "task": {"name": task, "labels": list(labels)},
        "training": {"learning_rate": 0.5, "sampling_rate": 0.25, "local_steps": 2},
        "privacy": PRIVATE | privacy,
    }
    return parse_run(tables, "test")


def rows(path: Path, *lines: str) -> DataConfig:
    path.write_text("\n".join(["text,label", *lines, ""]))
    return DataConfig(train=path)


def test_rows_with_other_labels_are_left_out_one_by_one(tmp_path: Path) -> None:
    few = rows(tmp_path / "few.csv", "loss,negative", "gain,positive")
    more = rows(tmp_path / "more.csv", "loss,negative", "flat,neutral", "gain,positive", "odd,strange")
    assert read_for_run(few, config()).examples == read_for_run(more, config()).examples
    assert read_for_run(more, config(("positive", "neutral"))).labels == ("positive", "neutral")
    assert [example.label for example in read_for_run(more, config(("positive", "neutral"))).examples] == [1, 0]


@pytest.mark.parametrize("labels", [("negative", "strange"), ("strange", "other"), ("other", "third")])
def test_no_set_of_labels_tells_whether_a_row_carries_one(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """With and without the row that carries it, the run is planned alike, even if no row remains."""
    without = rows(tmp_path / "without.csv", "loss,negative", "gain,positive")
    having = rows(tmp_path / "with.csv", "loss,negative", "gain,positive", "odd,strange")

    def planned(data: DataConfig) -> DpSgdEvent:
        institution = institution_config("bank", delta=1e-4, data=data)
        dataset = read_for_run(select_rows(institution, config(labels)), config(labels))
        return event_of_round(config(labels), institution, dataset.units("record"))

    assert planned(without) == planned(having)


def test_prompts_and_responses_are_an_institutions_rows_without_labels(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("instruction,input,output\nDid it rise?,profit rose,yes\n")
    data = DataConfig(train=tmp_path / "rows.csv")
    run = config((), "instruction_tuning")
    assert select_rows(institution_config("bank", delta=1e-4, data=data), run) == data
    [example] = read_for_run(data, run).examples
    assert example == ResponseExample("Did it rise?\n\nprofit rose", "yes", kind="Did it rise?")
    assert len(probe_data(institution_config("bank", data=data), data)) == 1


@pytest.mark.parametrize(
    ("labels", "content"),
    [
        ((), "loss,Negative\ngain,positive\u200b\n"),
        ((), "loss,0\ngain,1.0\n"),
        (("positive", "negative"), "loss,1\ngain,0\n"),
    ],
    ids=["spellings", "places in the run's labels", "places in the institution's labels"],
)
def test_an_institution_reads_the_labels_that_fine_tuning_reads(
    tmp_path: Path, labels: tuple[str, ...], content: str
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + content)
    found = read_for_run(DataConfig(train=tmp_path / "rows.csv", labels=labels), config())
    assert [example.label for example in found.examples] == [0, 1]


def test_words_in_lists_and_tables_in_folders_are_an_institutions_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"tokens": ["Bank", "rose"], "ner_tags": ["S-ORG", "O"], "who": "a"}\n')
    data = DataConfig(train=tmp_path / "rows.jsonl", customer_column="who")
    institution = institution_config("bank", delta=1e-4, unit="customer", data=data)
    run = config(("O", "B-ORG"), task="financial_ner", unit="customer")
    found = read_for_run(select_rows(institution, run), run)
    assert found.examples == (TokenExample(("Bank", "rose"), (1, 0), "a"),)
    assert probe_data(institution, data).labels == ("O", "B-ORG")
    (tmp_path / "folder").mkdir()
    rows(tmp_path / "folder" / "one.csv", "loss,negative")
    rows(tmp_path / "folder" / "two.csv", "gain,positive")
    assert len(read_for_run(DataConfig(train=tmp_path / "folder"), config())) == 2


def test_words_with_other_tags_leave_their_sentence_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("Bank B-ORG\nrose O\n\nAnna B-PER\nleft O\n\nprofit O\n\n")
    run = config(("O", "B-ORG"), task="financial_ner")
    dataset = read_for_run(DataConfig(train=path), run)
    assert [example.words for example in dataset.examples] == [("Bank", "rose"), ("profit",)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"labels": ()}, RefusalCode.CONFIG),
        ({"task": "financial_ner"}, RefusalCode.TASK),
        ({"unit": "customer"}, RefusalCode.PRIVACY_LIMIT),
    ],
)
def test_whatever_needs_no_row_is_refused_before_a_row_is_read(changes: dict[str, Any], code: RefusalCode) -> None:
    institution = institution_config("bank", delta=1e-4, data=DataConfig(train=Path("nowhere.csv")))
    run = config(**changes) if "labels" not in changes else replace(config(), labels=())
    with pytest.raises(AssignmentRefused) as refused:
        select_rows(institution, run)
    assert refused.value.code == code


def test_customers_without_a_column_are_refused_before_a_row_is_read() -> None:
    institution = institution_config("bank", delta=1e-4, unit="customer", data=DataConfig(train=Path("nowhere.csv")))
    with pytest.raises(AssignmentRefused, match="set customer_column"):
        select_rows(institution, config(unit="customer"))


TRENDS = {"trend": ("up", "down")}


def instructions(path: Path, *outputs: str) -> DataConfig:
    path.write_text("instruction,kind,output\n" + "".join(f"Name it.,trend,{each}\n" for each in outputs))
    return DataConfig(train=path, answers=TRENDS)


def test_rows_with_answers_that_the_run_does_not_declare_are_left_out_one_by_one(tmp_path: Path) -> None:
    asked = replace(config((), "instruction_tuning"), answers=TRENDS)
    few = read_for_run(instructions(tmp_path / "few.csv", "up", "down"), asked)
    more = read_for_run(instructions(tmp_path / "more.csv", "up", "flat", "down"), asked)
    assert few.examples == more.examples
    assert more.answers == TRENDS


def test_an_answer_set_that_differs_from_the_runs_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    institution = institution_config("bank", delta=1e-4, data=instructions(tmp_path / "rows.csv", "up"))
    (tmp_path / "rows.csv").unlink()
    same = replace(config((), "instruction_tuning"), answers={"trend": ("Down", "Up"), "other": ("a", "b")})
    assert select_rows(institution, same) == institution.data
    with pytest.raises(AssignmentRefused, match=r'declare different answers of kind "trend": agree on one set') as told:
        select_rows(institution, replace(same, answers={"trend": ("rises", "falls")}))
    assert told.value.code == RefusalCode.CONFIG
