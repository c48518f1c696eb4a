"""Whatever byte of a certificate or a request is changed, it is read as one or refused in one line."""

import base64
import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EnrolmentError
from common.identity.authority import Certificate, check_request, new_key_and_request
from common.identity.chains import authority_of, check_client_chain
from tests.outside_authority import OutsideAuthority

KEY, CSR = new_key_and_request("north")
BANK = OutsideAuthority("bank")
LEAF = ssl.PEM_cert_to_DER_cert(BANK.issue(CSR, up_to="leaf"))
DIGEST = Certificate.of_der(LEAF).key
BODY = base64.b64decode("".join(CSR.split("\n")[1:-2]))
# `cryptography` only warns of a serial number that is not positive, and fedfin refuses it.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def pem(kind: str, der: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"


def changed(der: bytes, position: int, value: int) -> bytes:
    return der[:position] + bytes([value]) + der[position + 1 :]


def read_request(der: bytes) -> None:
    with contextlib.suppress(EnrolmentError):
        check_request(pem("CERTIFICATE REQUEST", der), "north")


def read_certificate(der: bytes) -> None:
    text = pem("CERTIFICATE", der)
    for read in (
        lambda: Certificate.read(text),
        lambda: Certificate.of_der(der),
        lambda: check_client_chain(text + BANK.issuing, "north", DIGEST),
        lambda: authority_of(text),
    ):
        with contextlib.suppress(EnrolmentError):
            read()


@given(st.integers(0, len(BODY) - 1), st.integers(0, 255))
def test_a_request_with_one_byte_changed_is_read_or_refused(position: int, value: int) -> None:
    read_request(changed(BODY, position, value))


@given(st.integers(0, len(LEAF) - 1), st.integers(0, 255))
def test_a_certificate_with_one_byte_changed_is_read_or_refused(position: int, value: int) -> None:
    read_certificate(changed(LEAF, position, value))


@pytest.mark.parametrize("kind", ["version", "curve", "extensions"])
def test_a_part_of_an_unknown_kind_is_refused(kind: str) -> None:
    """The parts that a random change seldom meets."""
    for der, read in ((BODY, read_request), (LEAF, read_certificate)):
        start = {"version": b"\x02\x01", "curve": b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01", "extensions": b"\x55\x1d"}
        place = der.find(start[kind]) + len(start[kind])
        for value in range(256):
            read(changed(der, place, value))


@pytest.mark.parametrize("first", [0x80, 0xFF])
def test_a_negative_serial_number_is_refused(first: int) -> None:
    tag = LEAF.find(b"\xa0\x03\x02\x01\x02\x02") + 5  # the tag of the serial number follows that of the version
    with pytest.raises(EnrolmentError):
        Certificate.of_der(changed(LEAF, tag + 2, first))
