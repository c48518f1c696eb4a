"""Requests and packages: the files that two people exchange, and the values that nobody can alter on the way."""

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EnrolmentError
from common.identity.authority import Authority, new_key_and_request, node_key_text
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest, format_fingerprint
from common.identity.keys import PrivateKeys
from common.identity.tls import split_address

HUB, BANK, OTHER = PrivateKeys.generate("hub"), PrivateKeys.generate("bank"), PrivateKeys.generate("other")
_, CSR = new_key_and_request("bank")
NODE = node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key())
REQUEST = EnrolmentRequest.make(BANK, CSR, NODE)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> EnrolmentPackage:
    authority = Authority.create(tmp_path_factory.mktemp("ca") / "ca", "hub authority")
    certificate = authority.issue_client(CSR, "bank", timedelta(days=1))
    return EnrolmentPackage.make(HUB, REQUEST, certificate, authority.pem, "hub.example.org:8443", "ab" * 32)


def altered(text: str, change: Callable[[dict[str, Any]], None]) -> str:
    value = json.loads(text)
    change(value)
    return json.dumps(value)


def test_a_request_and_a_package_are_read_as_they_were_written(package: EnrolmentPackage) -> None:
    assert EnrolmentRequest.from_json(REQUEST.to_json()) == REQUEST
    assert EnrolmentRequest.from_json(REQUEST.to_json() + "\n").fingerprint == REQUEST.fingerprint
    assert EnrolmentPackage.from_json(package.to_json()) == package
    package.check_answers(REQUEST)


def test_the_spoken_fingerprint_differs_for_every_other_request() -> None:
    assert len(format_fingerprint(REQUEST.fingerprint).split()) == 8
    again = EnrolmentRequest.make(BANK, CSR, node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key()))
    assert format_fingerprint(again.fingerprint) != format_fingerprint(REQUEST.fingerprint)


@pytest.mark.parametrize("part", ["keys", "csr", "node_key", "signature", "name"])
def test_no_part_of_a_request_can_be_exchanged(part: str) -> None:
    _, csr = new_key_and_request("bank")
    values = {
        "keys": json.loads(OTHER.public.to_json()) | {"name": "bank"},
        "csr": csr,
        "node_key": node_key_text(ec.generate_private_key(ec.SECP384R1()).public_key()),
        "signature": "00" * 64,
    }

    def change(value: dict[str, Any]) -> None:
        if part == "name":
            value["keys"]["name"] = "other"
        else:
            value[part] = values[part]

    with pytest.raises(EnrolmentError):
        EnrolmentRequest.from_json(altered(REQUEST.to_json(), change))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("address", "evil.example.org:8443"),
        ("app_sha256", "cd" * 32),
        ("institution", "other"),
        ("request_fingerprint", "00" * 32),
        ("hub", json.loads(OTHER.public.to_json())),
        ("signature", ""),
        ("extra", "1"),
    ],
)
def test_no_part_of_a_package_can_be_exchanged(package: EnrolmentPackage, part: str, value: object) -> None:
    with pytest.raises(EnrolmentError):
        EnrolmentPackage.from_json(altered(package.to_json(), lambda fields: fields.update({part: value})))


def test_a_package_holds_a_certificate_of_its_own_authority_for_its_own_institution(
    package: EnrolmentPackage, tmp_path: Path
) -> None:
    authority = Authority.create(tmp_path / "ca", "hub authority")
    with pytest.raises(EnrolmentError, match="authority"):
        EnrolmentPackage.make(HUB, REQUEST, package.certificate, authority.pem, "hub:1", "ab" * 32)
    for_other = authority.issue_client(CSR, "other", timedelta(days=1))
    with pytest.raises(EnrolmentError, match="another's"):
        EnrolmentPackage.make(HUB, REQUEST, for_other, authority.pem, "hub:1", "ab" * 32)


def test_a_package_for_another_request_is_refused(package: EnrolmentPackage) -> None:
    again = EnrolmentRequest.make(BANK, new_key_and_request("bank")[1], NODE)
    with pytest.raises(EnrolmentError, match="another request"):
        package.check_answers(again)


def test_only_node_keys_that_flower_can_register_are_taken() -> None:
    weak = ed25519.Ed25519PrivateKey.generate().public_key()
    for text in (
        "",
        "x",
        NODE + "\n",
        weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        node_key_text(ec.generate_private_key(ec.SECP256K1()).public_key()),
    ):
        with pytest.raises(EnrolmentError, match="Flower key"):
            EnrolmentRequest.make(BANK, CSR, text)


@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.recursive(st.text() | st.none(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps),
    )
)
def test_any_other_text_is_refused_in_one_line(text: str | bytes) -> None:
    for kind in (EnrolmentRequest, EnrolmentPackage):
        with pytest.raises(EnrolmentError) as caught:
            kind.from_json(text)
        assert "\n" not in str(caught.value)


@given(st.integers(0, len(REQUEST.to_json()) - 1), st.integers(0, 127))
def test_a_request_with_one_character_changed_is_refused_or_the_same(position: int, code: int) -> None:
    text = REQUEST.to_json()
    changed = text[:position] + chr(code) + text[position + 1 :]
    with contextlib.suppress(EnrolmentError):
        assert EnrolmentRequest.from_json(changed) == REQUEST


@pytest.mark.parametrize(
    ("address", "parts"),
    [("hub.example.org:8443", ("hub.example.org", 8443)), ("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:9", ("::1", 9))],
)
def test_addresses_are_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "hub", "hub:", "hub:0", "hub:65536", "hub:8443/x", "a b:1", "::1:9", "hub:1\n"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(EnrolmentError, match="host:port"):
        split_address(address)
