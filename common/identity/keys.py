"""A party's keys: one to sign with, one to be sealed to. Private ones never leave their directory.

Files: `private.json` (0600) and `public.json` (to hand out) in a directory of mode 0700. An encrypted `private.json`
holds the same text under AES-256-GCM. If the signing key is in a token, `private.json` holds its public half instead.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.canonical import canonical, is_name, parse_object
from common.errors import EnvelopeError, PassphraseError
from common.files import read_limited, write_atomic
from common.identity.signer import Signer

__all__ = ["PrivateKeys", "PublicKeys"]

_PRIVATE, _PUBLIC = "private.json", "public.json"
_FORMAT = "fedfin-keys-1"
_ENCRYPTED = "fedfin-encrypted-keys-1"
_NONCE_BYTES = 12
_ELSEWHERE = "public_signing"
"""Field with the public signing key, instead of `signing`, if the private one is in a token."""
_MLKEM_PUBLIC_BYTES = 1184
_MAX_FILE_BYTES = 16_384


@dataclass(frozen=True)
class PublicKeys:
    """The public keys of a party, which others know. `sealing` is the ML-KEM-768 key (1184 bytes) followed by the
    X25519 key (32).

    Raises:
        EnvelopeError: code "keys": a name or a key that cannot be one.
    """

    name: str
    signing: bytes
    sealing: bytes

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise _bad("public keys", "the name must be 1 to 128 letters, digits, ' ', '_', '.' or '-'")
        try:
            self.signing_key, self.sealing_key  # noqa: B018 - builds both, so that a bad key is known here
        except (ValueError, TypeError):
            raise _bad(f"public keys of {self.name}", "a key is damaged: ask for them again") from None

    @cached_property
    def signing_key(self) -> Ed25519PublicKey:
        """Verifies this party's signatures."""
        return Ed25519PublicKey.from_public_bytes(self.signing)

    @cached_property
    def sealing_key(self) -> MLKEM768X25519PublicKey:
        """Encrypts to this party."""
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.sealing[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.sealing[_MLKEM_PUBLIC_BYTES:]),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, over the name and both keys. Two people compare it by telephone at enrolment."""
        return hashlib.sha256(b"fedfin public keys 1\n" + self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return canonical JSON. Equal keys give equal text."""
        fields = {"format": _FORMAT, "name": self.name, "signing": self.signing.hex(), "sealing": self.sealing.hex()}
        return canonical(fields).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text that `to_json` wrote. White space around it is ignored.

        Raises:
            EnvelopeError: code "keys": on any other text.
        """
        try:
            fields = _fields(text, {"signing", "sealing"})
        except ValueError:
            raise _bad("public keys", "not a public.json of this version: ask for it again") from None
        return cls(**fields)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a public.json.

        Raises:
            EnvelopeError: code "keys": absent, unreadable or damaged.
        """
        try:
            return cls.from_json(read_limited(path, _MAX_FILE_BYTES).decode())
        except OSError as error:
            raise _bad(str(path), f"cannot be read ({error.strerror}): give an institution's public.json") from None
        except (ValueError, EnvelopeError):
            raise _bad(str(path), "not a public.json of this version: ask for it again") from None


