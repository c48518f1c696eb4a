"""What is confirmed belongs to one session and one set of members."""

from common.secure_aggregation.session import confirmed_value, packet_context, session_digest
from tests.common.secure_aggregation.federation import terms_of


def test_a_confirmed_value_depends_on_the_session_and_the_members() -> None:
    one = session_digest({"a": b"1", "b": b"2"})
    assert one == session_digest({"b": b"2", "a": b"1"}) != session_digest({"a": b"1", "b": b"3"})
    values = {confirmed_value(one, ("a", "b")), confirmed_value(one, ("a",)), confirmed_value("0", ("a", "b"))}
    assert len(values) == 3


def test_a_packet_belongs_to_its_parties() -> None:
    terms = terms_of(("a", "b", "c"), 3, 2)
    assert packet_context(terms, "a", "b") != packet_context(terms, "b", "a")
