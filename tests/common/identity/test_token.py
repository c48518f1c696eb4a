"""A signing key in a PKCS#11 token: the same signatures, one line for each fault, and no PIN tried twice by itself."""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import EnvelopeError, FedfinError, PassphraseError, TokenError
from common.identity import keyring, pin, token
from common.identity.keys import PrivateKeys
from common.identity.pin import PinSource, read_pin_from
from common.identity.signer import Signer
from common.identity.token import TokenKey, TokenPlace
from common.journal import Journal, verify
from common.protocol.envelope import MessageContext, open_sealed, seal
from tests.soft_tokens import MODULE, PIN, SoftToken, forget_sessions, needs_softhsm

pytestmark = needs_softhsm

WHERE = MessageContext("run", 1, "contribution", "bank", "hub")


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinSource:
    monkeypatch.setattr(keyring, "_held", {})
    (tmp_path / "keys").mkdir()
    return PinSource(tmp_path / "passphrase.json", tmp_path / "keys" / "pin-refused")


def fault(place: TokenPlace, pins: PinSource) -> str:
    """The one line of what happens."""
    with pytest.raises((TokenError, PassphraseError)) as error:
        TokenKey.open(place, pins)
    assert "\n" not in str(error.value)
    assert PIN not in str(error.value)
    return str(error.value)


def test_a_signature_of_the_token_is_verified_exactly_as_one_of_a_key_in_a_file(
    soft_token: SoftToken, pins: PinSource
) -> None:
    read_pin_from(soft_token.pin_file)
    signer, made = TokenKey.make(soft_token.settings().key_place, pins)
    again, made_again = TokenKey.make(soft_token.settings().key_place, pins)
    assert (made, made_again) == (True, False)
    assert again.public_key() == signer.public_key()
    in_token, in_file, hub = (
        PrivateKeys.generate("bank", signer),
        PrivateKeys.generate("bank"),
        PrivateKeys.generate("hub"),
    )
    for keys in (in_token, in_file):
        for data in (b"", b"x", b"x" * 3_000_000):
            signature = keys.signing_key.sign(data)
            assert len(signature) == 64
            keys.public.signing_key.verify(signature, data)
        sealed = seal(b"an adapter", keys, hub.public, WHERE)
        assert open_sealed(sealed, hub, keys.public, WHERE) == b"an adapter"
    with pytest.raises(EnvelopeError):
        open_sealed(seal(b"an adapter", in_token, hub.public, WHERE), hub, in_file.public, WHERE)


def test_the_files_alone_do_not_sign_and_hold_no_signing_key(
    soft_token: SoftToken, pins: PinSource, tmp_path: Path
) -> None:
    read_pin_from(soft_token.pin_file)
    place = soft_token.settings().key_place
    keys = PrivateKeys.generate("bank", TokenKey.make(place, pins)[0])
    for secret in (None, b"s" * 32):
        directory = tmp_path / f"keys-{secret is None}"
        keys.save(directory, secret)
        opened = PrivateKeys.load(directory, secret, lambda: TokenKey.open(place, pins))
        assert opened.public == keys.public
        assert opened.fingerprint_key() == keys.fingerprint_key()
        with pytest.raises(EnvelopeError, match=r"its signing key is in a token, .* restore \[token\]"):
            PrivateKeys.load(directory, secret)
    assert '"signing":' not in (tmp_path / "keys-True" / "private.json").read_text()
    assert PIN not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_the_key_cannot_be_read_from_the_token(soft_token: SoftToken, pins: PinSource) -> None:
    import pkcs11

    read_pin_from(soft_token.pin_file)
    TokenKey.make(soft_token.settings().key_place, pins)
    session = next(iter(token._sessions.values()))
    private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY)
    with pytest.raises(pkcs11.AttributeSensitive):
        private[pkcs11.Attribute.VALUE]


def test_other_keys_than_those_of_the_directory_are_refused(
    soft_token: SoftToken, pins: PinSource, tmp_path: Path
) -> None:
    read_pin_from(soft_token.pin_file)
    first, second = (TokenKey.make(soft_token.settings(key).key_place, pins)[0] for key in ("a", "b"))
    PrivateKeys.generate("bank", first).save(tmp_path / "in-token")
    PrivateKeys.generate("bank").save(tmp_path / "in-file")
    with pytest.raises(EnvelopeError, match="the token holds another signing key"):
        PrivateKeys.load(tmp_path / "in-token", None, lambda: second)
    with pytest.raises(EnvelopeError, match="it holds the signing key, but the settings name a token"):
        PrivateKeys.load(tmp_path / "in-file", None, lambda: first)


