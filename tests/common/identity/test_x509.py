"""The parts of certificates: names as they must be, foreign requests and certificates read with one clear error."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.errors import EnrolmentError
from common.identity.x509 import (
    certificate_builder,
    common_name,
    general_name,
    key_usage,
    load_certificate,
    load_request,
    private_pem,
)

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = ec.generate_private_key(ec.SECP384R1())


def subject(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def request(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject("bank-a"))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def certificate() -> x509.Certificate:
    builder = certificate_builder(
        subject("bank-a"), subject("authority"), KEY.public_key(), ISSUER.public_key(), timedelta(days=30)
    )
    return builder.sign(ISSUER, hashes.SHA384())


def test_a_certificate_is_valid_now_for_its_lifetime_and_names_both_keys() -> None:
    made = load_certificate(certificate().public_bytes(serialization.Encoding.PEM))
    now = datetime.now(UTC)
    assert made.not_valid_before_utc < now - timedelta(minutes=4)
    assert timedelta(days=29, hours=23) < made.not_valid_after_utc - now <= timedelta(days=30)
    mine = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    theirs = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert mine == x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
    assert theirs == x509.AuthorityKeyIdentifier.from_issuer_public_key(ISSUER.public_key())
    assert common_name(made.subject) == "bank-a"


def test_a_key_has_the_named_uses_and_no_other() -> None:
    usage = key_usage(digital_signature=True, key_cert_sign=True)
    assert (usage.digital_signature, usage.key_cert_sign) == (True, True)
    assert not any((usage.key_encipherment, usage.key_agreement, usage.crl_sign, usage.content_commitment))


@pytest.mark.parametrize(("text", "kind"), [
    ("127.0.0.1", x509.IPAddress), ("::1", x509.IPAddress), ("hub.example", x509.DNSName), ("hub-1", x509.DNSName),
])  # fmt: skip
def test_a_host_is_an_address_or_a_name(text: str, kind: type) -> None:
    name = general_name(text)
    assert isinstance(name, kind)
    assert str(name.value) == text


@pytest.mark.parametrize("text", ["", "a..b", "hub/x", "bär.example", "a b", "x" * 254, "*.example"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(EnrolmentError, match="neither a host name nor an IP address"):
        general_name(text)


def test_a_request_gives_the_subject_and_the_key_that_signed_it() -> None:
    name, key = load_request(request().decode())
    assert common_name(name) == "bank-a"
    assert key.public_numbers() == KEY.public_key().public_numbers()


def test_a_damaged_request_or_one_on_another_curve_is_refused() -> None:
    der = bytearray(x509.load_pem_x509_csr(request()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    for pem in (b"", b"no request", forged, request() + b"\n" * 20_000):
        with pytest.raises(EnrolmentError, match="damaged"):
            load_request(pem)
    with pytest.raises(EnrolmentError, match="P-256 or P-384"):
        load_request(request(ec.generate_private_key(ec.SECP521R1())))


def test_a_certificate_that_is_none_is_refused() -> None:
    for pem in ("", request(), certificate().public_bytes(serialization.Encoding.PEM) + b"\n" * 20_000):
        with pytest.raises(EnrolmentError, match=r"not an X\.509 certificate"):
            load_certificate(pem)


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_a_subject_has_exactly_one_common_name(names: tuple[str, ...]) -> None:
    with pytest.raises(EnrolmentError, match="exactly one common name"):
        common_name(subject(*names))


def test_a_private_key_comes_back_from_its_text() -> None:
    loaded = serialization.load_pem_private_key(private_pem(KEY), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.private_numbers() == KEY.private_numbers()
