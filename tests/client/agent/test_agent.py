"""An institution answers its hub alone, each round once, and pays for nothing that it declines."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.agent import Agent, LocalModel
from client.federation import local_round
from client.federation.local_round import PreparedData
from client.institution.paths import InstitutionPaths
from client.institution.say import Say
from common.adapters.feature_cache import FeatureCache
from common.config.run import RunConfig, parse_run
from common.errors import AssignmentRefused, EnvelopeError, MessageError
from common.identity.keys import PrivateKeys
from common.privacy.charges import Charge, read_charges
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import decode, encode
from common.protocol.envelope import MessageContext, open_sealed, peek, seal
from common.protocol.messages import Assignment, Contribution, Refusal, RefusalCode
from common.source import code_digest
from tests.client.institution.example_config import institution_config
from tests.tiny_models import tiny_adapted

HUB, BANK, OTHER = PrivateKeys.generate("hub"), PrivateKeys.generate("bank"), PrivateKeys.generate("other")
RECORDS, RUN, STEPS = 30, "run 1", 2
PRIVATE: dict[str, Any] = {"mode": "custom", "noise_multiplier": 1.5, "clipping_norm": 0.5, "delta": 1e-4}


def config(rounds: int = 3, **privacy: Any) -> RunConfig:
    return parse_run(
        {
            "run": {"name": "tiny", "seed": 3, "rounds": rounds},
            "task": {"name": "sentiment_analysis"},
            "adapter": {"rank": 2, "alpha": 4, "dropout": 0.0, "layers": "last:1", "trained_factors": "B"},
            "training": {"local_steps": STEPS, "sampling_rate": 0.25, "learning_rate": 0.5},
            "privacy": privacy or PRIVATE,
        },
        "test",
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    model = tiny_adapted(tmp_path_factory.mktemp("model"), blocks=2, target_modules="all-linear", layers="last:1")
    texts = [f"{('loss', 'market', 'profit')[n % 3]} of bank {n}" for n in range(RECORDS)]
    tokens = model.encode(texts, [n % 3 for n in range(RECORDS)])
    return LocalModel(model, PreparedData(tokens, "f" * 64, FeatureCache()), "b" * 64)


class Bank:
    """An agent, with the view that its hub and its auditor have of it."""

    def __init__(self, directory: Path, local: LocalModel, **settings: Any) -> None:
        self.directory, self.local = directory, local
        PrivacyLedger.open(directory / "ledger.jsonl", BANK).close()
        self.prepared = 0
        self.agent = Agent(directory, institution_config("bank", **settings), BANK, HUB.public, self._prepare)

    def _prepare(self, _: RunConfig) -> LocalModel:
        self.prepared += 1
        return self.local

    def charges(self) -> tuple[Charge, ...]:
        return read_charges(self.directory / "ledger.jsonl", BANK.public)

    def ask(self, assignment: Assignment) -> Contribution | Refusal:
        return self.read(self.agent.handle(sealed(assignment)))

    def read(self, answer: bytes) -> Contribution | Refusal:
        context = peek(answer)
        expected = MessageContext(context.run_id, context.round, context.kind, "bank", "hub")
        payload = open_sealed(answer, HUB, BANK.public, expected)
        return (Refusal if context.kind == "refusal" else Contribution).from_bytes(payload)

    def refusal(self, assignment: Assignment) -> RefusalCode:
        """The code of the answer, which must be a refusal that changed nothing in the ledger."""
        before = self.charges()
        answer = self.ask(assignment)
        assert self.charges() == before
        assert isinstance(answer, Refusal)
        assert (answer.run_id, answer.round) == (assignment.run_id, assignment.round)
        return answer.code


@pytest.fixture
def bank(tmp_path: Path, local: LocalModel) -> Bank:
    return Bank(tmp_path / "bank", local)


@pytest.fixture
def ask(local: LocalModel) -> Callable[..., Assignment]:
    spec, start = local.adapted.spec, local.adapted.initial()

    def make(round_: int = 1, run: RunConfig | None = None, **changes: Any) -> Assignment:
        text = (run or config()).to_json()
        return replace(Assignment(RUN, round_, text, spec.to_json(), encode(start), code_digest()), **changes)

    return make


Ask = Callable[..., Assignment]


def sealed(assignment: Assignment, sender: PrivateKeys = HUB, recipient: PrivateKeys = BANK, **place: Any) -> bytes:
    context = MessageContext(assignment.run_id, assignment.round, "assignment", sender.name, recipient.name)
    return seal(assignment.to_bytes(), sender, recipient.public, replace(context, **place))


def nudged(assignment: Assignment, local: LocalModel) -> Assignment:
    """The same question about another adapter."""
    adapter = {name: value + np.float32(0.1) for name, value in decode(assignment.adapter, local.adapted.spec).items()}
    return replace(assignment, adapter=encode(adapter))


def test_a_contribution_is_a_changed_adapter_and_a_statement_of_what_was_charged(bank: Bank, ask: Ask) -> None:
    assignment = ask()
    answer = bank.ask(assignment)
    assert isinstance(answer, Contribution)
    assert answer.adapter != assignment.adapter
    decode(answer.adapter, bank.local.adapted.spec)
    (charge,) = bank.charges()
    assert charge.steps_done == STEPS
    assert answer.statement is not None
    assert (answer.statement.steps, answer.statement.noise_multiplier) == (STEPS, charge.event.noise_multiplier)
    assert answer.declared_units is None


def test_the_share_that_the_hub_states_is_kept_beside_the_answers(bank: Bank, ask: Ask) -> None:
    bank.ask(ask())
    assert Say.read(InstitutionPaths(bank.directory).outbox(RUN)) is None
    bank.ask(ask(2, share=0.25, members=4))
    assert Say.read(InstitutionPaths(bank.directory).outbox(RUN)) == Say(0.25, 4)


def test_no_answer_shows_that_some_row_has_a_loss_without_end(tmp_path: Path, local: LocalModel, ask: Ask) -> None:
    """The hub makes the loss of one label overflow, to read from a failure that some row carries it."""
    bias = local.adapted.output_bias()
    assert bias is not None
    start = local.adapted.initial() | {bias: np.array([3e38, 3e38, -3e38], np.float32)}
    tokens = local.data.tokens
    for place, labels in enumerate(((0, 1), (0, 1, 2))):
        of_rows = tuple(np.asarray(labels[row % len(labels)], np.int64) for row in range(RECORDS))
        data = PreparedData(replace(tokens, labels=of_rows), "f" * 64, FeatureCache())
        bank = Bank(tmp_path / str(place), replace(local, data=data))
        for round_ in (1, 2):
            assert isinstance(bank.ask(ask(round_, adapter=encode(start))), Contribution)


def test_only_the_hubs_own_signature_over_an_assignment_to_this_institution_counts(bank: Bank, ask: Ask) -> None:
    impostor = PrivateKeys.generate("hub")
    foreign = {
        "keys": sealed(ask(), sender=impostor),
        "context": sealed(ask(), sender=OTHER),
    }
    for code, data in foreign.items():
        with pytest.raises(EnvelopeError) as refused:
            bank.agent.handle(data)
        assert refused.value.code == code
    for data in (sealed(ask(), recipient=OTHER), sealed(ask(), kind="contribution"), b"", b"no envelope"):
        with pytest.raises(EnvelopeError):
            bank.agent.handle(data)
    assert (bank.charges(), bank.prepared) == ((), 0)


def test_a_bit_changed_anywhere_in_an_assignment_is_an_envelope_error_and_charges_nothing(bank: Bank, ask: Ask) -> None:
    data = sealed(ask())
    for position in {*range(0, len(data), len(data) // 60), len(data) - 1}:
        tampered = bytearray(data)
        tampered[position] ^= 1
        with pytest.raises(EnvelopeError):
            bank.agent.handle(bytes(tampered))
    with pytest.raises(EnvelopeError):
        bank.agent.handle(data[:-1])
    assert (bank.charges(), bank.prepared) == ((), 0)


def test_an_assignment_in_the_envelope_of_another_round_or_run_is_not_answered(bank: Bank, ask: Ask) -> None:
    for place in ({"round": 2}, {"run_id": "run 2"}):
        with pytest.raises(MessageError):
            bank.agent.handle(sealed(ask(), **place))
    assert (bank.charges(), bank.prepared) == ((), 0)


def test_a_retransmission_is_answered_with_the_same_bytes_and_costs_nothing(
    bank: Bank, ask: Ask, local: LocalModel
) -> None:
    data = sealed(ask())
    answer = bank.agent.handle(data)
    charged = (bank.directory / "ledger.jsonl").read_bytes()
    # Sealed again by the hub, and to an institution that was restarted in between.
    again = Bank(bank.directory, local)
    assert [bank.agent.handle(data), again.agent.handle(data), again.agent.handle(sealed(ask()))] == [answer] * 3
    assert (bank.directory / "ledger.jsonl").read_bytes() == charged
    assert again.prepared == 0


def test_another_question_for_an_answered_round_is_a_replay_and_costs_nothing(
    bank: Bank, ask: Ask, local: LocalModel
) -> None:
    assert isinstance(bank.ask(ask(2)), Contribution)
    assert bank.refusal(nudged(ask(2), local)) == RefusalCode.REPLAY
    assert bank.refusal(ask(1)) == RefusalCode.REPLAY
    assert Bank(bank.directory, local).refusal(nudged(ask(2), local)) == RefusalCode.REPLAY
    assert isinstance(bank.ask(ask(3)), Contribution)
    assert bank.refusal(ask(2)) == RefusalCode.REPLAY
    # Rounds are counted by run.
    assert isinstance(bank.ask(ask(1, run_id="run 2")), Contribution)


def test_a_round_that_the_run_does_not_have_is_refused(bank: Bank, ask: Ask) -> None:
    # The noise of a target epsilon is calibrated over `rounds`, so one more would exceed the target.
    assert bank.refusal(ask(0)) == RefusalCode.CONFIG
    assert bank.refusal(ask(4)) == RefusalCode.CONFIG
    assert isinstance(bank.ask(ask(3)), Contribution)


def test_a_run_is_held_to_the_configuration_it_began_with(bank: Bank, ask: Ask) -> None:
    assert isinstance(bank.ask(ask(1)), Contribution)
    charged = len(bank.charges())
    assert bank.refusal(ask(2, config(rounds=2))) == RefusalCode.CONFIG
    assert len(bank.charges()) == charged
    assert isinstance(bank.ask(ask(2)), Contribution)


def test_other_code_than_was_reviewed_is_refused_before_data_is_prepared(bank: Bank, ask: Ask) -> None:
    assert bank.refusal(ask(code_digest="0" * 64)) == RefusalCode.CONFIG
    assert bank.prepared == 0


def test_an_unusable_configuration_is_refused(bank: Bank, ask: Ask) -> None:
    for text in ("", "{}", config().to_json().replace('"rounds":3', '"rounds":0')):
        assert bank.refusal(ask(config_json=text)) == RefusalCode.CONFIG


def test_a_malformed_adapter_is_refused_and_the_model_is_left_alone(bank: Bank, ask: Ask, local: LocalModel) -> None:
    good = decode(ask().adapter, local.adapted.spec)
    first = next(iter(good))
    before = encode(local.adapted.export())
    bad = {
        "NaN": encode(good | {first: np.full_like(good[first], np.nan)}),
        "infinite": encode(good | {first: np.full_like(good[first], np.inf)}),
        "missing": encode({name: value for name, value in good.items() if name != first}),
        "extra": encode(good | {"extra": np.zeros(1, np.float32)}),
        "shape": encode(good | {first: good[first][None]}),
        "cut": ask().adapter[:-1],
        "empty": b"",
    }
    for adapter in bad.values():
        assert bank.refusal(ask(adapter=adapter)) == RefusalCode.CONFIG
    assert encode(local.adapted.export()) == before


def test_a_run_without_privacy_is_refused_unless_the_institution_allows_it(
    tmp_path: Path, ask: Ask, local: LocalModel
) -> None:
    assignment = ask(run=config(mode="none"))
    assert Bank(tmp_path / "strict", local).refusal(assignment) == RefusalCode.PRIVACY_LIMIT
    open_minded = Bank(tmp_path / "open", local, allow_without_privacy=True)
    answer = open_minded.ask(assignment)
    assert isinstance(answer, Contribution)
    assert answer.statement is None
    assert len(open_minded.charges()) == 1


def test_a_training_above_the_budget_is_refused_with_nothing_written(
    tmp_path: Path, ask: Ask, local: LocalModel
) -> None:
    bank = Bank(tmp_path / "bank", local, max_epsilon=0.05, delta=1e-4)
    assert bank.refusal(ask()) == RefusalCode.BUDGET
    assert bank.charges() == ()


def test_a_ledger_that_is_gone_is_a_loss_and_no_fresh_budget(bank: Bank, ask: Ask) -> None:
    assert isinstance(bank.ask(ask(1)), Contribution)
    for name in ("ledger.jsonl", "ledger.jsonl.head"):
        (bank.directory / name).unlink()
    answer = bank.ask(ask(2))
    assert isinstance(answer, Refusal)
    assert answer.code == RefusalCode.ERROR
    assert not (bank.directory / "ledger.jsonl").exists()


def test_a_refusal_is_a_code_and_no_reason(bank: Bank, ask: Ask) -> None:
    secret = "30 records of the bank"

    def prepare(_: RunConfig) -> LocalModel:
        raise AssignmentRefused(RefusalCode.BASE_MODEL, secret)

    bank.agent.prepare = prepare
    sealed_answer = bank.agent.handle(sealed(ask()))
    context = peek(sealed_answer)
    assert (context.kind, context.sender, context.recipient) == ("refusal", "bank", "hub")
    payload = open_sealed(sealed_answer, HUB, BANK.public, context)
    refusal = Refusal.from_bytes(payload)
    assert vars(refusal) == {"run_id": RUN, "round": 1, "code": RefusalCode.BASE_MODEL}
    assert secret.encode() not in payload


def test_a_refused_round_can_still_be_answered(bank: Bank, ask: Ask) -> None:
    assert bank.refusal(ask(adapter=b"")) == RefusalCode.CONFIG
    assert isinstance(bank.ask(ask()), Contribution)


def test_a_crash_in_training_leaves_the_charge_and_no_answer(
    bank: Bank, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(local_round, "pausing_train", crash)
        with pytest.raises(MemoryError):
            bank.agent.handle(sealed(ask()))
    assert [charge.steps_done for charge in bank.charges()] == [None]
    # No answer left the house, so the hub may ask again. The second attempt is charged beside the first.
    assert isinstance(bank.ask(ask()), Contribution)
    assert [charge.steps_done for charge in bank.charges()] == [None, STEPS]
