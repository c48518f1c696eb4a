"""Every way in which a reply can be wrong: recorded with its reason, and the global adapter untouched by it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import QuorumError
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, decode, encode
from common.protocol.messages import Assignment, Contribution, PrivacyStatement, Refusal, RefusalCode
from common.protocol.outcomes import RoundOutcome
from server.rounds.admission import Failure, largest_reply

BAD = "bank-b"
Change = Callable[[Contribution], Contribution]


def honest(institution: Any) -> Contribution:
    """The institution's answer to its latest assignment."""
    return institution.contribution(Assignment.from_bytes(institution.questions[-1][1]))


def changed(change: Change) -> Any:
    return lambda institution, round_, reply: institution.reseal(change(honest(institution)))


def with_adapter(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], spec: Any = None) -> Any:
    def apply(message: Contribution) -> Contribution:
        names = {"a.weight": np.zeros((4, 3), np.float32), "b.weight": np.zeros(5, np.float32)}
        return replace(message, adapter=encode(change(decode(message.adapter, Spec.of(names)))))

    return changed(apply)


def one_value(value: float) -> Any:
    def change(adapter: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        adapter["a.weight"][1, 2] = value
        return adapter

    return with_adapter(change)


def flipped(position: int) -> Any:
    def meddle(institution: Any, round_: int, reply: bytes) -> bytes:
        at = position % len(reply)
        return reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :]

    return meddle


def sealed_elsewhere(**place: Any) -> Any:
    return lambda institution, round_, reply: institution.reseal(honest(institution), **place)


def declined(round_: int) -> Refusal:
    return Refusal("run-1", round_, RefusalCode.BUDGET)


WRONG: dict[str, tuple[str, Any]] = {
    "NaN": ("refused:non_finite", one_value(float("nan"))),
    "infinity": ("refused:non_finite", one_value(float("inf"))),
    "huge norm": ("refused:norm", one_value(1e6)),
    "largest float": ("refused:norm", one_value(float(np.finfo(np.float32).max))),
    "wrong shape": ("refused:shape", with_adapter(lambda t: {**t, "b.weight": t["b.weight"].reshape(5, 1)})),
    "missing tensor": ("refused:missing", with_adapter(lambda t: {"a.weight": t["a.weight"]})),
    "extra tensor": ("refused:extra", with_adapter(lambda t: {**t, "c.weight": t["b.weight"]})),
    "not safetensors": ("refused:malformed", changed(lambda m: replace(m, adapter=b"garbage"))),
    "cut adapter": ("refused:malformed", changed(lambda m: replace(m, adapter=m.adapter[:-4]))),
    "other spec": ("refused:spec", changed(lambda m: replace(m, spec_digest="0" * 64))),
    "other code": ("refused:code", changed(lambda m: replace(m, code_digest="0" * 64))),
    "other run": ("refused:wrong_run", sealed_elsewhere(run_id="run-2")),
    "other run inside": ("refused:wrong_run", changed(lambda m: replace(m, run_id="run-2"))),
    "later round": ("refused:wrong_round", sealed_elsewhere(round=9)),
    "other round inside": (
        "refused:wrong_round",
        lambda i, r, reply: i.reseal(replace(honest(i), round=r + 1), round=r),
    ),
    "other kind": ("refused:wrong_kind", sealed_elsewhere(kind="assignment")),
    "refusal as contribution": (
        "refused:message",
        lambda i, r, reply: i.reseal(declined(r), kind="contribution"),
    ),
    "tampered ciphertext": ("refused:signature", flipped(-1)),
    "tampered signature": ("refused:signature", flipped(-2000)),
    "not an envelope": ("refused:malformed", lambda i, r, reply: b"garbage"),
    "empty": ("refused:malformed", lambda i, r, reply: b""),
    "oversized": ("refused:too_large", lambda i, r, reply: reply + bytes(2**17)),
    "own refusal": (
        "declined:budget",
        lambda i, r, reply: i.reseal(declined(r), "refusal"),
    ),
    "refusal of another round": (
        "refused:wrong_round",
        lambda i, r, reply: i.reseal(declined(r + 1), "refusal", round=r),
    ),
    "silence": ("failed:silent", lambda i, r, reply: None),
    "transport failure": ("failed:error", lambda i, r, reply: Failure(RoundOutcome.FAILED_ERROR, "connection lost")),
}


def limited(federate: Any) -> Any:
    return federate(aggregation={"weighting": "uniform", "max_update_norm": 100.0})


@pytest.fixture
def without(federate: Any) -> Any:
    """The run in which the bad institution says nothing."""
    federation = limited(federate)
    federation.meddle[BAD] = lambda institution, round_, reply: None
    return federation.run()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reply_is_recorded_and_touches_nothing(federate: Any, without: Any, name: str) -> None:
    outcome, meddle = WRONG[name]
    federation = limited(federate)
    federation.meddle[BAD] = meddle
    final = federation.run()
    for record in final.history:
        assert record.outcomes == {"bank-a": "contributed", BAD: outcome, "bank-c": "contributed"}
        assert record.contributed == ("bank-a", "bank-c")
    assert {n: v.tobytes() for n, v in final.adapter.items()} == {n: v.tobytes() for n, v in without.adapter.items()}


