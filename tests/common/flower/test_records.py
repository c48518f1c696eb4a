"""Flower carries sealed bytes as one value, and nothing else is taken for one."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError

with warnings.catch_warnings():
    # flwr pins a typer that uses a name click 8.5 deprecates. Not ours to mend, and only while importing.
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)
    from flwr.app import ConfigRecord, Error, MetricRecord, RecordDict

    from common.flower.records import RelayError, from_error, from_record, to_error, to_record


@given(st.binary(max_size=500))
def test_sealed_bytes_survive_the_record(sealed: bytes) -> None:
    assert from_record(to_record(sealed)) == sealed


@pytest.mark.parametrize(
    "record",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"sealed": b"x"})}),
        RecordDict({"fedfin": MetricRecord({"sealed": 1})}),
        RecordDict({"fedfin": ConfigRecord({})}),
        RecordDict({"fedfin": ConfigRecord({"sealed": "text"})}),
        RecordDict({"fedfin": ConfigRecord({"sealed": [b"x"]})}),
        RecordDict({"fedfin": ConfigRecord({"sealed": b"x", "examples": 12})}),
        RecordDict({"fedfin": ConfigRecord({"sealed": b"x"}), "metrics": MetricRecord({"loss": 0.3})}),
    ],
)
def test_any_other_record_is_refused(record: RecordDict) -> None:
    with pytest.raises(MessageError):
        from_record(record)


@pytest.mark.parametrize("why", list(RelayError))
def test_an_error_is_one_word_of_a_closed_list_and_survives_flower(why: RelayError) -> None:
    error = to_error(why)
    assert error.reason == str(why)
    assert from_error(error) is why


def test_an_error_of_flowers_own_is_none_of_ours() -> None:
    assert from_error(Error(code=2, reason="unavailable")) is None
    assert from_error(Error(code=to_error(RelayError.LATE).code, reason="/srv/bank/rows.csv")) is None
