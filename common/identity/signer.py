"""A private key that signs as one party: in memory, or in a token that it cannot leave."""

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Signer"]


class Signer(Protocol):
    """An Ed25519 key. `Ed25519PrivateKey` is one, and `common.identity.token.TokenKey` is another."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature, 64 bytes. A key in a token raises TokenError if the token does not sign."""

    def public_key(self) -> Ed25519PublicKey:
        """Return the key that verifies the signatures."""