def test_the_run_without_wrong_replies_differs(federate: Any, without: Any) -> None:
    final = limited(federate).run()
    assert final.adapter["b.weight"].tobytes() != without.adapter["b.weight"].tobytes()
    assert final.history[0].contributed == ("bank-a", BAD, "bank-c")


def as_outcomes(federation: Any) -> dict[str, str]:
    return dict(federation.run().history[-1].outcomes)


def test_a_reply_signed_by_another_institution_is_refused(federate: Any, all_keys: dict[str, PrivateKeys]) -> None:
    federation = limited(federate)
    other = all_keys["bank-c"]

    def as_itself(institution: Any, round_: int, reply: bytes) -> bytes:
        return institution.reseal(honest(institution), keys=other, sender=other.name)

    federation.meddle[BAD] = as_itself
    assert as_outcomes(federation)[BAD] == "refused:wrong_sender"

    def under_its_name(institution: Any, round_: int, reply: bytes) -> bytes:
        return institution.reseal(honest(institution), keys=replace(other, name=BAD))

    federation.meddle[BAD] = under_its_name
    assert as_outcomes(federation)[BAD] == "refused:keys"

    def header_of_the_enrolled_keys(institution: Any, round_: int, reply: bytes) -> bytes:
        start = reply.index(b"}") + 1
        body = reply[start + 64 :]
        return reply[:start] + other.signing_key.sign(body) + body

    federation.meddle[BAD] = header_of_the_enrolled_keys
    assert as_outcomes(federation)[BAD] == "refused:signature"


def test_a_reply_sealed_to_another_hub_is_refused(federate: Any, all_keys: dict[str, PrivateKeys]) -> None:
    federation = limited(federate)

    def meddle(institution: Any, round_: int, reply: bytes) -> bytes:
        elsewhere = replace(institution, hub=all_keys["stranger"].public)
        return elsewhere.reseal(honest(institution))

    federation.meddle[BAD] = meddle
    assert as_outcomes(federation)[BAD] == "refused:wrong_recipient"


def test_an_unknown_sender_is_recorded_and_touches_nothing(federate: Any, all_keys: dict[str, PrivateKeys]) -> None:
    plain, federation = limited(federate), limited(federate)
    stranger = replace(federation.institutions[BAD], keys=all_keys["stranger"])
    sealed = stranger.reseal(Contribution("run-1", 1, b"", "0" * 64, "0" * 64, None, None))
    federation.extra = {"stranger": sealed}
    final = federation.run()
    assert final.history[0].outcomes["stranger"] == "refused:unknown_sender"
    assert final.history[0].asked == ("bank-a", "bank-b", "bank-c")
    assert final.adapter["a.weight"].tobytes() == plain.run().adapter["a.weight"].tobytes()


def test_an_enrolled_institution_that_was_not_asked_is_refused(federate: Any) -> None:
    federation = federate(aggregation={"institutions_per_round": 2})
    unasked = ({"bank-a", "bank-b", "bank-c"} - set(federation.run().history[0].asked)).pop()
    federation.extra = {unasked: b"anything"}
    assert federation.run().history[0].outcomes[unasked] == "refused:not_asked"


