"""The personal part of an institution in a run: own label shares, an own head, an own adapter, or further steps.

The agent asks a `Method` which tensors a round trains from, which of them travel and which stay, and lets it make the
personal model at the end. Whatever is trained on private rows is charged by `client.federation`. Nothing here opens a
message, and nothing that stays is ever put into one.
"""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.personalisation.finish import begin, finish
    from client.personalisation.methods import Method, method_of
    from client.personalisation.part import PersonalPart
    from client.personalisation.record import PersonalRecord, read_record, read_records

__all__ = ["Method", "PersonalPart", "PersonalRecord", "begin", "finish", "method_of", "read_record", "read_records"]

_PLACES = {
    "Method": "client.personalisation.methods:Method",
    "PersonalPart": "client.personalisation.part:PersonalPart",
    "PersonalRecord": "client.personalisation.record:PersonalRecord",
    "begin": "client.personalisation.finish:begin",
    "finish": "client.personalisation.finish:finish",
    "method_of": "client.personalisation.methods:method_of",
    "read_record": "client.personalisation.record:read_record",
    "read_records": "client.personalisation.record:read_records",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)
