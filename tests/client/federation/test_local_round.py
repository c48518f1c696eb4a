"""The ledger is charged before a gradient exists, and no run gets more from an institution than its limits allow."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.federation import local_round
from client.federation.local_round import FederatedJob, PreparedData, plan_training
from client.federation.planning import event_of_round
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.config.run import RunConfig, parse_run
from common.errors import AssignmentRefused, ModelError
from common.identity.keys import PrivateKeys
from common.privacy.accounting import DpSgdEvent, epsilon
from common.privacy.charges import read_charges
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import encode
from common.protocol.messages import RefusalCode
from tests.client.institution.example_config import institution_config
from tests.reference.subsampled_gaussian import few_steps_delta, gaussian_delta
from tests.tiny_models import tiny_adapted

BANK = PrivateKeys.generate("bank")
RECORDS, STEPS, RATE, DELTA = 30, 2, 0.25, 1e-4
NOISE = 1.5
EVENT = DpSgdEvent(NOISE, RATE, STEPS)


def config(
    *, rounds: int = 3, training: dict[str, Any] | None = None, rate: float | None = RATE, **privacy: Any
) -> RunConfig:
    """A run at noise 1.5 unless `privacy` says otherwise. `rate` None leaves the batch to `training`."""
    sampling = {} if rate is None else {"sampling_rate": rate}
    given = privacy or {"mode": "custom", "noise_multiplier": NOISE, "clipping_norm": 0.5, "delta": DELTA}
    return parse_run(
        {
            "run": {"name": "tiny", "seed": 3, "rounds": rounds},
            "task": {"name": "sentiment_analysis"},
            "adapter": {"rank": 2, "alpha": 4, "dropout": 0.0, "layers": "last:1", "trained_factors": "B"},
            "training": {"learning_rate": 0.5, **sampling, **(training or {"local_steps": STEPS})},
            "privacy": given,
        },
        "test",
    )


def custom(**changes: Any) -> RunConfig:
    return config(**({"mode": "custom", "noise_multiplier": NOISE, "clipping_norm": 0.5, "delta": DELTA} | changes))


def target(value: float, rounds: int, rate: float, steps: int) -> RunConfig:
    return config(
        rounds=rounds,
        rate=rate,
        training={"local_steps": steps},
        mode="target",
        target_epsilon=value,
        clipping_norm=0.5,
        delta=DELTA,
    )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[AdaptedModel, PreparedData]:
    model = tiny_adapted(tmp_path_factory.mktemp("model"), blocks=2, target_modules="all-linear", layers="last:1")
    texts = [f"{('loss', 'market', 'profit')[n % 3]} of bank {n}" for n in range(RECORDS)]
    tokens = model.encode(texts, [n % 3 for n in range(RECORDS)])
    return model, PreparedData(tokens, "f" * 64, FeatureCache())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[PrivacyLedger]:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as opened:
        yield opened


Job = Callable[..., FederatedJob]


@pytest.fixture
def job(loaded: tuple[AdaptedModel, PreparedData], ledger: PrivacyLedger) -> Job:
    """A job on the run's starting adapter. Keywords that no job has are the institution's settings."""
    model, data = loaded

    def make(run: RunConfig | None = None, round_: int = 1, run_id: str = "run 1", **settings: Any) -> FederatedJob:
        model.load(model.initial())
        if "max_epsilon" in settings:
            settings = {"delta": DELTA} | settings
        own = institution_config("bank", **settings)
        return FederatedJob(run or config(), run_id, round_, "hub", own, ledger, model, data, "b" * 64)

    return make


class Crash(RuntimeError):
    """A power cut, as far as the ledger can tell."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def refused(job: FederatedJob) -> str:
    """Why `job` is refused, which must have written nothing and trained nothing."""
    entries, adapter = job.ledger.entries, encode(job.model.export())
    with pytest.raises(AssignmentRefused) as error:
        local_round.run(job)
    assert job.ledger.entries == entries
    assert encode(job.model.export()) == adapter
    return error.value.code


