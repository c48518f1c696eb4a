"""A certificate of an outside authority counts only for its own key, its own name and its own use."""

import copy
import json
import ssl

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.errors import EnrolmentError
from common.identity.authority import Certificate, new_key_and_request
from common.identity.chains import (
    authority_of,
    check_client_chain,
    check_dates,
    check_server_chain,
    read_authorities,
    subject_of,
)
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.identity.x509 import load_certificate, load_key, server_request
from tests.outside_authority import OutsideAuthority
from tests.server.hub.test_directory import make_request

BANK, OTHER = OutsideAuthority("bank"), OutsideAuthority("other")
KEY, CSR = new_key_and_request("north")
NAMES = ("hub.example.org", "10.0.0.7")
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
DIGEST = Certificate.read(BANK.issue(CSR)).key


def test_a_chain_up_to_the_root_or_to_the_issuing_authority_is_accepted() -> None:
    for up_to, authority in (("root", BANK.root), ("issuing", BANK.issuing)):
        chain = BANK.issue(CSR, up_to=up_to)
        check_client_chain(chain, "north", DIGEST)
        check_dates(chain)
        assert authority_of(chain) == authority
    assert subject_of(BANK.root) == "CN=bank root"
    assert authority_of(BANK.issue(CSR, up_to="leaf")) == ""


def test_every_other_chain_is_refused() -> None:
    leaf = BANK.issue(CSR, up_to="leaf")
    wrong = {
        "add those of its issuers": leaf,
        "was not issued by the next one": leaf + OTHER.issuing + OTHER.root,
        "correct their order": leaf + BANK.root + BANK.issuing,
        "common name is not north": BANK.issue(CSR, name="south"),
        "for another key": BANK.issue(new_key_and_request("north")[1]),
        "does not allow this use": BANK.issue(CSR, purpose=SERVER),
        "not a text of 1 to 6": "no certificate",
        "not a text of 1 to 6 ": leaf * 7,
        "not a text of 1 to 6  ": BANK.issue(CSR) + "x" * 32_768,
    }
    for message, chain in wrong.items():
        with pytest.raises(EnrolmentError, match=message.strip()) as error:
            check_client_chain(chain, "north", DIGEST)
        assert "\n" not in str(error.value)


def test_the_owner_of_a_certificate_cannot_issue_others() -> None:
    impostor = copy.copy(BANK)
    impostor._key, impostor._issuing = load_key(KEY), load_certificate(BANK.issue(CSR))  # type: ignore[assignment]
    chain = impostor.issue(new_key_and_request("south")[1], up_to="leaf") + BANK.issue(CSR)
    with pytest.raises(EnrolmentError, match="'CN=north' is no certificate of an authority"):
        check_client_chain(chain, "south", Certificate.read(chain).key)
    with pytest.raises(EnrolmentError, match="is no certificate of an authority"):
        read_authorities(BANK.issue(CSR, up_to="leaf"))
    assert read_authorities(f"comment\n{BANK.root}") == BANK.root


@pytest.mark.parametrize("name", ["north\n12:00 ERROR forged", "n\u00f6rth"])
def test_no_certificate_of_an_outside_authority_forges_a_line_of_a_log(name: str) -> None:
    with pytest.raises(EnrolmentError):
        Certificate.of_der(ssl.PEM_cert_to_DER_cert(BANK.issue(CSR, name=name, up_to="leaf")))


def test_a_server_certificate_is_for_all_names_of_the_hub() -> None:
    request = server_request(load_key(KEY), NAMES)
    for up_to in ("leaf", "issuing", "root"):
        chain, trusted = BANK.issue(request, purpose=SERVER, up_to=up_to), BANK.issuing + BANK.root
        check_server_chain(chain, NAMES, DIGEST, trusted)
        with pytest.raises(EnrolmentError, match="not issued by a trusted authority"):
            check_server_chain(chain, NAMES, DIGEST, OTHER.root)
    with pytest.raises(EnrolmentError, match=r"not valid for hub\.internal"):
        check_server_chain(chain, (*NAMES, "hub.internal"), DIGEST, trusted)
    with pytest.raises(EnrolmentError, match="does not allow this use"):
        check_server_chain(BANK.issue(request), NAMES, DIGEST, trusted)


def test_an_expired_certificate_is_refused_when_it_is_brought_and_readable_later() -> None:
    chain = BANK.issue(CSR, days=-1)
    check_client_chain(chain, "north", DIGEST)
    with pytest.raises(EnrolmentError, match="has expired"):
        check_dates(chain)


def test_a_request_carries_its_chain_under_its_signature() -> None:
    keys, plain = PrivateKeys.generate("north"), make_request("north")
    request = EnrolmentRequest.make(keys, CSR, plain.node_key, BANK.issue(CSR))
    assert EnrolmentRequest.from_json(request.to_json()) == request
    assert request.own_authority == BANK.root
    assert request.has_keys_of(EnrolmentRequest.make(keys, CSR, plain.node_key))
    assert request.fingerprint != EnrolmentRequest.make(keys, CSR, plain.node_key).fingerprint
    exchanged = json.loads(request.to_json()) | {"chain": BANK.issue(CSR)}
    with pytest.raises(EnrolmentError, match="does not verify"):
        EnrolmentRequest.from_json(json.dumps(exchanged))
    with pytest.raises(EnrolmentError, match="for another key"):
        EnrolmentRequest.make(keys, new_key_and_request("north")[1], plain.node_key, BANK.issue(CSR))


def test_a_package_with_a_chain_that_was_not_asked_for_is_refused() -> None:
    keys, node, hub = PrivateKeys.generate("north"), make_request("north").node_key, PrivateKeys.generate("hub")
    plain = EnrolmentRequest.make(keys, CSR, node)
    own = EnrolmentRequest.make(keys, CSR, node, BANK.issue(CSR))
    for request, chain in ((plain, BANK.issue(CSR)), (own, OTHER.issue(CSR))):
        package = EnrolmentPackage.make(hub, request, chain, BANK.root, "127.0.0.1:1", "0" * 64)
        with pytest.raises(EnrolmentError, match="ask for it again"):
            package.check_answers(request)
    package = EnrolmentPackage.make(hub, own, own.chain, BANK.root, "127.0.0.1:1", "0" * 64, OTHER.root)
    package.check_answers(own)
    assert EnrolmentPackage.from_json(package.to_json()) == package
