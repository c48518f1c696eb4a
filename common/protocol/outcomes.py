"""The closed list of outcomes that an institution can have in a round, each with its meaning."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["RoundOutcome", "explain_outcome"]


class RoundOutcome(StrEnum):
    """The outcome of one institution in one round, as history files, audit logs and reports hold it.

    "declined:CODE" is the institution's own refusal, with a code of `common.protocol.messages.RefusalCode`.
    "refused:CODE" is an answer that the hub did not accept. "failed:CODE" means that no answer came.
    """

    CONTRIBUTED = "contributed"
    RECEIVED = "received"

    DECLINED_BUDGET = "declined:budget"
    DECLINED_CONFIG = "declined:config"
    DECLINED_BASE_MODEL = "declined:base_model"
    DECLINED_TASK = "declined:task"
    DECLINED_PRIVACY_LIMIT = "declined:privacy_limit"
    DECLINED_REPLAY = "declined:replay"
    DECLINED_BUSY = "declined:busy"
    DECLINED_ERROR = "declined:error"

    REFUSED_UNKNOWN_SENDER = "refused:unknown_sender"
    REFUSED_NOT_ASKED = "refused:not_asked"
    REFUSED_WRONG_SENDER = "refused:wrong_sender"
    REFUSED_WRONG_RUN = "refused:wrong_run"
    REFUSED_WRONG_ROUND = "refused:wrong_round"
    REFUSED_WRONG_RECIPIENT = "refused:wrong_recipient"
    REFUSED_WRONG_KIND = "refused:wrong_kind"
    REFUSED_MESSAGE = "refused:message"
    REFUSED_CODE = "refused:code"
    REFUSED_SPEC = "refused:spec"
    REFUSED_STATEMENT = "refused:statement"
    REFUSED_REPLAYED = "refused:replayed"
    REFUSED_NORM = "refused:norm"
    REFUSED_MASKS = "refused:masks"
    # Codes of `common.errors.AdapterRefused`.
    REFUSED_TOO_LARGE = "refused:too_large"
    REFUSED_MALFORMED = "refused:malformed"
    REFUSED_MISSING = "refused:missing"
    REFUSED_EXTRA = "refused:extra"
    REFUSED_DTYPE = "refused:dtype"
    REFUSED_SHAPE = "refused:shape"
    REFUSED_NON_FINITE = "refused:non_finite"
    # Codes of `common.errors.EnvelopeError` that opening a message can give.
    REFUSED_CONTEXT = "refused:context"
    REFUSED_KEYS = "refused:keys"
    REFUSED_SIGNATURE = "refused:signature"
    REFUSED_CIPHERTEXT = "refused:ciphertext"

    FAILED_SILENT = "failed:silent"
    FAILED_LATE = "failed:late"
    FAILED_APP = "failed:app"
    FAILED_ERROR = "failed:error"
    FAILED_UNMASKING = "failed:unmasking"
    # Codes of `common.flower.records.RelayError`.
    FAILED_UNAVAILABLE = "failed:unavailable"
    FAILED_BUSY = "failed:busy"
    FAILED_UNREADABLE = "failed:unreadable"
    FAILED_FAILED = "failed:failed"

    @property
    def meaning(self) -> str:
        """One sentence without a full stop, for reports."""
        return _MEANINGS[self]


_MEANINGS: Mapping[RoundOutcome, str] = MappingProxyType(
    {
        RoundOutcome.CONTRIBUTED: "the update counted in the round",
        RoundOutcome.RECEIVED: "the final adapter came, for the institution's personal model",
        RoundOutcome.DECLINED_BUDGET: "the training did not fit in the rest of the institution's privacy budget; "
        "nothing was trained",
        RoundOutcome.DECLINED_CONFIG: "the institution's settings do not allow this configuration",
        RoundOutcome.DECLINED_BASE_MODEL: "the institution's base model is not the one that the run names",
        RoundOutcome.DECLINED_TASK: "the institution does not take part in this task",
        RoundOutcome.DECLINED_PRIVACY_LIMIT: "the run asks for less privacy than the institution allows",
        RoundOutcome.DECLINED_REPLAY: "the institution had seen this message before, or it belonged to another round",
        RoundOutcome.DECLINED_BUSY: "the institution was still training for another message",
        RoundOutcome.DECLINED_ERROR: "the training failed at the institution; the details stay there",
        RoundOutcome.REFUSED_UNKNOWN_SENDER: "the sender is not enrolled",
        RoundOutcome.REFUSED_NOT_ASKED: "the sender was not asked in this round",
        RoundOutcome.REFUSED_WRONG_SENDER: "the message was made by somebody else",
        RoundOutcome.REFUSED_WRONG_RUN: "the message belonged to another run",
        RoundOutcome.REFUSED_WRONG_ROUND: "the message belonged to another round",
        RoundOutcome.REFUSED_WRONG_RECIPIENT: "the message was meant for another hub",
        RoundOutcome.REFUSED_WRONG_KIND: "the message was neither a contribution nor a refusal",
        RoundOutcome.REFUSED_MESSAGE: "the message could not be read",
        RoundOutcome.REFUSED_CODE: "the contribution was made by another version of the code",
        RoundOutcome.REFUSED_SPEC: "the contribution was made for another adapter",
        RoundOutcome.REFUSED_STATEMENT: "its privacy statement does not match the run",
        RoundOutcome.REFUSED_REPLAYED: "the same adapter had been sent before",
        RoundOutcome.REFUSED_NORM: "the update, or that of all under secure aggregation, was longer than allowed",
        RoundOutcome.REFUSED_MASKS: "its keys, shares or masks were not those of secure aggregation in this round",
        RoundOutcome.REFUSED_TOO_LARGE: "the message was larger than allowed",
        RoundOutcome.REFUSED_MALFORMED: "the message could not be read",
        RoundOutcome.REFUSED_MISSING: "the adapter lacked a tensor",
        RoundOutcome.REFUSED_EXTRA: "the adapter held a tensor that was not asked for",
        RoundOutcome.REFUSED_DTYPE: "a tensor of the adapter had another number type than agreed",
        RoundOutcome.REFUSED_SHAPE: "a tensor of the adapter had another shape than agreed",
        RoundOutcome.REFUSED_NON_FINITE: "the adapter held infinite or undefined numbers",
        RoundOutcome.REFUSED_CONTEXT: "the envelope was made for another run, round, kind or party",
        RoundOutcome.REFUSED_KEYS: "the envelope was made with other keys than those enrolled",
        RoundOutcome.REFUSED_SIGNATURE: "the envelope's signature does not verify",
        RoundOutcome.REFUSED_CIPHERTEXT: "the envelope could not be opened",
        RoundOutcome.FAILED_SILENT: "no answer came before the deadline: the institution was not connected",
        RoundOutcome.FAILED_LATE: "no answer came before the deadline, although the institution was connected",
        RoundOutcome.FAILED_APP: "the institution's node did not accept the hub's application",
        RoundOutcome.FAILED_ERROR: "the message could not be carried to the institution or back",
        RoundOutcome.FAILED_UNMASKING: "it answered, but too few others did so to the end, or masks did not cancel",
        RoundOutcome.FAILED_UNAVAILABLE: "the institution's agent was not running",
        RoundOutcome.FAILED_BUSY: "too many messages were waiting at the institution",
        RoundOutcome.FAILED_UNREADABLE: "the institution could not read the hub's message",
        RoundOutcome.FAILED_FAILED: "the institution's relay failed",
    }
)


def explain_outcome(outcome: str) -> str | None:
    """Return the meaning of an outcome from a file. None if this version does not know it.

    >>> explain_outcome("refused:spec")
    'the contribution was made for another adapter'
    """
    try:
        return RoundOutcome(outcome).meaning
    except ValueError:
        return None
