"""Under secure aggregation too, the memory of the hub's rounds does not grow with the number of institutions."""

import gc
import tracemalloc
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config.run import parse_run
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors
from common.protocol.envelope import MessageContext, open_sealed, peek, seal
from common.protocol.messages import PrivacyStatement
from common.secure_aggregation.messages import (
    AnnouncementRequest,
    ConfirmationRequest,
    MaskedSum,
    MaskedSumRequest,
    PadsRequest,
    SecureMessage,
    SharesRequest,
    UnmaskingRequest,
)
from common.secure_aggregation.participant import Participant
from common.secure_aggregation.sums import SumRange
from common.secure_aggregation.terms import Terms
from common.source import code_digest
from server.rounds import coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.secure_exchange import largest_answer
from server.rounds.spool import Spool

NUMBERS = 2**18
BYTES = 4 * NUMBERS
SPEC = Spec.of({"w": np.zeros(NUMBERS, dtype=np.float32)})
STATEMENT = PrivacyStatement(1.0, 1.0, 1, 1e-5, 1.0, 0.1)
QUESTIONS: Mapping[str, type[SecureMessage]] = {
    kind.kind(): kind
    for kind in (
        AnnouncementRequest,
        SharesRequest,
        PadsRequest,
        MaskedSumRequest,
        ConfirmationRequest,
        UnmaskingRequest,
    )
}


class Parties:
    """Institutions that mask zeros, and answer all else as they should."""

    def __init__(self, keys: Mapping[str, PrivateKeys], names: list[str], spool: Path | None) -> None:
        self.keys, self.names, self.spool = keys, names, spool
        self.public = {name: keys[name].public for name in names}
        self.parties: dict[str, Participant] = {}

    def exchange(self, round_: int, sealed: Mapping[str, bytes], _deadline_s: float) -> Spool[bytes | Failure]:
        answers: Spool[bytes | Failure] = Spool(self.spool)
        for name in sealed:
            place = peek(sealed[name])
            question = open_sealed(sealed[name], self.keys[name], self.keys["hub"].public, place)
            answer = self._answer(name, QUESTIONS[place.kind].from_bytes(question))
            back = MessageContext("run", round_, answer.kind(), name, "hub")
            answers[name] = seal(answer.to_bytes(), self.keys[name], self.keys["hub"].public, back)
        return answers

    def _answer(self, name: str, question: SecureMessage) -> SecureMessage:
        if isinstance(question, AnnouncementRequest):
            terms = Terms.from_json(question.terms_json)
            self.parties[name] = Participant(self.keys[name], terms, self.public, 64)
            return self.parties[name].announce()
        party = self.parties[name]
        if isinstance(question, SharesRequest):
            return party.deal(question.bits, question.announcements)
        if isinstance(question, PadsRequest):
            return party.receive(question.packets)
        if isinstance(question, ConfirmationRequest):
            return party.confirm(question.round, question.survivors)
        if isinstance(question, UnmaskingRequest):
            return party.unmask(question.round, question.signatures)
        assert isinstance(question, MaskedSumRequest)
        zeros, range_ = np.zeros(NUMBERS, dtype=np.int64), SumRange(party.bits, 2**20)
        values = party.mask(question.round, question.members, zeros, range_)
        place = (question.terms, question.round)
        return MaskedSum(*place, values, SPEC.digest(), code_digest(), 64, STATEMENT, 2.0)


def run(keys: dict[str, PrivateKeys], names: list[str], spool: Path | None) -> int:
    """Return the peak of memory during one round, in bytes."""
    settings: dict[str, Any] = {
        "run": {"name": "test", "seed": 1, "rounds": 1},
        "task": {"name": "sentiment_analysis", "labels": ["negative", "positive"]},
        "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
        "privacy": {"mode": "custom", "noise_multiplier": 1.0, "clipping_norm": 1.0, "delta": 1e-5},
        "aggregation": {"secure": True, "honest": len(names), "threshold": len(names)},
    }
    config = parse_run(settings, "test")
    start: Tensors = {"w": np.random.default_rng(0).normal(size=NUMBERS).astype(np.float32)}
    parties = Parties(keys, names, spool)
    federation = FederationContext(keys["hub"], parties.public, config, SPEC, spool=partial(Spool, spool))
    state = RunState(run_id="run", config_digest=config.digest(), next_round=1, adapter=start)
    gc.collect()
    tracemalloc.start()
    try:
        final = coordinator.run(state, federation, parties, lambda _: None, lambda _: None, lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert final.history[0].contributed == tuple(names)
    assert np.array_equal(final.adapter["w"], start["w"])
    return peak


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKeys]:
    return {name: PrivateKeys.generate(name) for name in ("hub", *(f"b{i:02}" for i in range(12)))}


def test_twelve_institutions_take_the_memory_of_four(keys: dict[str, PrivateKeys], tmp_path: Path) -> None:
    banks = sorted(keys.keys() - {"hub"})
    run(keys, banks[:2], tmp_path)  # whatever is loaded once
    few, many = run(keys, banks[:4], tmp_path), run(keys, banks, tmp_path)
    # The packets of all pairs are kept, and no message with tensors.
    assert many < few + 2 * BYTES
    assert run(keys, banks, None) > many + 8 * BYTES
    assert not list(tmp_path.iterdir())


def test_the_largest_masked_sum_is_taken_and_hardly_more() -> None:
    largest = np.full(NUMBERS, 2**63 - 1, dtype=np.uint64)
    longest = MaskedSum("0" * 64, 1, largest.tobytes(), SPEC.digest(), code_digest(), 64, STATEMENT, 2.0)
    assert len(longest.to_bytes()) <= largest_answer(SPEC, 2) < 2 * len(longest.to_bytes())
