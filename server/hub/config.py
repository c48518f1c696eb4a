"""What the hub's operator decides once, for all runs: `hub.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from common.config.sections import Range, Section, build, error_prefix, refuse_unknown
from common.config.toml import load_toml
from common.errors import ConfigurationError, EnrolmentError
from common.identity.tls import split_address

__all__ = ["CertificateSettings", "GatewaySettings", "HubConfig", "TestData", "load_hub_config"]

TEMPLATE = """\
# The settings of this hub. Restart `fedfin-hub start` after a change. All keys: docs/configuration.md

[gateway]
# HOST:PORT that institutions connect to. It is written into the package of each institution.
address = "{address}"
# HOST:PORT that the gateway binds. Institutions reach no other port of this machine. 0.0.0.0 binds every interface.
listen = "{listen}"
# Host names and IP addresses in the server certificate. After a change run: fedfin-hub certs --rotate server
names = [{names}]
# Size limit of one request, in MiB (6 to 1024). Adapters of any size are sent in pieces of 5 MiB.
max_body_mib = 16

[certificates]           # all in days
server_days = 90         # lifetime of the server certificate (1 to 825)
institution_days = 365   # lifetime of an institution's certificate (1 to 1825)
warn_days = 21           # `certs` and `start` warn from this many days before expiry (0 to 365)

# The public test set for evaluation, used by runs that name none. Paths are relative to this file.
# [data]
# test = "test.csv"
# text_column = "text"
# label_column = "label"
# public = "filings/"       # public text, used to warm up a language-model head if the base model lacks one
"""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(Section):
    """The door. `address` is dialled by institutions; `listen` is bound here; `names` are certified."""

    section = "gateway"
    address: str
    listen: str
    names: tuple[str, ...]
    max_body_mib: Annotated[int, Range(6, 1024)] = 16

    def check(self) -> None:
        for key in ("address", "listen"):
            try:
                split_address(getattr(self, key))
            except EnrolmentError:
                self.refuse(key, "is not host:port, as in hub.example.org:8443")
        if not self.names:
            self.refuse("names", "is empty: give the names or IP addresses that institutions dial")


@dataclass(frozen=True, kw_only=True)
class CertificateSettings(Section):
    """How long certificates live, and when to warn, in days."""

    section = "certificates"
    server_days: Annotated[int, Range(1, 825)] = 90
    institution_days: Annotated[int, Range(1, 1825)] = 365
    warn_days: Annotated[int, Range(0, 365)] = 21


@dataclass(frozen=True, kw_only=True)
class TestData(Section):
    """The hub's public test set: a CSV, JSONL, Parquet or (for token tasks) CoNLL file, and its columns.

    For a language model any file or folder of text. public: more of it, on whose first `public_texts` a head
    that the base model lacks is warmed up before round 1; else on general English.
    """

    section = "data"
    test: Path
    text_column: str = "text"
    label_column: str = "label"
    public: Path | None = None
    public_texts: Annotated[int, Range(16, 10_000_000)] = 4000


@dataclass(frozen=True)
class HubConfig:
    """The whole of `hub.toml`."""

    gateway: GatewaySettings
    certificates: CertificateSettings = field(default_factory=CertificateSettings)
    data: TestData | None = None


def load_hub_config(path: Path) -> HubConfig:
    """Read `hub.toml`; relative paths start from its own directory.

    Raises:
        ConfigurationError: one line naming the file, `section.key`, what is wrong and what to do.
    """
    tables = load_toml(path)
    with error_prefix(str(path)):
        refuse_unknown(tables, ("gateway", "certificates", "data"))
        if "gateway" not in tables:
            raise ConfigurationError("[gateway] is missing: restore it, or compare with a new `fedfin-hub init`")
        return HubConfig(
            gateway=build(GatewaySettings, tables["gateway"]),
            certificates=build(CertificateSettings, tables.get("certificates", {})),
            data=test_data(tables, path.parent),
        )


def test_data(tables: Mapping[str, Any], start: Path) -> TestData | None:
    """The test set that a file's [data] names, its path made absolute; None where there is no [data].

    Raises:
        ConfigurationError: see `load_hub_config`.
    """
    if "data" not in tables:
        return None
    data = build(TestData, tables["data"])
    public = (start / data.public.expanduser()).resolve() if data.public else None
    return replace(data, test=(start / data.test.expanduser()).resolve(), public=public)