def test_the_reservation_is_on_disk_when_training_begins(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[DpSgdEvent, int | None]] = []

    def watch(*_: object, **__: object) -> None:
        # As an auditor would read it at this moment, from the file.
        charges = read_charges(tmp_path / "ledger.jsonl", BANK.public)
        seen.extend((charge.event, charge.steps_done) for charge in charges)
        raise Crash

    monkeypatch.setattr(local_round, "pausing_train", watch)
    with pytest.raises(Crash):
        local_round.run(job())
    assert seen == [(EVENT, None)]


def test_a_crash_in_training_counts_in_full(job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_round, "pausing_train", crash)
    with pytest.raises(Crash):
        local_round.run(job())
    assert ledger.spent() == (EVENT,)
    assert [charge.steps_done for charge in ledger.charges] == [None]
    assert ledger.epsilon(DELTA) == epsilon([EVENT], DELTA)


def test_a_second_attempt_with_fresh_noise_is_charged_again(
    job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local_round, "pausing_train", crash)
        with pytest.raises(Crash):
            local_round.run(job(noise="system"))
    outcome = local_round.run(job(noise="system"))
    assert ledger.spent() == (EVENT, EVENT)
    assert outcome.statement is not None
    assert outcome.statement.epsilon == epsilon([EVENT, EVENT], DELTA)


def test_a_second_attempt_with_the_same_noise_is_the_same_release_and_charged_once(
    job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local_round, "pausing_train", crash)
        with pytest.raises(Crash):
            local_round.run(job(noise="fixed"))
    first = job(noise="fixed")
    local_round.run(first)
    released = encode(first.model.export())
    assert [charge.steps_done for charge in ledger.charges] == [STEPS]
    # And once more, after an answer that was lost.
    second = job(noise="fixed")
    outcome = local_round.run(second)
    assert encode(second.model.export()) == released
    assert ledger.spent() == (EVENT,)
    assert outcome.statement is not None
    assert outcome.statement.epsilon == epsilon([EVENT], DELTA)


