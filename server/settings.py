"""What the hub's operator decides once, for all runs: `hub.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from common.enrolment import split_address
from common.errors import ConfigurationError, EnrolmentError
from common.fields import Range, Section, build, naming, refuse_unknown
from common.toml import load_toml

__all__ = ["CertificateSettings", "GatewaySettings", "Settings", "TestData", "load_settings"]

TEMPLATE = """\
# The settings of this hub. `fedfin-hub start` reads them once: restart it after a change.

[gateway]
# What institutions dial; it stands in the packages they get.
address = "{address}"
# Where the gateway listens: the only port of this machine that institutions reach. 0.0.0.0 for every interface.
listen = "{listen}"
# Names and IP addresses in the server certificate. After a change: fedfin-hub certs --rotate server
names = [{names}]
# The largest single request in MiB. Adapters travel in pieces of 5 MiB, however large they are.
max_body_mib = 16

[certificates]
server_days = 90
institution_days = 365
warn_days = 21           # `certs` and `start` warn this long before one expires

# The public test set that every round is evaluated on, unless a run's file names its own. Relative to this file.
# [data]
# test = "test.csv"
# text_column = "text"
# label_column = "label"
# public = "filings/"       # text that anybody may read, to warm up a language-model head that a base model lacks
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
class Settings:
    """The whole of `hub.toml`."""

    gateway: GatewaySettings
    certificates: CertificateSettings = field(default_factory=CertificateSettings)
    data: TestData | None = None


def load_settings(path: Path) -> Settings:
    """Read `hub.toml`; relative paths start from its own directory.

    Raises:
        ConfigurationError: one line naming the file, `section.key`, what is wrong and what to do.
    """
    tables = load_toml(path)
    with naming(str(path)):
        refuse_unknown(tables, ("gateway", "certificates", "data"))
        if "gateway" not in tables:
            raise ConfigurationError("[gateway] is missing: restore it, or compare with a new `fedfin-hub init`")
        return Settings(
            gateway=build(GatewaySettings, tables["gateway"]),
            certificates=build(CertificateSettings, tables.get("certificates", {})),
            data=test_data(tables, path.parent),
        )


def test_data(tables: Mapping[str, Any], start: Path) -> TestData | None:
    """The test set that a file's [data] names, its path made absolute; None where there is no [data].

    Raises:
        ConfigurationError: see `load_settings`.
    """
    if "data" not in tables:
        return None
    data = build(TestData, tables["data"])
    public = (start / data.public.expanduser()).resolve() if data.public else None
    return replace(data, test=(start / data.test.expanduser()).resolve(), public=public)
