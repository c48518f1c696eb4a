"""One run, in order: its results, the institutions it asks, and that it can be cut anywhere and goes on."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import CheckpointError, ConfigurationError, QuorumError
from common.events import Observer
from common.protocol.messages import PrivacyStatement
from common.report.records import RoundRecord
from server.rounds import checkpoint
from server.rounds.aggregation import weighted_mean
from server.rounds.checkpoint import RunState

BANKS = ("bank-a", "bank-b", "bank-c")
UNIFORM = {"aggregation": {"weighting": "uniform"}}


def as_bytes(state: RunState) -> Any:
    """Everything of a state that must repeat: all but the seconds that rounds took."""
    tensors = [state.adapter, *state.optimizer_state.values()]
    values = [{name: value.tobytes() for name, value in part.items()} for part in tensors]
    records = [replace(record, seconds=0.0) for record in state.history]
    return state.run_id, state.config_digest, state.next_round, list(state.optimizer_state), values, records


# --- the results of a run


def test_one_institution_cannot_decide_the_model_by_the_size_that_it_declares(
    federate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    federation = federate(rounds=1, aggregation={"weighting": "declared_units"})
    for name, band in {"bank-a": 2**40, "bank-b": 1024, "bank-c": 2048}.items():
        federation.institutions[name].band = band
    federation.approved = {"bank-a": 1024, "bank-b": 1024, "bank-c": 4096}
    assert federation.run().history[0].weights == {"bank-a": 0.25, "bank-b": 0.25, "bank-c": 0.5}
    assert f"bank-a declares {2**40} units and counts with 1024" in caplog.text


def test_the_global_adapter_is_the_weighted_mean_by_hand(federate: Any) -> None:
    federation = federate(rounds=2, aggregation={"weighting": "declared_units"})
    sizes = {"bank-a": 1024, "bank-b": 256, "bank-c": None}
    for name, band in sizes.items():
        federation.institutions[name].band = band
    final = federation.run()
    here = federation.start().adapter
    train = federation.institutions["bank-a"].train
    for round_ in (1, 2):
        sent = {name: train(name, round_, here) for name in BANKS}
        here = {
            tensor: np.array(
                [
                    (1024 * float(a) + 256 * float(b) + 256 * float(c)) / 1536
                    for a, b, c in zip(*(sent[name][tensor].ravel() for name in BANKS), strict=True)
                ],
                dtype=np.float32,
            ).reshape(here[tensor].shape)
            for tensor in here
        }
    for tensor, value in here.items():
        # The hand divides once at the end: apart by float64's rounding, so at most by one unit of float32.
        np.testing.assert_array_max_ulp(final.adapter[tensor], value, maxulp=1)
    assert final.history[0].weights == pytest.approx({"bank-a": 2 / 3, "bank-b": 1 / 6, "bank-c": 1 / 6})


def test_a_record_says_what_happened(federate: Any) -> None:
    federation = federate(rounds=2, **UNIFORM)
    final = federation.run()
    first, last = final.history
    assert (first.round, last.round, final.next_round) == (1, 2, 3)
    assert first.asked == first.contributed == BANKS
    assert first.outcomes == dict.fromkeys(BANKS, "contributed")
    assert [first.adapter_digest, last.adapter_digest] == federation.evaluated
    assert first.adapter_digest != last.adapter_digest
    assert set(first.contributions) == set(BANKS)
    assert len({*first.contributions.values(), *last.contributions.values()}) == 6
    adapter_bytes = sum(value.nbytes for value in final.adapter.values())
    assert first.bytes_up > 3 * adapter_bytes
    assert first.bytes_down > 3 * adapter_bytes
    assert first.seconds > 0
    assert json.loads(json.dumps(first.to_json()))["outcomes"] == first.outcomes


def test_epsilon_is_what_each_institution_states(federate: Any) -> None:
    federation = federate(
        privacy={"mode": "custom", "noise_multiplier": 1.0, "clipping_norm": 1.0, "delta": 1e-4}, rounds=1
    )
    for i, institution in enumerate(federation.institutions.values()):
        institution.statement = PrivacyStatement(1.0, 1.0, 1, 1e-4, epsilon=0.5 + i, sampling_probability=0.1)
    assert federation.run().history[0].epsilon == {"bank-a": 0.5, "bank-b": 1.5, "bank-c": 2.5}


def test_evaluation_every_few_rounds_and_always_after_the_last(federate: Any) -> None:
    federation = federate(rounds=5, evaluation={"every_rounds": 2})
    final = federation.run()
    assert [record.round for record in final.history if record.metrics is not None] == [2, 4, 5]
    assert [record.round for record in final.history if record.by_institution is not None] == [2, 4, 5]
    assert len(federation.evaluated) == 3


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_a_server_optimizer_changes_the_path_and_remembers(federate: Any, kind: str) -> None:
    plain = federate(**UNIFORM).run()
    final = federate(aggregation={"weighting": "uniform", "server_optimizer": kind}).run()
    assert final.optimizer_state
    assert final.adapter["a.weight"].tobytes() != plain.adapter["a.weight"].tobytes()


def test_in_the_last_round_the_hub_goes_only_part_of_the_way(federate: Any) -> None:
    federation = federate(rounds=2, aggregation={"weighting": "uniform", "server_decay_rounds": 2})
    final, first = federation.run().adapter["b.weight"], federation.states[0].adapter
    train = federation.institutions["bank-a"].train
    begun = np.mean(
        [train(name, 1, federation.start().adapter)["b.weight"] for name in BANKS], axis=0, dtype=np.float64
    )
    mean = np.mean([train(name, 2, first)["b.weight"] for name in BANKS], axis=0, dtype=np.float64)
    np.testing.assert_allclose(first["b.weight"], begun, rtol=1e-5)
    np.testing.assert_allclose(final, (first["b.weight"] + mean) / 2, rtol=1e-5, atol=1e-6)


def test_momentum_goes_on_from_round_to_round(federate: Any) -> None:
    federation = federate(rounds=2, aggregation={"server_optimizer": "momentum", "server_momentum": 0.5})
    first, second = federation.run(), federation.states[0]
    start, here = federation.start().adapter["b.weight"], second.adapter["b.weight"]
    train = federation.institutions["bank-a"].train
    velocity = here.astype(np.float64) - start
    mean = np.mean([train(name, 2, second.adapter)["b.weight"] for name in BANKS], axis=0, dtype=np.float64)
    np.testing.assert_allclose(first.adapter["b.weight"], here + 0.5 * velocity + (mean - here), rtol=1e-5, atol=1e-6)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(BANKS), st.permutations(BANKS))
def test_the_order_in_which_answers_arrive_changes_nothing(
    federate: Any, arrival: list[str], enrolment: list[str]
) -> None:
    plain, federation = federate(rounds=2), federate(rounds=2)
    for each in (plain, federation):
        for name, band in zip(BANKS, (512, 64, 2048), strict=True):
            each.institutions[name].band = band
    federation.order = lambda names: sorted(names, key=arrival.index)
    federation.institutions = {name: federation.institutions[name] for name in enrolment}
    assert as_bytes(federation.run()) == as_bytes(plain.run())


# --- when it goes wrong


def test_institutions_that_drop_out_are_left_out_and_return(federate: Any) -> None:
    federation = federate(rounds=3, **UNIFORM)
    federation.meddle["bank-b"] = lambda institution, round_, reply: None if round_ == 2 else reply
    final = federation.run()
    assert [record.contributed for record in final.history] == [BANKS, ("bank-a", "bank-c"), BANKS]
    assert final.history[1].outcomes["bank-b"] == "failed:silent"
    assert final.history[1].weights == {"bank-a": 0.5, "bank-c": 0.5}


def test_a_missed_quorum_is_saved_and_the_round_is_still_to_be_played(federate: Any, tmp_path: Path) -> None:
    whole = federate(rounds=3, aggregation={"quorum": 3}).run()
    federation = federate(rounds=3, aggregation={"quorum": 3})
    federation.meddle["bank-b"] = lambda institution, round_, reply: None if round_ == 2 else reply
    with pytest.raises(QuorumError) as caught:
        federation.run(save=lambda state: checkpoint.save(state, tmp_path))
    message = str(caught.value)
    assert "round 2: 2 of 3 contributed, the quorum is 3 (bank-b failed:silent)" in message
    assert "\n" not in message
    saved = checkpoint.load(tmp_path)
    assert saved.next_round == 2
    assert [record.round for record in saved.history] == [1]
    assert [(record.round, record.contributed) for record in saved.missed] == [(2, ("bank-a", "bank-c"))]
    assert federation.log[-1][0] == "round_missed"

    federation.meddle = {}
    final = federation.run(saved)
    assert as_bytes(final) == as_bytes(whole)
    assert final.missed == saved.missed
    # Who had answered was asked the very same again, and did not train again.
    questions = [payload for round_, payload in federation.institutions["bank-a"].questions if round_ == 2]
    assert len(questions) == 2
    assert len(set(questions)) == 1


def test_updates_in_bfloat16_are_added_to_the_adapter_of_their_round(federate: Any) -> None:
    federation = federate(rounds=2, aggregation={"weighting": "uniform", "update_dtype": "bfloat16"})
    final = federation.run()
    here = federation.start().adapter
    for round_ in (1, 2):
        moved = []
        for name in BANKS:
            trained = federation.institutions[name].train(name, round_, here)
            change = {n: torch.from_numpy(trained[n] - here[n]).to(torch.bfloat16).float().numpy() for n in here}
            moved.append({n: here[n] + change[n] for n in here})
        here = weighted_mean(dict(zip(BANKS, moved, strict=True)).__getitem__, dict.fromkeys(BANKS, 1 / 3))
    assert {n: v.tobytes() for n, v in final.adapter.items()} == {n: v.tobytes() for n, v in here.items()}


# --- cut anywhere, it goes on


@pytest.mark.parametrize(
    ("kind", "dtype"), [("none", "float32"), ("momentum", "float32"), ("adam", "float32"), ("adam", "bfloat16")]
)
def test_resuming_from_every_checkpoint_equals_the_uninterrupted_run(
    federate: Any, tmp_path: Path, kind: str, dtype: str
) -> None:
    settings = {
        "aggregation": {"server_optimizer": kind, "institutions_per_round": 2, "quorum": 1, "update_dtype": dtype}
    }
    whole = federate(banks=4, rounds=4, **settings)
    final = whole.run()
    assert len(whole.states) == 4
    for i, state in enumerate([whole.start(), *whole.states]):
        checkpoint.save(state, tmp_path / str(i))
        fresh = federate(banks=4, rounds=4, **settings)
        assert as_bytes(fresh.run(checkpoint.load(tmp_path / str(i)))) == as_bytes(final)
        assert len(fresh.states) == 4 - i


class Killed(BaseException):
    """As kill -9 is: nothing catches it."""


@pytest.mark.parametrize("kind", ["none", "adam"])
def test_killed_at_any_step_it_resumes_to_the_same_bytes(federate: Any, tmp_path: Path, kind: str) -> None:
    sections = {"aggregation": {"server_optimizer": kind}}
    whole = as_bytes(federate(rounds=2, **sections).run())
    for deadly in itertools.count():
        federation, directory, calls = federate(rounds=2, **sections), tmp_path / str(deadly), itertools.count()

        def step(work: Any, *arguments: Any, calls: Any = calls, deadly: int = deadly) -> Any:
            """Die before or after the step numbered `deadly`, wherever in the round that is."""
            if next(calls) == deadly:
                raise Killed
            result = work(*arguments)
            if next(calls) == deadly:
                raise Killed
            return result

        exchange = federation.exchange
        federation.exchange = lambda *a, step=step, exchange=exchange: step(exchange, *a)

        def save(state: RunState, step: Any = step, directory: Path = directory) -> None:
            step(lambda: checkpoint.save(state, directory))

        try:
            federation.run(
                save=save,
                evaluate=lambda adapter, step=step, f=federation: step(f.evaluate, adapter),
                audit=lambda kind, body, step=step, f=federation: step(f.audit, kind, body),
            )
        except Killed:
            federation.exchange = exchange
            left = checkpoint.load(directory) if checkpoint.exists(directory) else federation.start()
            assert as_bytes(federation.run(left)) == whole
            # However often a round was played, an institution was asked one question in it.
            asked = {(round_, payload) for round_, payload in federation.institutions["bank-a"].questions}
            assert len(asked) == 2
        else:
            assert deadly == 18, "audit, then 2 rounds of exchange, evaluate, save, audit: each before and after"
            return


def test_a_finished_run_stays_as_it_is(federate: Any) -> None:
    federation = federate(rounds=1)
    final = federation.run()
    assert as_bytes(federation.run(final)) == as_bytes(final)
    assert len(federation.states) == 1


# --- runs that it refuses to begin


def test_a_state_of_another_configuration_is_refused(federate: Any) -> None:
    federation = federate()
    with pytest.raises(CheckpointError, match="another configuration"):
        federation.run(replace(federation.start(), config_digest="0" * 64))


def test_a_state_with_another_adapter_is_refused(federate: Any) -> None:
    federation = federate()
    with pytest.raises(CheckpointError, match="belongs to another base model"):
        federation.run(replace(federation.start(), adapter={"c": np.zeros(1, dtype=np.float32)}))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"quorum": 4}, "quorum"), ({"institutions_per_round": 4}, "institutions_per_round")],
)
def test_asking_for_more_institutions_than_are_enrolled_is_refused_before_anything_is_sent(
    federate: Any, settings: dict[str, int], key: str
) -> None:
    federation = federate(aggregation=settings)
    with pytest.raises(ConfigurationError, match=f"aggregation.{key}: 4, but 3 institutions are enrolled"):
        federation.run()
    assert not federation.log
    assert not federation.institutions["bank-a"].questions


# --- files for others to read


def test_the_audit_log_tells_the_run_in_order_and_closes_a_round_only_when_it_is_saved(federate: Any) -> None:
    federation = federate(rounds=2)
    order: list[str] = []
    exchange = federation.exchange

    def noted(name: str, call: Any, *arguments: Any) -> Any:
        order.append(name)
        return call(*arguments)

    class Told(Observer):
        def on_round(self, record: RoundRecord) -> None:
            order.append(f"told {record.round}")

    federation.exchange = lambda *arguments: noted("exchange", exchange, *arguments)
    federation.run(
        save=lambda state: order.append("save"),
        audit=lambda kind, body: noted(kind, federation.audit, kind, body),
        observers=(Told(),),
    )
    one_round = ["exchange", "save", "round_closed"]
    assert order == ["run_started", *one_round, "told 1", *one_round, "told 2"]
    json.dumps(federation.log, allow_nan=False)
    begun, closed, later = (body for _, body in federation.log)
    assert closed["asked"] == BANKS
    assert closed["outcomes"] == dict.fromkeys(BANKS, "contributed")
    assert begun["adapter_digest"] == closed["adapter_digest_before"] != closed["adapter_digest"]
    assert later["adapter_digest_before"] == closed["adapter_digest"]


def test_a_continued_run_says_so(federate: Any) -> None:
    federation = federate(rounds=2)
    federation.run()
    federation.run(federation.states[0])
    kinds = [kind for kind, _ in federation.log if kind.startswith("run_")]
    assert kinds == ["run_started", "run_continued"]


def test_the_round_loop_starts_without_torch_and_flower() -> None:
    heavy = ("torch", "flwr", "peft", "transformers")
    code = f"import sys, server.rounds.coordinator; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
