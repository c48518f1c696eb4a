"""The hub's configuration for all runs, `hub.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from common.config.metrics import MetricsSettings
from common.config.sections import Range, Section, build, error_prefix, refuse_unknown
from common.config.token import TokenSettings
from common.config.toml import load_toml
from common.errors import ConfigurationError, EnrolmentError
from common.identity.authority import WARN_DAYS
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
warn_days = 30           # `certs` and `start` warn from this many days before expiry (0 to 365)

# Figures for Prometheus at http://127.0.0.1:PORT/metrics. Every user of this machine can read them.
# [metrics]
# port = 9464

# The public test set for evaluation, used by runs that name none. Paths are relative to this file.
# [data]
# test = "test.csv"
# text_column = "text"      # for labelled words: "tokens", unless it is a CoNLL file
# label_column = "label"    # for labelled words: "ner_tags"
# public = "filings/"       # public text, used to warm up a language-model head if the base model lacks one
"""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(Section):
    """Section [gateway]: institutions connect to `address`, the hub binds `listen`, the certificate has `names`."""

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
    """Section [certificates]: lifetimes of certificates and time of warnings, in days."""

    section = "certificates"
    server_days: Annotated[int, Range(1, 825)] = 90
    institution_days: Annotated[int, Range(1, 1825)] = 365
    warn_days: Annotated[int, Range(0, 365)] = WARN_DAYS


@dataclass(frozen=True, kw_only=True)
class TestData(Section):
    """The hub's public test set: a file, folder or pattern that `common.data.reading` reads, and its columns.

    For a language model, `test` is any file or folder of text, and `public` is more of it. If the base model lacks a
    language-model head, a new head is warmed up before round 1 on the first `public_texts` texts of `public`, or on
    the neutral English that comes with fedfin if there is no `public`.
    """

    section = "data"
    test: Path
    text_column: str | None = None
    label_column: str | None = None
    public: Path | None = None
    public_texts: Annotated[int, Range(16, 10_000_000)] = 4000


@dataclass(frozen=True)
class HubConfig:
    """All sections of `hub.toml`. `token` is None if the signing key is in a file."""

    gateway: GatewaySettings
    certificates: CertificateSettings = field(default_factory=CertificateSettings)
    data: TestData | None = None
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    token: TokenSettings | None = None


def load_hub_config(path: Path) -> HubConfig:
    """Read `hub.toml`. Relative paths in it start from its own directory.

    Raises:
        ConfigurationError: One line that names the file, `section.key`, the problem and the remedy.
    """
    tables = load_toml(path)
    with error_prefix(str(path)):
        refuse_unknown(tables, ("gateway", "certificates", "data", "metrics", "token"))
        if "gateway" not in tables:
            raise ConfigurationError("[gateway] is missing: restore it, or compare with a new `fedfin-hub init`")
        return HubConfig(
            gateway=build(GatewaySettings, tables["gateway"]),
            certificates=build(CertificateSettings, tables.get("certificates", {})),
            data=test_data(tables, path.parent),
            metrics=build(MetricsSettings, tables.get("metrics", {})),
            token=build(TokenSettings, tables["token"]) if "token" in tables else None,
        )


def test_data(tables: Mapping[str, Any], start: Path) -> TestData | None:
    """Return the test set in section [data], with absolute paths. None if there is no such section.

    Args:
        tables: All sections of the file.
        start: Directory that relative paths start from.

    Raises:
        ConfigurationError: As in `load_hub_config`.
    """
    if "data" not in tables:
        return None
    data = build(TestData, tables["data"])
    public = (start / data.public.expanduser()).resolve() if data.public else None
    return replace(data, test=(start / data.test.expanduser()).resolve(), public=public)
