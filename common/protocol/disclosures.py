"""Everything that an institution tells its hub, field by field, and the privacy decision behind each.

A field may leave for one of three reasons, and there is no fourth:

- NOISED: it was computed from private rows by the mechanism that the ledger was charged for.
- CHOSEN: somebody decided it (the run, the officer, the installation), whatever the rows are.
- CLOSED: one word of a closed list, about the institution's state. The word may depend on whether the rows
  can be read at all and fit the run's labels, and on their number only if the officer set no delta.

There is no setting that releases a count, a loss, a metric or a clip fraction, noised or not: nobody who trains a
shared model needs one, and each would take budget from the model. `declared_units` is the one declaration.
A test fails when a message gains a field that is not decided here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["DISCLOSURES", "Basis"]


class Basis(StrEnum):
    """Why a field may leave."""

    NOISED = "noised"
    CHOSEN = "chosen"
    CLOSED = "closed"


DISCLOSURES: Mapping[str, tuple[Basis, str]] = MappingProxyType(
    {
        "Contribution.run_id": (Basis.CHOSEN, "the hub's own"),
        "Contribution.round": (Basis.CHOSEN, "the hub's own"),
        "Contribution.adapter": (Basis.NOISED, "clipped, noised, charged before the rows were touched"),
        "Contribution.spec_digest": (Basis.CHOSEN, "names and shapes that the run fixed"),
        "Contribution.code_digest": (Basis.CHOSEN, "the installed package"),
        "Contribution.statement": (Basis.CHOSEN, "see PrivacyStatement; None without privacy"),
        "Contribution.declared_units": (Basis.CHOSEN, "a power of two that the officer declares, or None"),
        "PrivacyStatement.noise_multiplier": (Basis.CHOSEN, "by the run, or calibrated from the run's values alone"),
        "PrivacyStatement.clipping_norm": (Basis.CHOSEN, "by the run"),
        "PrivacyStatement.steps": (Basis.CHOSEN, "by the run"),
        "PrivacyStatement.delta": (Basis.CHOSEN, "by the run"),
        "PrivacyStatement.epsilon": (Basis.CHOSEN, "follows from the run's values and how often a training was begun"),
        "PrivacyStatement.sampling_probability": (Basis.CHOSEN, "by the run; None where it would follow from a count"),
        "Receipt.run_id": (Basis.CHOSEN, "the hub's own"),
        "Receipt.round": (Basis.CHOSEN, "the hub's own"),
        "Refusal.run_id": (Basis.CHOSEN, "the hub's own"),
        "Refusal.round": (Basis.CHOSEN, "the hub's own"),
        "Refusal.code": (Basis.CLOSED, "`messages.RefusalCode`"),
        "Announcement.terms": (Basis.CHOSEN, "the hub's own"),
        "Announcement.round": (Basis.CHOSEN, "the hub's own"),
        "Announcement.sealing": (Basis.CHOSEN, "a public key of one session"),
        "Announcement.declared_units": (Basis.CHOSEN, "a power of two that the officer declares, or None"),
        "Announcement.signature": (Basis.CHOSEN, "over all of the above"),
        "DealtShares.terms": (Basis.CHOSEN, "the hub's own"),
        "DealtShares.round": (Basis.CHOSEN, "the hub's own"),
        "DealtShares.packets": (Basis.CHOSEN, "random numbers, sealed to other institutions"),
        "DealtShares.digests": (Basis.CHOSEN, "digests of random numbers of 128 bits"),
        "Pads.terms": (Basis.CHOSEN, "the hub's own"),
        "Pads.round": (Basis.CHOSEN, "the hub's own"),
        "Pads.pads": (Basis.CHOSEN, "random numbers, encrypted"),
        "Pads.unopened": (Basis.CHOSEN, "names, by the packets of random numbers that others sealed"),
        "MaskedSum.terms": (Basis.CHOSEN, "the hub's own"),
        "MaskedSum.round": (Basis.CHOSEN, "the hub's own"),
        "MaskedSum.values": (Basis.NOISED, "clipped, noised, charged before the rows were touched, and masked"),
        "MaskedSum.spec_digest": (Basis.CHOSEN, "names and shapes that the run fixed"),
        "MaskedSum.code_digest": (Basis.CHOSEN, "the installed package"),
        "MaskedSum.declared_units": (Basis.CHOSEN, "a power of two that the officer declares, or None"),
        "MaskedSum.statement": (Basis.CHOSEN, "see PrivacyStatement"),
        "MaskedSum.epsilon_alone": (Basis.CHOSEN, "as PrivacyStatement.epsilon, with the institution's own noise"),
        "Confirmation.terms": (Basis.CHOSEN, "the hub's own"),
        "Confirmation.round": (Basis.CHOSEN, "the hub's own"),
        "Confirmation.signature": (Basis.CHOSEN, "over the names that the hub gave"),
        "Unmasking.terms": (Basis.CHOSEN, "the hub's own"),
        "Unmasking.round": (Basis.CHOSEN, "the hub's own"),
        "Unmasking.seed": (Basis.CHOSEN, "a random number, of a round that enough institutions confirmed"),
        "Unmasking.shares": (Basis.CHOSEN, "random numbers, for each institution of one of two kinds"),
        "RelayError": (Basis.CLOSED, "`flower_records.RelayError`, from the process that can read nothing"),
        "EnrolmentRequest.keys": (Basis.CHOSEN, "public keys, and the institution's name"),
        "EnrolmentRequest.csr": (Basis.CHOSEN, "a public key and the institution's name"),
        "EnrolmentRequest.node_key": (Basis.CHOSEN, "a public key"),
        "EnrolmentRequest.chain": (
            Basis.CHOSEN,
            "certificates of its own authority for that key, or none",
        ),
        "EnrolmentRequest.signature": (Basis.CHOSEN, "over all of the above"),
    }
)