@dataclass(frozen=True)
class PrivateKeys:
    """A party's private keys, as seeds (32 bytes each, 64 for ML-KEM). They never show in a `repr`.

    `signing` may be a key in a token instead of a seed.

    Raises:
        EnvelopeError: code "keys": a name or a seed that cannot be one.
    """

    name: str
    signing: bytes | Signer = field(repr=False)
    mlkem768: bytes = field(repr=False)
    x25519: bytes = field(repr=False)

    def __post_init__(self) -> None:
        try:
            self.public  # noqa: B018 - builds every key, so that a bad seed is known here
        except (ValueError, TypeError):
            raise _bad("private keys", "a key is damaged: restore the file from its backup") from None

    @classmethod
    def generate(cls, name: str, signer: Signer | None = None) -> Self:
        """Fresh keys from the operating system's entropy. `signer`: the signing key, if it is in a token."""
        return cls(
            name=name,
            signing=signer or Ed25519PrivateKey.generate().private_bytes_raw(),
            mlkem768=MLKEM768PrivateKey.generate().private_bytes_raw(),
            x25519=X25519PrivateKey.generate().private_bytes_raw(),
        )

    @cached_property
    def signing_key(self) -> Signer:
        """Sign as this party. Sign only data that begins with a label of its own."""
        if isinstance(self.signing, bytes):
            return Ed25519PrivateKey.from_private_bytes(self.signing)
        return self.signing

    @cached_property
    def sealing_key(self) -> MLKEM768X25519PrivateKey:
        """Open messages that were sealed to this party."""
        return MLKEM768X25519PrivateKey(
            MLKEM768PrivateKey.from_seed_bytes(self.mlkem768), X25519PrivateKey.from_private_bytes(self.x25519)
        )

    @cached_property
    def public(self) -> PublicKeys:
        """The half that others may know."""
        mlkem = MLKEM768PrivateKey.from_seed_bytes(self.mlkem768).public_key().public_bytes_raw()
        x25519 = X25519PrivateKey.from_private_bytes(self.x25519).public_key().public_bytes_raw()
        return PublicKeys(self.name, self.signing_key.public_key().public_bytes_raw(), mlkem + x25519)

    def fingerprint_key(self) -> bytes:
        """32 bytes to key this institution's data fingerprints with, derived from the signing seed.

        They are derived from the X25519 seed if the signing key is in a token.
        """
        seed = self.signing if isinstance(self.signing, bytes) else self.x25519
        return HKDF(SHA256(), length=32, salt=None, info=b"fedfin data fingerprint 1").derive(seed)

    def save(self, directory: Path, secret: bytes | None = None) -> None:
        """Write both files. `directory` gets mode 0700. Other keys already there are never overwritten.

        Args:
            directory: Directory of both files.
            secret: 32 bytes that encrypt the private file, if given.

        Raises:
            EnvelopeError: code "keys": other keys are there, or the files cannot be written.
            PassphraseError: encrypted keys are there, and the secret does not open them.
        """
        path = directory / _PRIVATE
        signing = {"signing": self.signing} if isinstance(self.signing, bytes) else {_ELSEWHERE: self.public.signing}
        seeds = {**signing, "mlkem768": self.mlkem768, "x25519": self.x25519}
        text = canonical({"format": _FORMAT, "name": self.name} | {key: seed.hex() for key, seed in seeds.items()})
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            if path.exists() and _decrypted(path, path.read_bytes(), secret) != text:
                raise _bad(str(path), "other keys are there already: choose another directory")
            write_atomic(path, _encrypted(text, secret) if secret else text, mode=0o600)
            write_atomic(directory / _PUBLIC, self.public.to_json().encode() + b"\n", mode=0o644)
        except OSError as error:
            raise _bad(str(path), f"cannot be written ({error.strerror})") from None

    @classmethod
    def load(cls, directory: Path, secret: bytes | None = None, open_token: Callable[[], Signer] | None = None) -> Self:
        """Read the keys that `save` wrote.

        Args:
            directory: Directory of the files.
            secret: 32 bytes that open the private file if it is encrypted.
            open_token: Returns the signing key in the token that the settings name. None if they name no token.

        Raises:
            EnvelopeError: code "permissions" if anyone but the owner may touch the file, "keys" if it is absent,
                unreadable or damaged, or if the signing key is not where the settings say.
            PassphraseError: it is encrypted, and the secret is missing or another one.
            TokenError: The token cannot be used.
        """
        path = directory / _PRIVATE
        text = _decrypted(path, _read_private(path), secret)
        damaged = _bad(str(path), "damaged, or of another version: restore it from its backup")
        try:
            fields = _fields(text, {"mlkem768", "x25519"}, either=("signing", _ELSEWHERE))
        except ValueError:
            raise damaged from None
        if _ELSEWHERE in fields:
            fields["signing"] = _from_token(path, fields.pop(_ELSEWHERE), open_token)
        elif open_token is not None:
            raise _bad(str(path), "it holds the signing key, but the settings name a token: remove [token] from them")
        try:
            return cls(**fields)
        except EnvelopeError:
            raise damaged from None


def _read_private(path: Path) -> bytes:
    """Read at most `_MAX_FILE_BYTES`, judging the very file that was opened (and never waiting on a pipe)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
                raise _bad(str(path), "not a key file: give the directory that holds one")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise EnvelopeError("permissions", f"{path}: others may read it (mode {mode:04o}): run chmod 600 on it")
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise _bad(str(path), f"cannot be read ({error.strerror}): generate keys, or correct the path") from None


def _encrypted(text: bytes, secret: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(secret).encrypt(nonce, text, _ENCRYPTED.encode())
    return canonical({"format": _ENCRYPTED, "nonce": nonce.hex(), "sealed": sealed.hex()})


def _decrypted(path: Path, data: bytes, secret: bytes | None) -> bytes:
    """Return the text of a private file. It is `data` itself if that is not encrypted."""
    try:
        fields = parse_object(data[:_MAX_FILE_BYTES])
        if fields.get("format") != _ENCRYPTED:
            return data
        nonce, sealed = bytes.fromhex(fields["nonce"]), bytes.fromhex(fields["sealed"])
    except (ValueError, KeyError, TypeError):
        return data
    if secret is None:
        raise PassphraseError(f"{path}: encrypted, and its passphrase.json is absent: restore that from its backup")
    try:
        return AESGCM(secret).decrypt(nonce, sealed, _ENCRYPTED.encode())
    except (InvalidTag, ValueError):
        raise PassphraseError(
            f"{path}: damaged, or of another passphrase.json: restore both from their backup"
        ) from None


def _from_token(path: Path, public: bytes, open_token: Callable[[], Signer] | None) -> Signer:
    if open_token is None:
        raise _bad(str(path), "its signing key is in a token, and the settings name none: restore [token] in them")
    signer = open_token()
    if signer.public_key().public_bytes_raw() != public:
        raise _bad(str(path), "the token holds another signing key: use the token and the key of this directory")
    return signer


def _fields(text: str | bytes, keys: set[str], either: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the name and the decoded keys of a key file, with one of `either`. Raise ValueError for anything else."""
    if len(text) > _MAX_FILE_BYTES:
        raise ValueError
    fields = parse_object(text)
    keys = keys.union(key for key in either if key in fields)
    if len(keys.intersection(either)) != min(len(either), 1):
        raise ValueError
    if fields.pop("format", None) != _FORMAT or set(fields) != keys | {"name"}:
        raise ValueError
    if not all(isinstance(value, str) for value in fields.values()):
        raise ValueError
    return {key: bytes.fromhex(value) if key in keys else value for key, value in fields.items()}


def _bad(what: str, why: str) -> EnvelopeError:
    return EnvelopeError("keys", f"{what}: {why}")
