"""Section [token] of hub.toml and institution.toml."""

import json
from dataclasses import dataclass
from pathlib import Path

from common.config.sections import Section
from common.identity.token import TokenPlace

__all__ = ["TokenSettings", "token_section"]


@dataclass(frozen=True, kw_only=True)
class TokenSettings(Section):
    """Section [token]: the PKCS#11 token that holds the signing key.

    Attributes:
        module: The PKCS#11 module, a shared library.
        label: Label of the token.
        key: Label of the key.
    """

    section = "token"
    module: Path
    label: str
    key: str

    def check(self) -> None:
        if not self.module.is_absolute():
            self.refuse("module", "is no absolute path: give the whole path of the PKCS#11 module")

    @property
    def key_place(self) -> TokenPlace:
        """The place of the key."""
        return TokenPlace(self.module, self.label, self.key)


def token_section(token: TokenSettings | None) -> str:
    """Return the text of the section, and an empty one for a signing key in a file."""
    if token is None:
        return ""
    module, label, key = (json.dumps(text, ensure_ascii=False) for text in (str(token.module), token.label, token.key))
    return f"""
# The PKCS#11 token that holds the signing key. Without it, nothing here can sign.
[token]
module = {module}
label = {label}
key = {key}
"""