@pytest.mark.parametrize("changes", [{"round_": 2}, {"run_id": "run 2"}, {"run": custom(noise_multiplier=1.6)}])
def test_fixed_noise_shares_a_charge_within_one_round_of_one_run_only(
    job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(local_round, "pausing_train", crash)
    for arguments in ({}, changes):
        with pytest.raises(Crash):
            local_round.run(job(noise="fixed", **arguments))
    assert len(ledger.charges) == 2


def test_even_fixed_noise_is_another_in_every_round_and_at_every_institution(job: Job) -> None:
    first = job(noise="fixed")
    elsewhere = replace(first, institution=replace(first.institution, name="another bank"))
    jobs = (first, job(round_=2, noise="fixed"), elsewhere)
    drawn = [local_round.noise_source(each).rounded_normal(4, 2.0**40).tobytes() for each in jobs]
    assert len(set(drawn)) == 3
    assert local_round.noise_source(job(noise="fixed")).rounded_normal(4, 2.0**40).tobytes() == drawn[0]


def test_system_noise_is_fresh_in_every_training(job: Job) -> None:
    released = []
    for _ in range(2):
        attempt = job()
        local_round.run(attempt)
        released.append(encode(attempt.model.export()))
    assert released[0] != released[1]


def test_the_statement_holds_the_runs_parameters_and_this_runs_epsilon(job: Job, ledger: PrivacyLedger) -> None:
    local_round.run(job(run_id="another run"))
    statement = local_round.run(job()).statement
    assert statement is not None
    assert (statement.noise_multiplier, statement.clipping_norm) == (NOISE, 0.5)
    assert (statement.steps, statement.delta, statement.sampling_probability) == (STEPS, DELTA, RATE)
    assert statement.epsilon == epsilon([EVENT], DELTA) < ledger.epsilon(DELTA)


def test_training_without_privacy_is_refused_unless_allowed(job: Job) -> None:
    assert refused(job(config(mode="none"))) == RefusalCode.PRIVACY_LIMIT


def test_training_without_privacy_makes_the_ledgers_epsilon_infinite_for_ever(
    job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local_round, "pausing_train", crash)
        with pytest.raises(Crash):
            local_round.run(job(config(mode="none"), allow_without_privacy=True))
    assert ledger.epsilon(DELTA) == math.inf  # before the data was touched
    assert local_round.run(job(config(mode="none"), round_=2, allow_without_privacy=True)).statement is None
    local_round.run(job(run_id="run 2"))
    assert ledger.epsilon(DELTA) == math.inf
    assert len(ledger.charges) == 3


def test_training_without_privacy_fits_no_budget(job: Job) -> None:
    allowed = job(config(mode="none"), allow_without_privacy=True, max_epsilon=1e6)
    assert refused(allowed) == RefusalCode.BUDGET


def test_delta_must_be_below_one_over_the_number_of_records(job: Job, ledger: PrivacyLedger) -> None:
    assert refused(job(custom(delta=1 / RECORDS))) == RefusalCode.PRIVACY_LIMIT
    officer = float(np.nextafter(1 / RECORDS, 0))
    assert refused(job(custom(delta=0.5))) == RefusalCode.PRIVACY_LIMIT
    assert refused(job(custom(delta=officer), delta=1 / RECORDS)) == RefusalCode.PRIVACY_LIMIT
    local_round.run(job(custom(delta=officer), delta=officer))
    assert len(ledger.charges) == 1


def test_a_run_cannot_state_its_epsilon_at_a_larger_delta_than_the_officers(job: Job, ledger: PrivacyLedger) -> None:
    officer = 1e-5
    assert refused(job(custom(delta=2e-5), delta=officer)) == RefusalCode.PRIVACY_LIMIT
    local_round.run(job(custom(delta=officer), delta=officer))
    assert len(ledger.charges) == 1


def test_an_officers_delta_is_held_against_the_records_so_that_no_question_of_the_hub_counts_them() -> None:
    declared = institution_config("bank", delta=1e-3)

    def answer(records: int, delta: float, rate: float = RATE) -> str | None:
        private = {"mode": "custom", "noise_multiplier": NOISE, "clipping_norm": 0.5, "delta": delta}
        try:
            plan_training(config(rate=rate, **private), declared, records)
        except AssignmentRefused as error:
            return error.code
        return None

    for delta in (0.5, 1e-2, 1.1e-3, 1e-3, 1e-4, 1e-9):
        assert len({answer(records, delta) for records in (30, 300, 999)}) == 1
    for rate in (1e-5, 1 / 1025, 1 / 1023, 0.01, 0.5, 1.0):  # 1,024 units are taken for declared
        assert len({answer(records, 1e-4, rate) for records in (30, 300, 999)}) == 1
    assert {answer(1000, delta) for delta in (1e-3, 1e-9)} == {RefusalCode.PRIVACY_LIMIT}


def test_the_limit_is_checked_at_the_officers_delta_not_at_the_runs(job: Job) -> None:
    limit = epsilon([EVENT], 1e-6)
    assert epsilon([EVENT], 1e-9) > limit
    local_round.run(job(custom(delta=1e-9), max_epsilon=limit, delta=1e-6))
    assert refused(job(custom(delta=1e-9), round_=2, max_epsilon=limit, delta=1e-6)) == RefusalCode.BUDGET


def test_the_ledger_knows_who_asked_for_what_on_which_rows(job: Job, ledger: PrivacyLedger) -> None:
    local_round.run(job())
    use = ledger.charges[0].reservation.use
    assert (use.run_id, use.round, use.requester, use.task) == ("run 1", 1, "hub", "sentiment_analysis")
    assert (use.data_fingerprint, use.base_digest, use.num_units) == ("f" * 64, "b" * 64, RECORDS)
    assert (use.unit, use.delta, use.clipping_norm, use.noise) == ("record", DELTA, 0.5, "system")


def test_less_noise_than_the_institutions_minimum_is_refused(job: Job, ledger: PrivacyLedger) -> None:
    assert refused(job(min_noise_multiplier=1.6)) == RefusalCode.PRIVACY_LIMIT
    assert refused(job(target(50.0, 1, RATE, STEPS), min_noise_multiplier=1.0)) == RefusalCode.PRIVACY_LIMIT
    local_round.run(job(min_noise_multiplier=NOISE))
    assert len(ledger.charges) == 1


def test_noise_too_small_for_any_finite_epsilon_is_refused_before_it_is_charged(job: Job) -> None:
    assert refused(job(custom(noise_multiplier=0.001))) == RefusalCode.PRIVACY_LIMIT


def test_a_run_that_trained_without_privacy_cannot_go_on_with_it(job: Job) -> None:
    local_round.run(job(config(mode="none"), allow_without_privacy=True))
    assert refused(job(round_=2)) == RefusalCode.PRIVACY_LIMIT


def test_the_budget_is_kept_over_rounds_and_runs_and_a_training_above_it_writes_nothing(
    job: Job, ledger: PrivacyLedger, tmp_path: Path
) -> None:
    limit = epsilon([EVENT, EVENT], DELTA)
    local_round.run(job(max_epsilon=limit))
    local_round.run(job(run_id="run 2", max_epsilon=limit))
    before = (tmp_path / "ledger.jsonl").read_bytes()
    for run_id in ("run 1", "run 2", "run 3"):
        assert refused(job(run_id=run_id, round_=2, max_epsilon=limit)) == RefusalCode.BUDGET
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert ledger.epsilon(DELTA) <= limit


@pytest.mark.parametrize("rate", [RATE, 1.0])
@pytest.mark.parametrize(("wanted", "rounds", "steps"), [(1.0, 5, 4), (8.0, 3, 10)])
def test_a_target_epsilon_is_met_over_all_rounds_and_hardly_undercut(
    wanted: float, rounds: int, steps: int, rate: float
) -> None:
    plan = plan_training(target(wanted, rounds, rate, steps), institution_config("bank"), RECORDS)
    assert plan.dp is not None
    assert (plan.steps, plan.dp.steps) == (steps, steps)
    round_ = DpSgdEvent(plan.dp.noise_multiplier, rate, steps)
    assert 0.98 * wanted < epsilon([round_] * rounds, DELTA) <= wanted
    if rate == 1.0:  # where a closed form knows better than any accountant
        noise, total = plan.dp.noise_multiplier, rounds * steps
        assert gaussian_delta(wanted, noise, total) <= DELTA < gaussian_delta(0.98 * wanted, noise, total)


def test_a_target_epsilon_is_met_by_the_integral_over_a_short_sampled_run() -> None:
    plan = plan_training(target(1.0, 2, RATE, 1), institution_config("bank"), RECORDS)
    assert plan.dp is not None
    noise = plan.dp.noise_multiplier
    assert few_steps_delta(1.0, noise, RATE, 2) <= DELTA * 1.0001 < few_steps_delta(0.98, noise, RATE, 2)


def test_the_rounds_of_a_run_are_charged_up_to_its_target_epsilon(job: Job, ledger: PrivacyLedger) -> None:
    stated = []
    for round_ in (1, 2):
        statement = local_round.run(job(target(2.0, 2, RATE, STEPS), round_=round_)).statement
        assert statement is not None
        stated.append(statement.epsilon)
    assert stated[0] < 0.98 * 2.0 < stated[1] <= 2.0
    assert ledger.epsilon(DELTA) == stated[1]


def test_noise_is_calibrated_without_regard_to_the_number_of_records() -> None:
    settings = institution_config("bank", declared_units=64, delta=DELTA)
    plans = [plan_training(target(2.0, 2, RATE, STEPS), settings, n) for n in (20, 2000)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("delta", [1e-3, 1e-8])
def test_a_target_epsilon_is_met_at_the_runs_own_delta(delta: float) -> None:
    config = target(2.0, 2, RATE, STEPS)
    config = replace(config, privacy=replace(config.privacy, delta=delta))
    event = event_of_round(config, institution_config("bank", declared_units=64, delta=delta), 100)
    found = epsilon([replace(event, steps=2 * event.steps)], delta)
    assert 0.98 * 2.0 < found <= 2.0


@pytest.mark.parametrize(("settings", "size"), [({"declared_units": 256}, 256), ({}, 1024)])
def test_sums_are_divided_by_what_was_declared_and_never_by_what_was_counted(
    settings: dict[str, Any], size: int
) -> None:
    for units in (20, 700, 9000):
        dp = plan_training(custom(), institution_config("bank", **settings, delta=DELTA), units).dp
        assert dp is not None
        assert dp.expected_batch_size == RATE * size


def customers(job: FederatedJob, count: int) -> FederatedJob:
    """The same job for an institution whose rows belong to `count` customers."""
    owners = np.arange(RECORDS) % count
    return replace(job, data=replace(job.data, tokens=replace(job.data.tokens, owners=owners), cache=None))


def test_a_run_and_the_officers_limits_must_protect_the_same_unit(job: Job) -> None:
    assert refused(customers(job(custom(unit="customer")), 10)) == RefusalCode.PRIVACY_LIMIT
    assert refused(customers(job(custom(), unit="customer"), 10)) == RefusalCode.PRIVACY_LIMIT


def test_customers_are_protected_where_the_data_names_them_and_counted_for_delta(
    job: Job, ledger: PrivacyLedger
) -> None:
    assert refused(job(custom(unit="customer"), unit="customer")) == RefusalCode.CONFIG
    run = custom(unit="customer", delta=0.09)
    assert refused(customers(job(run, unit="customer", delta=0.09), 12)) == RefusalCode.PRIVACY_LIMIT
    statement = local_round.run(customers(job(run, unit="customer", delta=0.09), 10)).statement
    assert statement is not None
    assert statement.epsilon == epsilon([EVENT], 0.09)
    assert len(ledger.charges) == 1


def test_an_epoch_is_one_over_q_steps_and_never_less_than_one() -> None:
    for epochs, steps in ((1.0, 4), (2.5, 10), (1.1, 5), (0.01, 1)):
        plan = plan_training(config(training={"local_epochs": epochs}), institution_config("bank"), RECORDS)
        assert plan.steps == steps


def test_a_batch_larger_than_the_data_is_refused(job: Job) -> None:
    run = config(rate=None, training={"local_steps": 1, "expected_batch_size": RECORDS + 1}, mode="none")
    assert refused(job(run, allow_without_privacy=True)) == RefusalCode.CONFIG
    fits = config(rate=None, training={"local_steps": 1, "expected_batch_size": RECORDS}, mode="none")
    allowed = institution_config("bank", allow_without_privacy=True)
    assert plan_training(fits, allowed, RECORDS).sampling_probability == 1.0


@pytest.mark.parametrize("unit", ["record", "customer"])
def test_a_private_round_without_a_single_row_is_answered_with_noise_alone(
    job: Job, ledger: PrivacyLedger, unit: str
) -> None:
    """Otherwise the answer would tell whether any row carries one of the run's labels."""
    nobody = job(custom(unit=unit), unit=unit)
    tokens = replace(nobody.data.tokens, input_ids=(), labels=())
    answer = local_round.run(replace(nobody, data=PreparedData(tokens, "f" * 64, FeatureCache())))
    assert answer.statement is not None
    assert answer.statement.steps == STEPS
    assert [charge.event for charge in ledger.charges] == [EVENT]
    assert ledger.charges[0].reservation.use.num_units == 0
    assert encode(nobody.model.export()) != encode(nobody.model.initial())


def test_a_model_that_cannot_be_trained_privately_is_refused_before_the_charge(
    job: Job, ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_rule(*_: object) -> None:
        raise ModelError("trainable parameter x: no per-example gradient rule: freeze it")

    waiting = job()
    waiting.model.verified = None
    monkeypatch.setattr("client.dp.training.verify_exactness", lambda *_, **__: no_rule())
    assert refused(waiting) is RefusalCode.BASE_MODEL
    assert ledger.charges == ()
