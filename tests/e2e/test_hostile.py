"""A member that lies: each kind of bad reply is refused with its reason, and the global adapter does not see it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.canonical import MAX_DECLARED_UNITS
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import encode
from common.weighting import weights
from server.hub.directory import APPROVED_UNITS
from server.rounds import checkpoint
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import DECLARED_UNITS, Hub, Run, command
from tests.e2e.hostile import Attack, HostileAgent, Question


def nan(question: Question) -> bytes:
    name = sorted(question.adapter)[0]
    spoilt = dict(question.adapter) | {name: np.full_like(question.adapter[name], np.nan)}
    return question.sealed(question.contribution(encode(spoilt)))


def wrong_shape(question: Question) -> bytes:
    name = sorted(question.adapter)[0]
    return question.sealed(question.contribution(encode(dict(question.adapter) | {name: np.zeros((1, 1), np.float32)})))


def huge_norm(question: Question) -> bytes:
    return question.sealed(question.contribution(encode(question.moved(1e6))))


def other_run(question: Question) -> bytes:
    context = replace(question.context, run_id="another-run")
    return question.sealed(replace(question.contribution(), run_id="another-run"), context)


def other_round(question: Question) -> bytes:
    round_ = question.assignment.round + 1
    return question.sealed(replace(question.contribution(), round=round_), replace(question.context, round=round_))


def tampered(question: Question) -> bytes:
    sealed = question.sealed(question.contribution())
    return sealed[:-20] + bytes([sealed[-20] ^ 1]) + sealed[-19:]


def by_another(question: Question) -> bytes:
    context = replace(question.context, sender="north")
    return question.sealed(replace(question.contribution()), context, PrivateKeys.generate("north"))


def own_name_other_keys(question: Question) -> bytes:
    return question.sealed(question.contribution(), keys=PrivateKeys.generate(question.keys.name))


def other_code(question: Question) -> bytes:
    return question.sealed(replace(question.contribution(), code_digest="00" * 32))


def less_noise(question: Question) -> bytes:
    contribution = question.contribution()
    assert contribution.statement is not None
    return question.sealed(replace(contribution, statement=replace(contribution.statement, noise_multiplier=0.1)))


_accepted: list[bytes] = []


def honest(question: Question) -> bytes:
    contribution = question.contribution()
    _accepted.append(contribution.adapter)
    return question.sealed(contribution)


def replayed(question: Question) -> bytes:
    """The adapter that counted before, sealed anew for this round."""
    return question.sealed(question.contribution(_accepted[0]))


ATTACKS: tuple[tuple[Attack, str], ...] = (
    (honest, "contributed"),
    (nan, "refused:non_finite"),
    (wrong_shape, "refused:shape"),
    (huge_norm, "refused:norm"),
    (other_run, "refused:wrong_run"),
    (other_round, "refused:wrong_round"),
    (replayed, "refused:replayed"),
    (tampered, "refused:signature"),
    (by_another, "refused:wrong_sender"),
    (own_name_other_keys, "refused:keys"),
    (other_code, "refused:code"),
    (less_noise, "refused:statement"),
)


def greedy(question: Question) -> bytes:
    """An honest adapter beside the largest size that can be declared."""
    return question.sealed(replace(question.contribution(), declared_units=MAX_DECLARED_UNITS))


@pytest.fixture(scope="module")
def eve(_started: Hub) -> Iterator[HostileAgent]:
    _started.await_connected(*BANKS)
    institution = _started.enrol("eve")
    with HostileAgent(institution) as agent:
        institution.started.arguments = (*institution.started.arguments, "--only", "node")
        _started.start_institutions(["eve"])
        yield agent
        institution.started.stop()
    command("fedfin-hub", "revoke", "eve", "--home", _started.directory)


def attacked(hub: Hub, eve: HostileAgent, attacks: Sequence[Attack], *changes: str) -> Run:
    """A run that has ended, in which eve answered each round with the attack for it."""
    eve.attacks = attacks
    run = hub.run(f"run.rounds={len(attacks)}", "evaluation.every_rounds=100", *changes)
    assert run.ended() == "finished"
    return run


def outcomes_of_eve(run: Run) -> list[str]:
    told = {body["round"]: body["outcomes"]["eve"] for body in run.audit("round_closed")}
    return [outcome for _, outcome in sorted(told.items())]


def test_every_bad_reply_is_refused_for_its_reason_and_leaves_the_adapter_alone(hub: Hub, eve: HostileAgent) -> None:
    run = attacked(hub, eve, [attack for attack, _ in ATTACKS], "aggregation.max_update_norm=1000")
    assert outcomes_of_eve(run) == [expected for _, expected in ATTACKS]
    state = checkpoint.load(run.directory / "checkpoint")
    for record in state.history[1:]:
        assert set(record.weights) == set(record.contributed) == set(BANKS)
    # Had one of them counted, it would be far off or not a number.
    assert all(np.isfinite(tensor).all() and np.abs(tensor).max() < 1e3 for tensor in state.adapter.values())


def test_one_member_decides_no_model_with_the_defaults_of_a_run(hub: Hub, eve: HostileAgent) -> None:
    run = attacked(hub, eve, [greedy, huge_norm])
    assert outcomes_of_eve(run) == ["contributed", "refused:norm"]
    declared = dict.fromkeys(BANKS, DECLARED_UNITS) | {"eve": APPROVED_UNITS}
    assert run.history()[0]["weights"] == pytest.approx(weights(declared, "declared_units"))
