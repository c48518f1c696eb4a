"""Exports of annotation tools become labelled rows, and rows without one clear label are counted."""

import json
from pathlib import Path

import pytest

from common.data.annotation_exports import converted, fiqa_rows
from common.data.cells import as_texts
from common.data.files import open_table
from common.data.label_studio import is_label_studio
from common.data.reading import read_labelled
from common.data.tables import read_rows
from common.errors import DataError

SECRET = "zxq secret phrase"
TEXT = "Acme Corp. bought Tarn Retail."
SPANS = [[0, 10, "ORG"], [18, 29, "ORG"]]
WORDS = ["Acme", "Corp", ".", "bought", "Tarn", "Retail", "."]
TAGS = ["B-ORG", "I-ORG", "I-ORG", "O", "B-ORG", "I-ORG", "O"]


def read_lists(path: Path, columns: tuple[str, ...]) -> list[dict[str, list[str]]]:
    rows = open_table(path, columns).rows
    return [{name: as_texts(path, number, name, row.get(name)) for name in columns} for number, row in rows]


def written(path: Path, records: list[dict[str, object]]) -> Path:
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]")
    return path


def studio(text: str, *answers: list[dict[str, object]], **more: object) -> dict[str, object]:
    return {"id": 1, "data": {"text": text}, "annotations": [{"result": list(answer), **more} for answer in answers]}


def choice(label: str, question: str = "sentiment") -> dict[str, object]:
    return {"from_name": question, "to_name": "text", "type": "choices", "value": {"choices": [label]}}