def test_bytes_of_an_earlier_round_do_not_count_again(federate: Any) -> None:
    federation = limited(federate)
    kept: list[bytes] = []

    def meddle(institution: Any, round_: int, reply: bytes) -> bytes:
        kept.append(reply)
        return kept[0]

    federation.meddle[BAD] = meddle
    final = federation.run()
    assert [r.outcomes[BAD] for r in final.history] == ["contributed", "refused:wrong_round", "refused:wrong_round"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("copied_from", [BAD, "bank-c"])
def test_an_update_that_was_combined_before_does_not_count_again_in_a_new_envelope(
    federate: Any, copied_from: str, dtype: str
) -> None:
    federation = federate(aggregation={"weighting": "uniform", "max_update_norm": 100.0, "update_dtype": dtype})
    first: dict[str, Contribution] = {}

    def keep(institution: Any, round_: int, reply: bytes) -> bytes:
        first.setdefault(institution.keys.name, honest(institution))
        return reply

    def meddle(institution: Any, round_: int, reply: bytes) -> bytes:
        keep(institution, round_, reply)
        return reply if round_ == 1 else institution.reseal(replace(first[copied_from], round=round_))

    federation.meddle = {BAD: meddle, "bank-c": keep}
    final = federation.run()
    assert [record.outcomes[BAD] for record in final.history] == ["contributed", "refused:replayed", "refused:replayed"]


def test_an_unchanged_global_adapter_may_come_again(federate: Any) -> None:
    federation = federate(rounds=3)

    def echo(institution: Any, round_: int, reply: bytes) -> bytes:
        question = Assignment.from_bytes(institution.questions[-1][1])
        return institution.reseal(replace(honest(institution), adapter=question.adapter))

    federation.meddle = dict.fromkeys(federation.institutions, echo)
    final = federation.run()
    assert all(record.contributed == ("bank-a", "bank-b", "bank-c") for record in final.history)
    assert final.adapter["a.weight"].tobytes() == federation.start().adapter["a.weight"].tobytes()


def test_the_limits_of_a_run_hold_for_updates_in_bfloat16(federate: Any) -> None:
    """The norm is that of the change. Numbers of the other type, infinity and a longer answer are refused by name."""
    start = {name: np.zeros_like(value) for name, value in federate().start().adapter.items()}

    def change(value: float, dtype: Any = "bfloat16") -> Any:
        update = {**start, "b.weight": np.array([value, 0, 0, 0, 0], np.float32)}
        return changed(lambda m: replace(m, adapter=encode(update, dtype)))

    for wrong, outcome in (
        (change(99.0), "contributed"),
        (change(101.0), "refused:norm"),
        (change(1.0, "float32"), "refused:dtype"),
        (change(float("inf")), "refused:non_finite"),
        (lambda i, r, reply: reply + bytes(2**17), "refused:too_large"),
    ):
        federation = federate(rounds=1, aggregation={"max_update_norm": 100.0, "update_dtype": "bfloat16"})
        federation.meddle[BAD] = wrong
        assert federation.run().history[0].outcomes[BAD] == outcome


def test_the_largest_reply_follows_the_type_of_the_numbers() -> None:
    spec = Spec.of({"a.weight": np.zeros((300, 300), np.float32)})
    assert largest_reply(spec) - largest_reply(spec, "bfloat16") == pytest.approx(spec.data_bytes / 2, abs=16)


def test_the_norm_limit_is_the_limit(federate: Any) -> None:
    start = limited(federate).start().adapter

    def moved(by: float) -> Any:
        def change(adapter: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            adapter = {name: value.copy() for name, value in start.items()}
            adapter["a.weight"][0, 0] += np.float32(by)
            return adapter

        return with_adapter(change)

    for by, outcome in ((99.0, "contributed"), (101.0, "refused:norm")):
        federation = federate(rounds=1, aggregation={"max_update_norm": 100.0})
        federation.meddle[BAD] = moved(by)
        assert as_outcomes(federation)[BAD] == outcome


PRIVATE = {"mode": "custom", "noise_multiplier": 1.5, "clipping_norm": 0.5, "delta": 1e-4}
STATED = PrivacyStatement(
    noise_multiplier=1.5, clipping_norm=0.5, steps=1, delta=1e-4, epsilon=0.7, sampling_probability=0.1
)


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        (STATED, "contributed"),
        (replace(STATED, noise_multiplier=2.0), "contributed"),
        (replace(STATED, noise_multiplier=1.4), "refused:statement"),
        (replace(STATED, clipping_norm=0.6), "refused:statement"),
        (replace(STATED, delta=1e-3), "refused:statement"),
        (replace(STATED, steps=2), "refused:statement"),
        (replace(STATED, sampling_probability=0.2), "refused:statement"),
        (replace(STATED, sampling_probability=None), "refused:statement"),
        (replace(STATED, noise_multiplier=1e7), "refused:statement"),
        (replace(STATED, epsilon=1e19), "refused:statement"),
        (None, "refused:statement"),
    ],
)
def test_under_privacy_a_contribution_must_state_the_privacy_of_the_run(
    federate: Any, statement: PrivacyStatement | None, outcome: str
) -> None:
    federation = federate(privacy=PRIVATE)
    for institution in federation.institutions.values():
        institution.statement = STATED
    federation.institutions[BAD].statement = statement
    final = federation.run()
    assert final.history[0].outcomes[BAD] == outcome
    told = {"bank-a", "bank-c"} | ({BAD} if outcome == "contributed" else set())
    assert final.history[0].epsilon == dict.fromkeys(told, 0.7)


def test_all_replies_wrong_is_a_missed_quorum_and_not_a_crash(federate: Any) -> None:
    federation = limited(federate)
    federation.meddle = dict.fromkeys(federation.institutions, one_value(float("nan")))
    with pytest.raises(QuorumError, match="non_finite"):
        federation.run()


@pytest.mark.parametrize(
    ("training", "by", "outcome"),
    [
        ({"optimizer": "sgd"}, 100.0, "contributed"),
        ({"optimizer": "sgd"}, 1e4, "refused:norm"),
        ({"optimizer": "adam"}, 100.0, "contributed"),
        ({"optimizer": "adam"}, 1e4, "refused:norm"),
        ({"optimizer": "sgd", "head_learning_rate": 100.0}, 1e4, "contributed"),
    ],
)
def test_under_privacy_a_change_far_beyond_any_training_is_refused_by_default(
    federate: Any, training: dict[str, Any], by: float, outcome: str
) -> None:
    steps = {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0}
    federation = federate(rounds=1, privacy=PRIVATE, training=steps | training)
    for institution in federation.institutions.values():
        institution.statement = STATED
    federation.meddle[BAD] = one_value(by)
    assert as_outcomes(federation)[BAD] == outcome


def test_without_privacy_there_is_no_default_limit(federate: Any) -> None:
    federation = federate(rounds=1)
    federation.meddle[BAD] = one_value(1e30)
    assert as_outcomes(federation)[BAD] == "contributed"
