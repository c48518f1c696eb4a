"""Tasks of Label Studio (its JSON and JSON-MIN exports) as rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.spans import Span, tagged_row
from common.errors import DataError

__all__ = ["is_label_studio", "label_studio_rows"]

Row = dict[str, object]
Answer = tuple[list[tuple[str, str]], list[str], list[tuple[Span, str]]]
"""Chosen labels with their questions, written texts, and labelled stretches with their texts."""

_TEXTS = ("text", "sentence", "content", "body", "narrative")
_SPANS = ("labels", "hypertextlabels")


def is_label_studio(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all records are tasks of Label Studio."""
    whole = all(isinstance(each.get("data"), Mapping) and isinstance(each.get("annotations"), list) for each in records)
    return bool(records) and (whole or any(_is_span(value) for each in records for value in _lists(each)))


def label_studio_rows(
    path: Path, records: Sequence[tuple[int, Mapping[str, Any]]], left_out: Counter[str]
) -> list[tuple[int, Row]]:
    """Return a row for each task that has an answer, with its number. The other tasks are counted in `left_out`.

    Raises:
        DataError: A task has no text, two labels, or labelled stretches that overlap or lie outside of the text.
    """
    tasks = []
    for number, record in records:
        try:
            tasks.append((number, *_task(path, number, record)))
        except (AttributeError, LookupError, TypeError):
            raise DataError(f"{path}: row {number} is no task as Label Studio exports it: export it again") from None
    has_spans = any(spans for _, _, answers in tasks for _, _, spans in answers)
    rows: list[tuple[int, Row]] = []
    for number, fields, answers in tasks:
        if not answers or (not has_spans and not any(any(answer) for answer in answers)):
            left_out["nobody has labelled them"] += 1
        elif any(answer != answers[0] for answer in answers):
            left_out["two people labelled them differently (mark one annotation as ground truth)"] += 1
        else:
            rows.append((number, fields | _answered(path, number, str(fields["text"]), answers[0])))
    return rows


def _task(path: Path, number: int, record: Mapping[str, Any]) -> tuple[Row, list[Answer]]:
    """Return the fields of a task, with its text as "text", and the answers to it."""
    if "annotations" not in record:  # JSON-MIN: one answer beside the fields
        fields = {name: value for name, value in record.items() if not isinstance(value, list)}
        results = [{"type": "labels", "value": each} for value in _lists(record) if _is_span(value) for each in value]
        return fields | {"text": _text_of(path, number, fields)}, [_answer(results)]
    fields = {name: value for name, value in record["data"].items() if not isinstance(value, list)}
    finished = [each for each in record["annotations"] if not each.get("was_cancelled")]
    chosen = [each for each in finished if each.get("ground_truth")] or finished
    return fields | {"text": _text_of(path, number, fields)}, [_answer(each.get("result") or ()) for each in chosen]


def _lists(record: Mapping[str, Any]) -> Iterator[list[Any]]:
    return (value for value in record.values() if isinstance(value, list))


def _is_span(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(each, Mapping) and {"start", "end", "labels"} <= set(each) for each in value)


def _answer(results: Sequence[Mapping[str, Any]]) -> Answer:
    labels: list[tuple[str, str]] = []
    written: list[str] = []
    spans: list[tuple[Span, str]] = []
    for result in results:
        value, kind = result.get("value") or {}, result.get("type")
        if kind == "choices":
            labels += [(str(result.get("from_name", "label")), str(choice)) for choice in value.get("choices", ())]
        elif kind == "textarea":
            texts = value.get("text", ())
            written += [texts] if isinstance(texts, str) else list(texts)
        elif kind in _SPANS and isinstance(value.get("start"), int) and isinstance(value.get("end"), int):
            names = value.get(kind) or value.get("labels") or ()
            spans += [((value["start"], value["end"], str(name)), str(value.get("text", ""))) for name in names]
    return sorted(labels), written, sorted(spans)


def _answered(path: Path, number: int, text: str, answer: Answer) -> Row:
    labels, written, spans = answer
    if not labels and not written:
        return tagged_row(path, number, text, [_located(text, span, quoted) for span, quoted in spans])
    row: Row = {"summary": "\n".join(written)} if written else {}
    for question, label in labels:
        if question in row:
            raise DataError(f"{path}: row {number} has more than one label: leave one, since a text has one label")
        row[question] = label
    return row | {"label": labels[0][1]} if len(labels) == 1 else row


def _located(text: str, span: Span, quoted: str) -> Span:
    """Return a span in characters. Label Studio runs in a browser, which counts a character such as an emoji twice."""
    start, end, kind = span
    if not quoted or text[start:end] == quoted:
        return span
    units = text.encode("utf-16-le", errors="surrogatepass")
    before, part = (units[2 * a : 2 * b].decode("utf-16-le", errors="replace") for a, b in ((0, start), (start, end)))
    return (len(before), len(before) + len(part), kind) if part == quoted else span


def _text_of(path: Path, number: int, data: Mapping[str, Any]) -> str:
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    name = next((name for name in _TEXTS if name in texts), next(iter(texts), None) if len(texts) == 1 else None)
    if name is None:
        raise DataError(f'{path}: row {number} has no "text": name the field with the text so, and export again')
    return texts[name]