def test_each_kind_of_wrong_settings_is_one_line(soft_token: SoftToken, pins: PinSource, tmp_path: Path) -> None:
    read_pin_from(soft_token.pin_file)
    place = soft_token.settings().key_place
    TokenKey.make(place, pins)
    (tmp_path / "text").write_text("no library")
    other = next(Path(each) for each in ("/lib/x86_64-linux-gnu/libm.so.6", sys.executable) if Path(each).exists())
    assert "there is no such PKCS#11 module" in fault(replace(place, module=tmp_path / "absent.so"), pins)
    assert "not a PKCS#11 module" in fault(replace(place, module=tmp_path / "text"), pins)
    assert "not a PKCS#11 module" in fault(replace(place, module=other), pins)
    with pytest.MonkeyPatch.context() as unset:
        unset.setenv("SOFTHSM2_CONF", str(tmp_path / "absent.conf"))
        forget_sessions()
        read_pin_from(soft_token.pin_file)
        assert "it does not start (GeneralError): see its own settings" in fault(place, pins)
    assert "token vault: it is not there: insert it" in fault(replace(place, label="vault"), pins)
    assert "it holds no key with the label other" in fault(replace(place, key="other"), pins)
    soft_token.add("bank")
    forget_sessions()
    read_pin_from(soft_token.pin_file)
    assert "several have this label" in fault(place, pins)


def test_a_key_of_another_type_or_one_that_may_leave_the_token_is_refused(
    soft_token: SoftToken, pins: PinSource
) -> None:
    from pkcs11 import Attribute, KeyType, Mechanism
    from pkcs11.util.ec import encode_named_curve_parameters

    read_pin_from(soft_token.pin_file)
    place = soft_token.settings("good").key_place
    TokenKey.make(place, pins)
    session = token._sessions[place.module, "bank", True]
    session.generate_keypair(KeyType.RSA, 2048, store=True, label="rsa")
    curve = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    curve.generate_keypair(store=True, label="p256")
    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: token._ED25519}, local=True)
    edwards = {"store": True, "mechanism": Mechanism.EC_EDWARDS_KEY_PAIR_GEN}
    curve.generate_keypair(label="loose", private_template={Attribute.EXTRACTABLE: True}, **edwards)
    public, _ = curve.generate_keypair(label="alone", **edwards)
    public.destroy()
    for _ in range(2):
        curve.generate_keypair(label="twice", **edwards)
    public, _ = curve.generate_keypair(label="mixed", **edwards)
    public.destroy()
    public, private = curve.generate_keypair(label="gone", **edwards)
    private.destroy()
    public[Attribute.LABEL] = "mixed"
    for key, words in {
        "rsa": "is no Ed25519 key",
        "p256": "is no Ed25519 key",
        "loose": "the key loose may leave it",
        "alone": "holds no public key beside the private key alone",
        "twice": "several keys with the label twice",
        "mixed": "the public key mixed does not belong to the private key",
    }.items():
        assert words in fault(replace(place, key=key), pins)
        with pytest.raises(TokenError):
            TokenKey.make(replace(place, key=key), pins)


@pytest.mark.parametrize("known", ["EXTRACTABLE", "SENSITIVE"])
def test_a_token_that_knows_one_attribute_alone_is_believed_about_that_one(
    soft_token: SoftToken, pins: PinSource, known: str
) -> None:
    from pkcs11 import Attribute
    from pkcs11.exceptions import AttributeTypeInvalid

    class Key:
        def __getitem__(self, attribute: object) -> bool:
            if attribute is not Attribute[known]:
                raise AttributeTypeInvalid
            return known == "EXTRACTABLE"

    with pytest.raises(TokenError, match="may leave it: make one that is sensitive and not extractable"):
        TokenKey._checked(soft_token.settings().key_place, pins, Key(), {})


