"""Every exception that fedfin raises on purpose, as one tree.

Each message is one line. It names the input, the fault and the remedy. It never quotes
an institution's text: a message may cross the network or land in a log.
"""

from typing import Literal

__all__ = [
    "AdapterCode",
    "AdapterRefused",
    "AssignmentRefused",
    "BudgetExceeded",
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "EnrolmentError",
    "EnvelopeCode",
    "EnvelopeError",
    "FedfinError",
    "LedgerError",
    "MessageError",
    "ModelError",
    "PassphraseError",
    "QuorumError",
    "SecureAggregationRefused",
    "ServiceError",
    "TokenError",
]


class FedfinError(Exception):
    """Base class of all errors. Commands print it as one line and exit with `exit_code`."""

    exit_code = 2


class ConfigurationError(FedfinError):
    """A configuration or settings file holds a value that cannot be used."""


class DataError(FedfinError):
    """A data file is absent, malformed or unusable. Rows are named by number, never by their text."""


class ModelError(FedfinError):
    """A base model is absent, or cannot do the requested task."""


class CheckpointError(FedfinError):
    """A run's saved state is corrupt, or belongs to another run."""


class LedgerError(FedfinError):
    """A journal or ledger does not verify, is held by another process, or names an unknown event."""


class QuorumError(FedfinError):
    """Too few institutions contributed to a round. The run is saved and can be resumed."""


class EnrolmentError(FedfinError):
    """A request, package, certificate or revocation list cannot be used."""


class PassphraseError(FedfinError):
    """Private keys are encrypted, and the passphrase is missing or wrong."""


class TokenError(FedfinError):
    """A token with a signing key is absent, does not know the PIN or the key, or does not sign."""


class ServiceError(FedfinError):
    """A process or server of this installation cannot be started or reached."""


class MessageError(FedfinError):
    """Bytes received are not a message of this protocol."""


class CodedError(FedfinError):
    """An error with a stable reason code that may be sent to the other side and counted."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


AdapterCode = Literal["too_large", "malformed", "missing", "extra", "dtype", "shape", "non_finite"]
"""Reasons why an adapter is not accepted."""


class AdapterRefused(CodedError):
    """A foreign adapter failed the gate (missing, extra, misshapen or non-finite tensors, ...)."""

    def __init__(self, code: AdapterCode, message: str) -> None:
        super().__init__(code, message)


EnvelopeCode = Literal["too_large", "malformed", "context", "keys", "signature", "ciphertext", "permissions"]
"""Reasons why a sealed message cannot be made or opened. "permissions": a key file that others may read."""


class EnvelopeError(CodedError):
    """A sealed message could not be opened, or its sender is not the expected one."""

    def __init__(self, code: EnvelopeCode, message: str) -> None:
        super().__init__(code, message)


class SecureAggregationRefused(CodedError):
    """A message of secure aggregation is not answered or not used: "config", "replay", "error" or "norm"."""

    def __init__(self, code: Literal["config", "replay", "error", "norm"], message: str) -> None:
        super().__init__(code, message)


class AssignmentRefused(CodedError):
    """An institution declines a training. Only `code`, one of `common.protocol.messages.RefusalCode`, is ever sent."""


class BudgetExceeded(AssignmentRefused):
    """A training does not fit in the rest of the institution's privacy budget."""

    def __init__(self, message: str) -> None:
        super().__init__("budget", message)
