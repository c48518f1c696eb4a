"""A statement agrees with its ledger: every figure of it is the accountant's, over exactly the charges it names."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.budget.second_figure import OTHERS
from client.budget.statement import GROUPS, RATES, statement
from common.files import json_text
from common.identity.keys import PrivateKeys
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon, epsilon_rdp
from common.privacy.charges import Charge, ChargeContext
from common.privacy.ledger import PrivacyLedger
from common.report.formatting import format_epsilon as in_words
from common.report.privacy_statement import paragraphs
from common.report.statement_record import Mechanism

BANK = PrivateKeys.generate("bank")
EVENT, OTHER = DpSgdEvent(1.5, 0.2, 5), DpSgdEvent(2.0, 0.1, 7)
DELTA = 1e-5
LIMIT = PrivacyLimit(8.0, 1e-6)
HERE = [EVENT, EVENT, DpSgdEvent(2.0, 0.1, 3)]


def use(**changes: Any) -> ChargeContext:
    given: dict[str, Any] = {
        "run_id": "run 2", "round": 1, "requester": "hub", "task": "sentiment_analysis", "base_digest": "b" * 64,
        "data_fingerprint": "f" * 64, "num_units": 4000, "delta": DELTA, "clipping_norm": 0.5,
    }  # fmt: skip
    return ChargeContext(**given | changes)


@pytest.fixture
def charges(tmp_path: Path) -> tuple[Charge, ...]:
    """Another run. Then this one: a finished round, a crashed attempt, and a round with other noise."""
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.settle(ledger.reserve(OTHER, use(run_id="run 1", requester="old hub"), LIMIT), 7)
        ledger.settle(ledger.reserve(EVENT, use(), LIMIT), 5)
        ledger.reserve(EVENT, use(round=2), LIMIT)
        ledger.settle(ledger.reserve(OTHER, use(round=2, clipping_norm=1.0), LIMIT), 3)
        return ledger.charges


def test_every_figure_is_the_accountants_over_the_runs_own_charges_or_over_all(charges: tuple[Charge, ...]) -> None:
    here = [EVENT, EVENT, DpSgdEvent(2.0, 0.1, 3)]
    made = statement(charges, "bank", "run 2", LIMIT)
    assert made.epsilon_run == epsilon(here, DELTA)
    assert made.epsilon_cumulative == epsilon([OTHER, *here], DELTA) > made.epsilon_run
    assert made.epsilon_of_limit_spent == epsilon([OTHER, *here], 1e-6)
    assert (made.max_epsilon, made.max_epsilon_delta) == (8.0, 1e-6)
    assert made.epsilon_rdp == epsilon_rdp(here, DELTA) > made.epsilon_run
    for point in made.curve:
        assert point.epsilon == epsilon(here, point.delta)
    assert [(g.units, g.epsilon, g.delta) for g in made.groups] == [(k, epsilon(here, DELTA, k), DELTA) for k in GROUPS]
    assert [a.false_positive_rate for a in made.attack] == list(RATES)
    for attack in made.attack:
        # The bound from (epsilon, delta) alone is looser than the bound from the whole profile.
        loose = math.exp(made.epsilon_run) * attack.false_positive_rate + DELTA
        assert attack.false_positive_rate < attack.true_positive_rate <= min(1.0, loose)
    assert 0 < made.gaussian_mu < 5


def test_it_names_unit_sampler_mechanisms_records_and_who_asked(charges: tuple[Charge, ...]) -> None:
    made = statement(charges, "bank", "run 2", LIMIT)
    assert (made.unit, made.adjacency, made.sampler) == ("record", "add-or-remove-one", "Poisson")
    assert made.mechanisms == (
        Mechanism(noise_multiplier=1.5, sampling_probability=0.2, clipping_norm=0.5, steps=10),
        Mechanism(noise_multiplier=2.0, sampling_probability=0.1, clipping_norm=1.0, steps=3),
    )
    assert (made.steps, made.steps_of_unfinished_trainings) == (13, 5)
    assert (made.delta, made.num_units, made.delta_times_num_units) == (DELTA, 4000, DELTA * 4000)
    assert (made.requesters, made.runs, made.ledger_entries) == (("hub",), ("run 1", "run 2"), 4)
    assert made.accountant.startswith("PLD, dp-accounting ")
    assert made.noise_source == "operating system"
    assert made.covers
    assert made.does_not_cover


def test_no_adversary_is_credited_with_less_than_the_hub_could_learn(charges: tuple[Charge, ...]) -> None:
    made = statement(charges, "bank", "run 2", LIMIT)
    whom = " ".join(adversary.name for adversary in made.adversaries)
    for named in ("eavesdropper", "hub", "other institutions", "users"):
        assert named in whom
    assert {a.epsilon_run for a in made.adversaries} == {made.epsilon_run}
    assert {a.epsilon_all_runs for a in made.adversaries} == {made.epsilon_cumulative}


def test_a_training_of_ones_own_speaks_of_whoever_gets_the_adapter(tmp_path: Path) -> None:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(requester="bank"), None), 5)
        made = statement(ledger.charges, "bank", "run 2", None)
    assert [adversary.name for adversary in made.adversaries] == ["whoever is given the adapter"]


def test_customers_are_named_in_place_of_records(tmp_path: Path) -> None:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(unit="customer"), None), 5)
        made = statement(ledger.charges, "bank", "run 2", None)
    assert made.unit == "customer"
    assert "several ids" in made.does_not_cover[0]
    words = " ".join(paragraphs(made))
    assert "Protected is one customer" in words
    assert "record" not in words


def test_a_run_without_privacy_states_none_and_taints_every_later_one(tmp_path: Path) -> None:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.reserve(DpSgdEvent(0.0, 1.0, 5), use(run_id="bare", delta=None, clipping_norm=0.0), None)
        ledger.settle(ledger.reserve(EVENT, use(), None), 5)
        bare, later = (statement(ledger.charges, "bank", run, LIMIT) for run in ("bare", "run 2"))
    assert (bare.epsilon_run, bare.epsilon_cumulative, bare.covers) == (None, math.inf, ())
    assert "Poisson" not in bare.sampler
    assert later.epsilon_run == epsilon([EVENT], DELTA)
    assert later.epsilon_cumulative == later.epsilon_of_limit_spent == math.inf
    assert json.loads(json_text(later.to_json()))["epsilon_cumulative"] == "infinity"
    assert paragraphs(bare)[0].startswith("No differential privacy")
    assert "All runs in the ledger: ε = ∞" in paragraphs(later)[-1]


def test_fixed_noise_is_called_not_private(tmp_path: Path) -> None:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.reserve(EVENT, use(noise="fixed"), None)
        ledger.reserve(EVENT, use(round=2), None)
        assert "NOT PRIVATE" in statement(ledger.charges, "bank", "run 2", None).noise_source


def test_nothing_charged_is_nothing_spent() -> None:
    made = statement((), "bank", "run 2", LIMIT)
    assert (made.epsilon_run, made.epsilon_cumulative, made.steps) == (0.0, 0.0, 0)
    assert "nothing was spent" in paragraphs(made)[0]


def test_the_words_say_what_the_numbers_say(charges: tuple[Charge, ...]) -> None:
    made = statement(charges, "bank", "run 2", LIMIT)
    words = " ".join(paragraphs(made))
    for part in (
        "adding or removing one record", "In each of 13 steps", "(Poisson sampling)", "Against the hub",
        "Against an eavesdropper", "for 2, ", "5 of the steps belong to trainings that never finished",
        "the last of 2 settings", "false alarms", "Cross-check by RDP", "There were 4\u202f000 records",
        "δ times their number is 0.04", "Assumed: at each step every unit", "Implemented: one 64-bit integer",
        f"The same at other δ: ε = {in_words(made.curve[0].epsilon)} at 1e-03", "normal distributions",
        "Against users of the model", "dp-accounting", "All runs in the ledger", "Source of the noise: operating",
        f"Of the officer's limit, 8.000 at δ = 1e-06, {in_words(made.epsilon_of_limit_spent)} is spent",
    ):  # fmt: skip
        assert part in words, part


def test_without_the_third_opinion_it_loads_no_torch() -> None:
    code = "import sys, client.budget.statement as s; s.statement((), 'b', 'r', None); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_third_opinion_agrees(charges: tuple[Charge, ...]) -> None:
    made = statement(charges, "bank", "run 2", LIMIT, prv=True)
    assert made.epsilon_prv == pytest.approx(made.epsilon_run, rel=2e-3, abs=0.02)


def test_two_figures_one_against_the_hub_and_one_for_each_number_of_others_that_add_their_noise(
    charges: tuple[Charge, ...],
) -> None:
    made = statement(charges, "bank", "run 2", LIMIT)
    assert [known.others for known in made.global_model] == list(OTHERS)
    assert made.epsilon_run is not None
    figures = [made.epsilon_run, *(known.epsilon for known in made.global_model)]
    assert figures == sorted(figures, reverse=True)
    for known in made.global_model:
        # Of each training, the last step has the noise of all, and the others that of this institution.
        shared = [DpSgdEvent(e.noise_multiplier * math.sqrt(1 + known.others), e.sampling_probability, 1) for e in HERE]
        own = [DpSgdEvent(e.noise_multiplier, e.sampling_probability, e.steps - 1) for e in HERE]
        assert known.epsilon == pytest.approx(epsilon([*own, *shared], DELTA), rel=1e-3)
    assert len(made.global_model_assumes) == 4
    words = "\n".join(paragraphs(made))
    assert f"Against the hub: ε = {in_words(made.epsilon_run)}" in words
    assert f"{in_words(made.global_model[-1].epsilon)} with {OTHERS[-1]}" in words
    assert all(assumed in words for assumed in made.global_model_assumes)
    assert made.epsilon_global_model is None
    combined = statement(charges, "bank", "run 2", LIMIT, in_global_models=[OTHER])
    assert combined.epsilon_global_model == epsilon([OTHER], DELTA)
    assert f"combined in this run: ε = {in_words(combined.epsilon_global_model)}" in "\n".join(paragraphs(combined))


def test_a_training_alone_has_no_figure_for_a_global_model(tmp_path: Path) -> None:
    with PrivacyLedger.open(tmp_path / "ledger.jsonl", BANK) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(requester="bank"), LIMIT), 5)
        made = statement(ledger.charges, "bank", "run 2", LIMIT)
    assert (made.global_model, made.global_model_assumes) == ((), ())
