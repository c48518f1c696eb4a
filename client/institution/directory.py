"""Open an institution's directory: settings, keys, ledger and enrolment. It holds everything that must not be lost."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.institution.config import DataConfig, InstitutionConfig, load_institution_config
from client.institution.paths import InstitutionPaths, Slot
from common.config.token import TokenSettings, token_section
from common.errors import ConfigurationError
from common.files import write_atomic
from common.identity.authority import Certificate
from common.identity.enrolment import EnrolmentPackage
from common.identity.keys import PrivateKeys, PublicKeys
from common.identity.passphrase import Lock, unlock
from common.identity.pin import PinSource
from common.identity.token import TokenKey
from common.privacy.ledger import PrivacyLedger

__all__ = ["InstitutionDirectory"]

TEMPLATE = """\
# The settings of this institution. The hub cannot change them. Only the name and a declared [release] are sent.
# All keys: docs/configuration.md

[institution]
name = "{name}"

# The training rows: a table (.csv, .tsv, .jsonl, .parquet, .arrow, .feather), a folder of tables, or CoNLL if words are
# labelled. For language modelling any file or folder of text. The path is relative to this file.
# [data]
# train = "train.csv"
# text_column = "text"     # for labelled words: "tokens", unless it is a CoNLL file
# label_column = "label"   # for labelled words: "ner_tags"
# labels = ["negative", "neutral", "positive"]  # for `finetune` with privacy, if the task has no labels of its own
# test = "test.csv"   # own test rows. Figures on them stay inside
# customer_column = "customer"   # column of the customer's id, required if limits.unit is "customer"

[model]
allowed = ["minilm"]   # base models that a run may name. Runs with another one are refused
device = "auto"        # "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one, otherwise the CPU

# The privacy officer's limits for all runs together. A training that would exceed them is refused before it starts.
[limits]
max_epsilon = 8.0              # epsilon that all trainings of all runs may spend together, at this delta
# max_epsilon_alone = 8.0      # the same if the hub and all others work together, under secure aggregation (default:
                               # max_epsilon)
delta = 1e-6                   # must be below 1 / (number of records, or customers)
min_noise_multiplier = 0.3     # trainings with less noise are refused
allow_without_privacy = false  # true accepts runs without differential privacy
# tasks = ["sentiment_analysis"] # tasks that a run may train (default: all). For text without labels:
                               # ["masked_language_modelling"]
unit = "record"                # unit that max_epsilon protects: "record", or "customer" (all records of one customer)

# Facts about the data that the hub may learn. None is sent unless it is declared here.
[release]
# A power of two near the number of records (or customers). The hub weights by it, and gradient sums are divided by it.
# If it is not declared, sums are divided as if there were 1,024.
# declared_units = 1024

# The personal parts that runs may train here. They stay inside. "prior" counts labels without noise.
[personalisation]
allowed = []                   # of "prior", "head", "proximal" and "after"
allow_without_noise = false    # true allows a personal part without differential privacy. Its model must not leave

# Figures for Prometheus at http://127.0.0.1:PORT/metrics. Every user of this machine can read them.
# [metrics]
# port = 9465
"""


@dataclass(frozen=True)
class InstitutionDirectory(InstitutionPaths):
    """The directory of one institution: its settings, keys, ledger and enrolment."""

    @classmethod
    def create(
        cls, directory: Path, name: str, passphrase: bytes | None = None, token: TokenSettings | None = None
    ) -> "InstitutionDirectory":
        """Create the directory with keys (0600), an empty ledger (0600) and a commented `institution.toml`.

        Args:
            directory: The directory.
            name: Name of the institution.
            passphrase: Encrypts all private keys, if given.
            token: The place of the signing key, which is made there if it is absent. None keeps it in a file.

        Raises:
            ConfigurationError: It is an institution's directory already.
            EnvelopeError: The name cannot be used, or the keys cannot be written.
            LedgerError: The ledger cannot be written.
            TokenError, PassphraseError: See `TokenKey.make`. Nothing was written.
        """
        home = cls(directory)
        if home.settings_path.exists() or home.keys_path.exists():
            raise ConfigurationError(f"{directory}: it holds an institution already: choose another directory")
        keys = PrivateKeys.generate(name, TokenKey.make(token.key_place, home.pins)[0] if token else None)
        if passphrase is not None:
            home.tls.mkdir(parents=True, exist_ok=True, mode=0o700)
            Lock.create(home.lock_path, tuple(Slot), passphrase)
        keys.save(home.keys_path, home.secret(Slot.KEYS))
        PrivacyLedger.open(home.ledger_path, keys).close()
        write_atomic(home.settings_path, (TEMPLATE.format(name=name) + token_section(token)).encode(), mode=0o600)
        return home

    def settings(self) -> InstitutionConfig:
        """Read the settings.

        Raises:
            ConfigurationError: See `load_institution_config`. Or there is no institution here.
        """
        if not self.settings_path.is_file():
            raise ConfigurationError(
                f"{self.directory}: no institution.toml: "
                f"make one with `fedfin-institution init --home {self.directory}`"
            )
        return load_institution_config(self.settings_path)

    def rows(self) -> DataConfig:
        """Return the training rows that the settings name.

        Raises:
            ConfigurationError: See `settings`. Or the settings name no rows.
        """
        data = self.settings().data
        if data is None:
            raise ConfigurationError(f"{self.settings_path}: [data] is missing: name the training rows")
        return data

    def public_keys(self) -> PublicKeys:
        """Read the public half of the keys, which is enough to verify the ledger.

        Raises:
            ConfigurationError: There is no institution here.
            EnvelopeError: The file is damaged.
        """
        path = self.keys_path / "public.json"
        if not path.is_file():
            raise ConfigurationError(f"{self.directory}: not the directory of an institution ({path} is absent)")
        return PublicKeys.load(path)

    def package(self) -> EnrolmentPackage:
        """Read the hub's enrolment package and verify its signature again.

        Raises:
            ConfigurationError: The institution has not joined a hub.
            EnrolmentError: The file was changed.
        """
        if not self.package_path.is_file():
            raise ConfigurationError(
                f"{self.directory}: not joined yet: send {self.request_path.name} to the hub's operator, "
                f"then run `fedfin-institution join PACKAGE --home {self.directory}`"
            )
        return EnrolmentPackage.from_json(self.package_path.read_bytes())

    def certificate(self) -> Certificate:
        """Return the certificate that the node shows, which may be newer than the package's.

        Raises:
            ConfigurationError, EnrolmentError: See `package`. Or the certificate is damaged.
        """
        path = self.tls / "client.pem"
        return Certificate.read(path.read_bytes() if path.exists() else self.package().certificate)

    def secret(self, slot: Slot) -> bytes | None:
        """Return the secret of encrypted key files. None if no key is encrypted.

        Raises:
            PassphraseError: There is no passphrase, or it is wrong.
        """
        return unlock(self.lock_path, slot)

    @property
    def pins(self) -> PinSource:
        """Where the PIN of the token comes from."""
        return PinSource(self.lock_path, self.refused_pin_path)

    def keys(self) -> PrivateKeys:
        """Load the private keys, and log in to the token if the settings name one.

        Raises:
            ConfigurationError: See `settings`.
            EnvelopeError, PassphraseError, TokenError: See `PrivateKeys.load`.
        """
        # A simulated institution has keys in files and no institution.toml.
        token = self.settings().token if self.settings_path.is_file() else None
        open_token = None if token is None else partial(TokenKey.open, token.key_place, self.pins)
        return PrivateKeys.load(self.keys_path, self.secret(Slot.KEYS), open_token)
