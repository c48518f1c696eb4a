"""An institution that has joined a hub which is nothing but keys and an authority."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import accept, make_request
from common.config.token import TokenSettings, token_section
from common.flower.bundle import bundle_sha256
from common.identity.authority import Authority
from common.identity.enrolment import EnrolmentPackage
from common.identity.keys import PrivateKeys

LABELS = ("negative", "neutral", "positive")
_WORDS = ("loss widens", "market flat", "profit rises")
ROWS = "text,label\n" + "".join(f"{_WORDS[n % 3]} of bank {n},{LABELS[n % 3]}\n" for n in range(30))


@dataclass(frozen=True)
class Enrolled:
    home: InstitutionDirectory
    hub: PrivateKeys
    authority: Authority


def enrol(
    directory: Path,
    base: str = "minilm",
    limits: str = "",
    name: str = "bank",
    address: str = "127.0.0.1:1",
    token: TokenSettings | None = None,
) -> Enrolled:
    """`base` is the one model that the settings allow. `limits` more lines of [limits]. `token` holds its key."""
    hub, authority = PrivateKeys.generate("hub"), Authority.create(directory / "authority", "authority")
    home = InstitutionDirectory(directory / name)
    request = make_request(home.directory, name, token=token)
    certificate = authority.issue_client(request.csr, name, timedelta(days=30))
    package = EnrolmentPackage.make(hub, request, certificate, authority.pem, address, bundle_sha256())
    accept(home, package, package.fingerprint)
    (home.directory / "rows.csv").write_text(ROWS)
    home.settings_path.write_text(
        f'[institution]\nname = "{name}"\n[data]\ntrain = "rows.csv"\n[model]\nallowed = ["{base}"]\ndevice = "cpu"\n'
        f"[limits]\n{limits}{token_section(token)}"
    )
    return Enrolled(home, hub, authority)
