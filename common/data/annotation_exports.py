"""Exports of the annotation tools doccano and Label Studio, and the JSON of FiQA, as tables.

A labelled text becomes a row with `text` and `label`. A text with labelled stretches becomes a row with `tokens` and
`ner_tags`. A text with a written answer becomes a row with `text` and `summary`.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.label_studio import is_label_studio, label_studio_rows
from common.data.scores import SCORE_RULE, class_of_score, score_of
from common.data.spans import Span, tagged_row
from common.errors import DataError

__all__ = ["converted", "fiqa_rows"]

log = logging.getLogger(__name__)

Row = dict[str, object]

_DOCCANO_LABELS = ("label", "labels", "annotations", "entities")
_DOCCANO_LISTS = (*_DOCCANO_LABELS, "relations", "Comments", "comments")


def converted(path: Path, records: Sequence[tuple[int, Mapping[str, Any]]]) -> list[tuple[int, Row]] | None:
    """Return the rows of an export with their numbers in the file, or None if the records come from no known tool.

    Texts that nobody has labelled, and those that two people labelled differently, are left out and counted in a
    warning.

    Args:
        path: For messages.
        records: The objects of a JSON file, with their numbers in it.

    Raises:
        DataError: A row has more than one label, or labelled stretches that overlap or lie outside of the text.
    """
    left_out: Counter[str] = Counter()
    objects = [record for _, record in records]
    if is_label_studio(objects):
        rows = label_studio_rows(path, records, left_out)
    elif all(map(_is_doccano, objects)) and any(map(_doccano_labels, objects)):
        rows = _doccano(path, records, left_out)
    else:
        return None
    for reason, count in left_out.items():
        log.warning("%s: %d rows were left out: %s", path, count, reason)
    if not rows:
        raise DataError(f"{path}: no row has a label: label them, and export them again")
    return rows


def fiqa_rows(path: Path, content: object) -> list[tuple[int, Row]] | None:
    """Return a row for each scored target of each sentence, or None if the content is not a file of FiQA.

    Raises:
        DataError: A target has no score from -1 to 1.
    """
    if not isinstance(content, Mapping) or not content or not all(map(_is_fiqa, content.values())):
        return None
    log.warning("%s: scores became classes: %s", path, SCORE_RULE)
    return list(enumerate(_opinions(path, content), start=1))


def _is_fiqa(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("sentence"), str) and isinstance(value.get("info"), list)


def _opinions(path: Path, records: Mapping[str, Any]) -> Iterator[Row]:
    for number, record in enumerate(records.values(), start=1):
        for opinion in record["info"]:
            score = score_of(str(opinion.get("sentiment_score", ""))) if isinstance(opinion, Mapping) else None
            if score is None:
                raise DataError(f"{path}: entry {number} has no sentiment_score from -1 to 1: leave it out")
            yield {
                "text": record["sentence"],
                "label": class_of_score(score),
                "target": opinion.get("target"),
                "sentiment_score": score,
            }


def _is_doccano(record: Mapping[str, Any]) -> bool:
    lists = [name for name, value in record.items() if isinstance(value, list)]
    labels = _doccano_labels(record)
    known = all(
        isinstance(label, str) or (isinstance(label, Mapping) and "label" in label) or _span(label) for label in labels
    )
    return isinstance(record.get("text"), str) and bool(lists) and set(lists) <= set(_DOCCANO_LISTS) and known


def _doccano_labels(record: Mapping[str, Any]) -> list[Any]:
    values = [record[name] for name in _DOCCANO_LABELS if isinstance(record.get(name), list)]
    return [label for value in values for label in value]


def _doccano(
    path: Path, records: Sequence[tuple[int, Mapping[str, Any]]], left_out: Counter[str]
) -> list[tuple[int, Row]]:
    has_spans = any("entities" in each or any(map(_span, _doccano_labels(each))) for _, each in records)
    rows: list[tuple[int, Row]] = []
    for number, record in records:
        labels = _doccano_labels(record)
        others = {name: value for name, value in record.items() if not isinstance(value, list)}
        if has_spans:
            spans = [span for label in labels if (span := _span(label))]
            if len(spans) < len(labels):
                raise DataError(f"{path}: row {number} has labels of the whole text and of its parts: export one kind")
            rows.append((number, others | tagged_row(path, number, record["text"], spans)))
            continue
        names = {str(label.get("label") if isinstance(label, Mapping) else label) for label in labels}
        if len(names) > 1:
            raise DataError(f"{path}: row {number} has {len(names)} labels: leave one, since a text has one label")
        if names:
            rows.append((number, others | {"label": names.pop()}))
        else:
            left_out["nobody has labelled them"] += 1
    return rows


def _span(label: object) -> Span | None:
    match label:
        case [int(start), int(end), str(kind)]:
            return start, end, kind
        case {"start_offset": int(start), "end_offset": int(end), "label": kind}:
            return start, end, str(kind)
    return None