def test_a_wrong_pin_is_tried_once_and_never_again_by_itself(
    soft_token: SoftToken, pins: PinSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pin_from(soft_token.pin_file)
    place = soft_token.settings().key_place
    TokenKey.make(place, pins)
    forget_sessions()
    keyring._held.clear()
    soft_token.pin_file.write_text("another-pin\n")
    read_pin_from(soft_token.pin_file)
    tried: list[str] = []
    log_in = PinSource.log_in

    def watched(self: PinSource, label: str, attempt: Callable[[str], Any]) -> Any:
        def counted(text: str) -> Any:
            tried.append(text)
            return attempt(text)

        return log_in(self, label, counted)

    monkeypatch.setattr(PinSource, "log_in", watched)
    assert "the PIN is wrong. It was tried once, and the token may lock" in fault(place, pins)
    for text in ("another-pin", PIN):  # even a corrected one waits for the person who says so
        soft_token.pin_file.write_text(text)
        assert "it refused the PIN before, and may lock after a few more tries" in fault(place, pins)
    assert tried == ["another-pin"]
    pins.refused.unlink()
    TokenKey.open(place, pins)
    assert tried == ["another-pin", PIN]


def test_a_typed_pin_needs_no_deleted_file_and_is_typed_once(
    soft_token: SoftToken, pins: PinSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, answers = soft_token.settings().key_place, iter(["wrong-pin", PIN])
    pins.refused.write_text("")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert "the PIN is wrong" in fault(place, pins)
    TokenKey.make(place, pins)
    assert not pins.refused.exists()
    TokenKey.open(place, pins)


def test_without_a_pin_each_way_to_give_one_is_named(
    soft_token: SoftToken, pins: PinSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = soft_token.settings().key_place
    line = fault(place, pins)
    assert all(way in line for way in ("--pin-file", "fedfin-token-pin", "terminal"))
    (tmp_path / pin.CREDENTIAL).write_text(f"{PIN}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    TokenKey.make(place, pins)
    keyring._held.clear()
    forget_sessions()
    soft_token.pin_file.chmod(0o644)
    read_pin_from(soft_token.pin_file)
    assert "others may read it: run chmod 600" in fault(place, pins)
    soft_token.pin_file.chmod(0o600)
    soft_token.pin_file.write_bytes(b"\xff\xfe\n")
    assert "no text in UTF-8" in fault(place, pins)
    assert not pins.refused.exists()


def test_a_token_that_is_pulled_out_signs_again_when_it_is_back(soft_token: SoftToken, pins: PinSource) -> None:
    read_pin_from(soft_token.pin_file)
    signer, _ = TokenKey.make(soft_token.settings().key_place, pins)
    soft_token.pull_out()
    for _ in range(2):
        with pytest.raises(TokenError, match=r"^token bank: it .*"):
            signer.sign(b"data")
    with pytest.raises(TokenError, match="token bank: it is not there: insert it"):
        signer.sign(b"data")
    soft_token.put_back()
    signer.public_key().verify(signer.sign(b"data"), b"data")


def test_a_journal_is_unchanged_if_the_token_does_not_sign(
    soft_token: SoftToken, pins: PinSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pin_from(soft_token.pin_file)
    keys = PrivateKeys.generate("bank", TokenKey.make(soft_token.settings().key_place, pins)[0])
    path = tmp_path / "journal.jsonl"
    with Journal.open(path, keys) as journal:
        journal.append("first", {"n": 1})
        before = [each.read_bytes() for each in (path, tmp_path / "journal.jsonl.head")]
        signed: list[bytes] = []
        sign = keys.signing_key.sign
        for last in (0, 1):  # pulled out before the first signature of an entry, or between its two

            def until(data: bytes, last: int = last) -> bytes:
                if len(signed) == last:
                    soft_token.pull_out()
                    try:
                        return sign(data)
                    finally:
                        soft_token.put_back()
                signed.append(data)
                return sign(data)

            signed.clear()
            with monkeypatch.context() as pulled_out:
                pulled_out.setattr(keys.signing_key, "sign", until)
                with pytest.raises(TokenError):
                    journal.append("second", {"n": 2})
            assert [each.read_bytes() for each in (path, tmp_path / "journal.jsonl.head")] == before
        journal.append("second", {"n": 2})
    assert [entry.kind for entry in verify(path, keys.public)] == ["first", "second"]


def test_a_forked_process_says_that_its_parent_is_logged_in(soft_token: SoftToken, pins: PinSource) -> None:
    read_pin_from(soft_token.pin_file)
    signer, _ = TokenKey.make(soft_token.settings().key_place, pins)
    end, begin = os.pipe()
    if (child := os.fork()) == 0:
        try:
            signer.sign(b"data")
            os.write(begin, b"signed")
        except FedfinError as error:
            os.write(begin, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"the parent of this process logged in" in os.read(end, 1000)
    signer.public_key().verify(signer.sign(b"data"), b"data")


def test_threads_sign_with_several_keys_of_one_token(soft_token: SoftToken, pins: PinSource) -> None:
    read_pin_from(soft_token.pin_file)
    signers = [TokenKey.make(soft_token.settings(key).key_place, pins)[0] for key in ("a", "b")]
    right = []

    def work(signer: Signer, data: bytes) -> None:
        for _ in range(20):
            signer.public_key().verify(signer.sign(data), data)
        right.append(data)

    threads = [threading.Thread(target=work, args=(signers[i % 2], bytes([i]) * 1000)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 4


def test_the_pin_goes_to_a_process_that_signs_and_to_no_other(
    soft_token: SoftToken, pins: PinSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keyring.hand_over(pins.lock, ["keys"], signs=True) is None
    read_pin_from(soft_token.pin_file)
    TokenKey.make(soft_token.settings().key_place, pins)
    given = keyring.hand_over(pins.lock, ["keys"], signs=True) or b""
    assert PIN.encode().hex().encode() in given
    assert keyring.hand_over(pins.lock, ["node"]) is None
    keyring._held.clear()
    forget_sessions()
    monkeypatch.setattr("sys.stdin", type("Pipe", (), {"isatty": lambda _: False, "read": lambda *_: given.decode()})())
    assert not keyring.receive(pins.lock)
    assert keyring.receive(pins.lock, signs=True)
    TokenKey.open(soft_token.settings().key_place, pins)


def test_without_the_package_one_line_says_what_to_install(
    soft_token: SoftToken, pins: PinSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "pkcs11", None)
        assert fault(TokenPlace(MODULE, "bank", "key"), pins).endswith("run pip install 'fedfin[token]'")
