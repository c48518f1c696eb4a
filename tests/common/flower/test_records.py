"""Flower carries sealed bytes as one value, and nothing else is taken for one."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from server.hub.config import GatewaySettings

with warnings.catch_warnings():
    # flwr pins a typer that uses a name click 8.5 deprecates. Not ours to mend, and only while importing.
    warnings.filterwarnings("ignore", "'click.utils", DeprecationWarning)
    from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
    from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore

    from common.flower.records import RelayError, from_error, from_record, to_error, to_record


MIB = 2**20
PIECES = Array(dtype="uint8", shape=(3,), stype="bytes", data=b"abc")


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
        RecordDict({"fedfin": ArrayRecord({"sealed": Array(np.zeros(3))})}),
        RecordDict({"fedfin": ArrayRecord({"sealed": PIECES, "more": PIECES})}),
        RecordDict({"fedfin": ConfigRecord({"sealed": b"x"}), "metrics": MetricRecord({"loss": 0.3})}),
    ],
)
def test_any_other_record_is_refused(record: RecordDict) -> None:
    with pytest.raises(MessageError):
        from_record(record)


def record_of(size: int) -> RecordDict:
    return to_record(os.urandom(size))


@pytest.mark.parametrize(("size", "pieces"), [(100, 0), (5 * MIB, 0), (10 * MIB, 2), (80 * MIB, 16)])
def test_a_long_adapter_travels_in_pieces_below_the_gateways_limit(size: int, pieces: int) -> None:
    record = record_of(size)
    sizes = [len(each.deflate()) for each in get_all_nested_objects(record).values()]
    assert (
        max(sizes)
        < 5 * MIB + 4096
        < GatewaySettings(address="hub:1", listen="hub:1", names=("hub",)).max_body_mib * MIB
    )
    assert sum(each > 4096 for each in sizes) == (pieces or size > 4096)


def test_after_a_cut_the_pieces_that_arrived_are_not_sent_again() -> None:
    record = record_of(12 * MIB)
    contents = {name: each.deflate() for name, each in get_all_nested_objects(record).items()}
    store, tree = InMemoryObjectStore(), get_object_tree(record)
    asked = store.preregister(1, tree)
    assert set(asked) == set(contents)
    arrived = [name for name in asked if len(contents[name]) > 4096][:2]
    for name in arrived:
        store.put(name, contents[name])
    left = store.preregister(1, tree)
    assert set(left) == set(contents) - set(arrived)
    for name in left:
        store.put(name, contents[name])
    held = {name: store.get(name) or b"" for name in contents}
    whole = inflate_object_from_contents(record.object_id, held)
    assert isinstance(whole, RecordDict)
    assert from_record(whole) == from_record(record)


@pytest.mark.parametrize("why", list(RelayError))
def test_an_error_is_one_word_of_a_closed_list_and_survives_flower(why: RelayError) -> None:
    error = to_error(why)
    assert error.reason == str(why)
    assert from_error(error) is why


def test_an_error_of_flowers_own_is_none_of_ours() -> None:
    assert from_error(Error(code=2, reason="unavailable")) is None
    assert from_error(Error(code=to_error(RelayError.LATE).code, reason="/srv/bank/rows.csv")) is None