def stretch(start: int, end: int, label: str, text: str) -> dict[str, object]:
    return {"type": "labels", "value": {"start": start, "end": end, "text": text, "labels": [label]}}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_labels_of_doccano_become_rows(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    records = [
        {"id": 1, "text": "Profit rose", "label": ["positive"], "Comments": []},
        {"id": 2, "text": "Sales fell", "label": ["negative"], "Comments": []},
        {"id": 3, "text": "Nobody labelled this", "label": [], "Comments": []},
    ]
    rows = read_rows(written(tmp_path / name, records), ("text", "label"))
    assert rows == [{"text": "Profit rose", "label": "positive"}, {"text": "Sales fell", "label": "negative"}]
    assert "1 rows were left out: nobody has labelled them" in caplog.text


@pytest.mark.parametrize(
    "labels",
    [
        {"label": SPANS},
        {"labels": SPANS},
        {
            "entities": [{"id": 1, "label": kind, "start_offset": a, "end_offset": b} for a, b, kind in SPANS],
            "relations": [],
        },
    ],
)
def test_stretches_of_doccano_become_words_with_tags(tmp_path: Path, labels: dict[str, object]) -> None:
    records = [{"id": 1, "text": TEXT} | labels, {"id": 2, "text": "No name."} | {name: [] for name in labels}]
    rows = read_lists(written(tmp_path / "a.jsonl", records), ("tokens", "ner_tags"))
    assert rows[0] == {"tokens": WORDS, "ner_tags": TAGS}
    assert rows[1] == {"tokens": ["No", "name", "."], "ner_tags": ["O", "O", "O"]}


def test_choices_of_label_studio_become_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [
        studio("Profit rose", [choice("positive")]),
        studio("Sales fell", [choice("negative")], [choice("negative")]),
        studio("Two opinions", [choice("positive")], [choice("negative")]),
        studio("Skipped", [choice("positive")], was_cancelled=True),
        studio("No answer", []),
        studio("Ground truth", [choice("negative")]) | {"predictions": [{"result": [choice("positive")]}]},
    ]
    records[-1]["annotations"] += [{"result": [choice("positive")], "ground_truth": True}]
    rows = read_rows(written(tmp_path / "a.json", records), ("text", "label"))
    assert [tuple(row.values()) for row in rows] == [
        ("Profit rose", "positive"),
        ("Sales fell", "negative"),
        ("Ground truth", "positive"),
    ]
    assert "1 rows were left out: two people labelled them differently" in caplog.text
    assert "2 rows were left out: nobody has labelled them" in caplog.text


def test_two_questions_of_label_studio_become_two_columns(tmp_path: Path) -> None:
    records = [studio("Profit rose", [choice("positive"), choice("high", "risk")])]
    [row] = read_rows(written(tmp_path / "a.json", records), ("text", "sentiment", "risk"))
    assert (row["sentiment"], row["risk"]) == ("positive", "high")


@pytest.mark.parametrize("shape", ["tasks", "json-min"])
def test_stretches_of_label_studio_become_words_with_tags(tmp_path: Path, shape: str) -> None:
    spans = [stretch(a, b, kind, TEXT[a:b]) for a, b, kind in SPANS]
    # Label Studio runs in a browser, which counts an emoji as two characters.
    emoji = [stretch(3, 7, "ORG", "Tarn")]
    records = [studio(TEXT, spans), studio("🙂 Tarn rose", emoji)]
    if shape == "json-min":
        texts = zip((TEXT, "🙂 Tarn rose"), (spans, emoji), strict=True)
        records = [dict[str, object](text=text, id=1, label=[span["value"] for span in found]) for text, found in texts]
    rows = read_lists(written(tmp_path / "a.json", records), ("tokens", "ner_tags"))
    assert rows[0] == {"tokens": WORDS, "ner_tags": TAGS}
    assert rows[1] == {"tokens": ["🙂", "Tarn", "rose"], "ner_tags": ["O", "B-ORG", "O"]}


def test_written_answers_of_label_studio_become_summaries(tmp_path: Path) -> None:
    answer: dict[str, object] = {"type": "textarea", "from_name": "summary", "value": {"text": ["It", "rose."]}}
    records = [studio("Profit rose by a lot.", [answer])]
    dataset = read_labelled(written(tmp_path / "a.json", records), "document_summarization")
    assert dataset.examples[0].response == "It\nrose."


def test_scores_of_fiqa_become_classes_by_the_rule_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opinions = [{"sentiment_score": score, "target": "A"} for score in ("-0.374", "0.05", "0.4")]
    content = {
        "1": {"sentence": "A fell, then rose", "info": opinions[:2]},
        "2": {"sentence": "B rose", "info": opinions[2:]},
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    rows = read_rows(tmp_path / "a.json", ("text", "label"))
    assert [row["label"] for row in rows] == ["negative", "neutral", "positive"]
    assert "below -0.1 is negative, above 0.1 is positive, otherwise neutral" in caplog.text


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"text": SECRET, "label": ["a", "b"]}], "row 1 has 2 labels: leave one"),
        ([{"text": SECRET, "label": [[0, 9, "ORG"], [3, 12, "LOC"]]}], "row 1: two spans overlap"),
        ([{"text": SECRET, "label": [[3, 99, "ORG"]]}], "row 1: a span is empty or lies outside"),
        ([{"text": SECRET, "label": ["a", [0, 3, "ORG"]]}], "row 1 has labels of the whole text and of its parts"),
        ([studio(SECRET, [choice("a"), choice("b")])], "row 1 has more than one label"),
        ([{"data": {"headline": SECRET, "body_text": "x"}, "annotations": []}], 'row 1 has no "text"'),
        ([studio(SECRET)], "no row has a label"),
    ],
)
def test_a_faulty_export_is_one_line_without_its_text(
    tmp_path: Path, records: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_rows(written(tmp_path / "a.json", records))
    assert SECRET not in str(caught.value)


def test_rows_that_only_look_like_an_export_stay_as_they_are(tmp_path: Path) -> None:
    records = [{"tokens": ["Acme", "rose"], "ner_tags": ["B-ORG", "O"], "text": "Acme rose", "labels": [1, 0]}]
    path = written(tmp_path / "a.jsonl", records)
    assert read_lists(path, ("tokens", "labels")) == [{"tokens": ["Acme", "rose"], "labels": ["1", "0"]}]


def test_records_of_no_tool_are_left_to_the_reader_of_tables() -> None:
    path = Path("a.json")
    for record in ({"text": "a", "label": "b"}, {"data": {"text": "a"}}, {"info": [], "sentence": 1}, {}):
        assert converted(path, [(1, record)]) is None
        assert not is_label_studio([record])
    contents: list[object] = [[], {}, {"1": {"sentence": "a"}}, "text"]
    assert [fiqa_rows(path, content) for content in contents] == [None] * 4


@pytest.mark.parametrize(
    "annotations",
    [
        [17],
        [{"result": [SECRET]}],
        [{"result": [{"type": "choices", "value": [SECRET]}]}],
        [{"result": [{"type": "choices", "value": {"choices": None}}]}],
    ],
)
def test_a_task_of_another_form_is_one_line(tmp_path: Path, annotations: list[object]) -> None:
    records = [studio("good", [choice("up")]), {"id": 2, "data": {"text": SECRET}, "annotations": annotations}]
    with pytest.raises(DataError, match="row 2 is no task as Label Studio exports it") as caught:
        read_rows(written(tmp_path / "a.json", records))
    assert SECRET not in str(caught.value)


def test_an_opinion_of_another_form_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"1": {"sentence": SECRET, "info": [SECRET]}}))
    with pytest.raises(DataError, match="entry 1 has no sentiment_score from -1 to 1") as caught:
        read_rows(tmp_path / "a.json")
    assert SECRET not in str(caught.value)
