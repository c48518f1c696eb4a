"""A federation under secure aggregation, in process: its sums, its absences, its crashes and its figures."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.federation.secure_sum import noised_sum
from client.institution.directory import InstitutionDirectory
from common.errors import ConfigurationError, QuorumError
from common.privacy.accounting import epsilon
from common.privacy.charges import Charge, read_charges
from common.protocol.adapter_codec import Tensors
from common.protocol.envelope import peek
from common.report.privacy_statement import paragraphs
from common.secure_aggregation.aggregator import RoundSum
from common.secure_aggregation.masks import MaskAdder
from common.secure_aggregation.sums import grid_step
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint, coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import sealed_assignments
from simulation.in_process import InProcessTransport, coordinate
from simulation.runner import first_state, run_simulation, write_statements
from simulation.workspace import Workspace
from tests.simulation.helpers import SIZES, write_simulation

NAMES = tuple(sorted(SIZES))
SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"


def begin(directory: Path, out: str = "out", changes: tuple[str, ...] = (), **settings: Any) -> Workspace:
    settings = {"noise": "fixed", "rounds": 2, "local_steps": 1, "extra": SECURE} | settings
    return Workspace.create(write_simulation(directory, **settings), directory / out, changes)


def charges_of(workspace: Workspace, name: str) -> tuple[Charge, ...]:
    home = InstitutionDirectory(workspace.out / "institutions" / name)
    return read_charges(home.ledger_path, home.keys().public)


@pytest.fixture
def summands(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[NDArray[np.int64]]]:
    """The noised integers of each institution, before they are masked."""
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in NAMES}

    def noted(job: Any, range_: Any) -> Any:
        answer, sums = yield from noised_sum(job, range_)
        found[job.institution.name].append(sums)
        return answer, sums

    monkeypatch.setattr("client.agent.agent.noised_sum", noted)
    return found


class Absent(InProcessTransport):
    """Loses the answers of institutions to messages of given kinds."""

    def __init__(self, workspace: Workspace, lost: dict[str, tuple[str, ...]]) -> None:
        super().__init__({name: workspace.institution(name) for name in NAMES})
        self._lost = lost
        self.sent: list[tuple[str, bytes]] = []

    def exchange(self, round_: int, sealed: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        answers = super().exchange(round_, sealed, deadline_s)
        self.sent += sealed.items()
        kind = peek(next(iter(sealed.values()))).kind if sealed else ""
        return {name: each for name, each in answers.items() if name not in self._lost.get(kind, ())}


def execute(workspace: Workspace, transport: InProcessTransport) -> checkpoint.RunState:
    evaluator = HubEvaluator(workspace.models.adapted, workspace.federation.test_by_institution)
    return coordinate(workspace, first_state(workspace, ()), transport, evaluator, ())


def slow_step(workspace: Workspace, summands: dict[str, NDArray[np.int64]]) -> Tensors:
    """The first step in plain Python: minus the learning rate times the sum over q times the declared sizes."""
    config, spec = workspace.config, workspace.hub().spec
    declared = sum(workspace.settings(name).assumed_units for name in summands)
    factor = config.training.learning_rate / (config.training.sampling_rate * declared)
    total = [sum(column) for column in zip(*(each.tolist() for each in summands.values()), strict=True)]
    start, found = workspace.start(), {}
    for name, shape, _ in spec.tensors:
        size = int(np.prod(shape))
        part, total = total[:size], total[size:]
        moved = np.array([value * grid_step(config.privacy.clipping_norm) * factor for value in part])
        found[name] = start[name].astype(np.float64) - moved.reshape(shape)
    return found


def test_a_masked_run_ends_in_the_bits_of_an_unmasked_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = begin(tmp_path, "masked")
    one = execute(masked, Absent(masked, {})).adapter
    monkeypatch.setattr(MaskAdder, "_mask", lambda self, _key: np.zeros_like(self.total))
    plain = begin(tmp_path, "plain")
    two = execute(plain, Absent(plain, {})).adapter
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], masked.start()[name]) for name in one)


LOST: tuple[tuple[dict[str, tuple[str, ...]], tuple[str, ...]], ...] = (
    ({}, NAMES),
    ({"secure MaskedSumRequest": ("south",)}, ("north", "west")),
    ({"secure ConfirmationRequest": ("north",)}, NAMES),
    ({"secure UnmaskingRequest": ("west",)}, NAMES),
    ({"secure PadsRequest": ("west",)}, ("north", "south")),
)
"""Institutions whose answers are lost, by the kind of the question, and those whose integers are in the sum."""


def test_the_step_is_that_of_the_sum_over_those_that_are_left(
    tmp_path: Path, summands: dict[str, list[NDArray[np.int64]]]
) -> None:
    workspace = begin(tmp_path, rounds=1)
    for lost, summed in LOST:
        state = execute(workspace, Absent(workspace, lost))
        expected = slow_step(workspace, {name: summands[name][-1] for name in summed})
        for name, value in expected.items():
            np.testing.assert_allclose(state.adapter[name], value, rtol=1e-6, atol=1e-9)
        (record,) = state.history
        assert record.contributed == summed
        declared = {name: workspace.settings(name).assumed_units for name in summed}
        assert record.weights == {name: units / sum(declared.values()) for name, units in declared.items()}
    # Fixed noise repeats itself, so the round is one release, however often it is done again.
    assert len(charges_of(workspace, "north")) == 1


def test_below_the_threshold_the_round_fails_and_says_so(tmp_path: Path) -> None:
    workspace = begin(tmp_path, rounds=1)
    with pytest.raises(QuorumError, match=r"the quorum is 2 \(north .*west failed:unmasking"):
        execute(workspace, Absent(workspace, {"secure MaskedSumRequest": ("north", "south")}))
    with pytest.raises(QuorumError, match="failed:unmasking"):
        execute(workspace, Absent(workspace, {"secure UnmaskingRequest": ("north", "south")}))
    # Its cost is charged, since the institutions sent their masked sums.
    assert all(len(charges_of(workspace, name)) == 1 for name in NAMES)
    # Another session does the round again.
    assert execute(workspace, Absent(workspace, {})).next_round == 2


def test_a_run_that_was_killed_after_the_masks_came_off_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = begin(tmp_path, "whole"), begin(tmp_path, "cut")
    one = execute(whole, Absent(whole, {})).adapter

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("simulation.in_process.save_round", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(cut, Absent(cut, {}))
    again = Workspace.reopen(cut.out)
    two = execute(again, Absent(again, {})).adapter
    assert all(np.array_equal(one[name], two[name]) for name in one)
    # Fixed noise repeats itself, so the round that was done twice is one release.
    assert len(charges_of(cut, "north")) == 2


def test_an_institution_answers_no_other_assignment_of_a_round_and_no_plain_one(tmp_path: Path) -> None:
    workspace = begin(tmp_path, rounds=1)
    transport = Absent(workspace, {})
    execute(workspace, transport)
    spent = charges_of(workspace, "north")
    # The hub asks the round again, from another adapter.
    again = Absent(workspace, {})
    state = first_state(workspace, ())
    moved = {name: value + np.float32(1) for name, value in state.adapter.items()}
    evaluator = HubEvaluator(workspace.models.adapted, workspace.federation.test_by_institution)

    def run(state: checkpoint.RunState, hub: Any) -> checkpoint.RunState:
        return coordinator.run(state, hub, again, evaluator, lambda _: None, lambda *_: None)

    with pytest.raises(QuorumError, match="north declined:replay"):
        run(replace(state, adapter=moved), workspace.hub())
    # Sent as in a run without secure aggregation, its update would hold a part of the noise.
    fresh = begin(tmp_path, "fresh", rounds=1)
    sealed = sealed_assignments(first_state(fresh, ()), fresh.hub(), NAMES)
    answers = InProcessTransport({name: fresh.institution(name) for name in NAMES}).exchange(1, sealed, 1.0)
    assert {peek(answer).kind for answer in answers.values() if isinstance(answer, bytes)} == {"refusal"}
    assert charges_of(fresh, "north") == ()
    assert charges_of(workspace, "north") == spent


def test_both_figures_are_those_of_the_accountant(tmp_path: Path) -> None:
    workspace = begin(tmp_path, noise="system")
    result = run_simulation(workspace)
    made = write_statements(workspace, checkpoint.load(workspace.out / "checkpoint").history)
    for name in NAMES:
        charges = charges_of(workspace, name)
        assert [charge.reservation.use.honest for charge in charges] == [2, 2]
        with_others = epsilon([charge.event for charge in charges], 1e-4)
        alone = epsilon([charge.event_alone for charge in charges], 1e-4)
        assert charges[0].event_alone.noise_multiplier == pytest.approx(charges[0].event.noise_multiplier / 2**0.5)
        assert result.epsilon[name] == with_others <= 8.0 < alone == result.epsilon_alone[name]
        statement = made[name]
        assert (statement.honest, statement.epsilon_run, statement.epsilon_run_alone) == (2, with_others, alone)
        assert [a.epsilon_run for a in statement.adversaries] == [with_others, alone]
        assert statement.global_model == ()
        assert statement.epsilon_global_model is None
        (kept,) = (workspace.out / "institutions" / name / "runs").glob("*/tracker.json")
        own = json.loads(kept.read_text())["run"]["privacy"]
        assert (own["honest"], own["epsilon"], own["epsilon_alone"]) == (2, with_others, alone)
        words = paragraphs(statement)
        assert "if 2 institutions of each sum, this one among them" in words[0]
        # The curve, the best attack and the groups.
        assert sum(each.startswith("Under the same assumption: ") for each in words) == 3
    record = checkpoint.load(workspace.out / "checkpoint").history[-1]
    assert record.epsilon_alone == result.epsilon_alone
    assert "if the hub and all other institutions work together" in (workspace.out / "report.html").read_text()


def test_the_officer_limits_both_figures(tmp_path: Path) -> None:
    workspace = begin(tmp_path, noise="system", rounds=1)
    decided = workspace.simulation.institutions

    def limited(max_epsilon_alone: float | None) -> Workspace:
        officers = replace(decided, max_epsilon=8.0, max_epsilon_alone=max_epsilon_alone)
        return replace(workspace, simulation=replace(workspace.simulation, institutions=officers))

    for alone in (None, 9.0):
        with pytest.raises(QuorumError, match="declined:budget"):
            execute(limited(alone), Absent(limited(alone), {}))
        assert charges_of(workspace, "north") == ()
    assert execute(limited(14.0), Absent(limited(14.0), {})).next_round == 2


def test_a_hub_that_does_a_round_again_and_again_is_stopped_by_the_limit_without_the_assumption(tmp_path: Path) -> None:
    workspace = begin(tmp_path, noise="system", rounds=1, target_epsilon=4.0)
    officers = replace(workspace.simulation.institutions, max_epsilon=19.0, max_epsilon_alone=20.0)
    workspace = replace(workspace, simulation=replace(workspace.simulation, institutions=officers))
    lying = Absent(workspace, {"secure UnmaskingRequest": ("north", "south")})
    for attempt in range(1, 9):
        with pytest.raises(QuorumError) as error:
            execute(workspace, lying)
        charges = charges_of(workspace, "north")
        assert epsilon([charge.event_alone for charge in charges], 1e-4) <= 20.0
        if "north declined:budget" in str(error.value):
            break
        assert len(charges) == attempt
    assert len(charges) == attempt - 1 > 1
    # The limit with the assumption would have let it go on.
    assert epsilon([charge.event for charge in charges] + [charges[0].event], 1e-4) < 19.0


def test_the_hub_sees_uniform_numbers_and_no_summand(
    tmp_path: Path, summands: dict[str, list[NDArray[np.int64]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    add = RoundSum.add

    def noted(self: RoundSum, name: str, values: bytes) -> None:
        seen.append(values)
        add(self, name, values)

    monkeypatch.setattr(RoundSum, "add", noted)
    workspace = begin(tmp_path, rounds=1)
    execute(workspace, Absent(workspace, {}))
    for values in seen:
        numbers = np.frombuffer(values, dtype=np.int32).astype(np.float64)
        assert abs(numbers.std() / (2**32 / 12**0.5) - 1) < 0.05
        own = [np.corrcoef(numbers, each[0])[0, 1] for each in summands.values()]
        assert max(map(abs, own)) < 0.2


def refusals(tmp_path: Path) -> dict[str, Callable[[], object]]:
    return {
        "training.local_steps is 2": lambda: begin(tmp_path, "a", local_steps=2),
        'privacy.mode = "none"': lambda: begin(
            tmp_path,
            "b",
            ("privacy.mode=none", "privacy.target_epsilon=", "privacy.delta=", "privacy.clipping_norm="),
        ),
        "aggregation.threshold is 4, but 3 institutions take part": lambda: begin(
            tmp_path, "c", ("aggregation.threshold=4",)
        ),
    }


@pytest.mark.parametrize("number", range(3))
def test_a_run_that_it_does_not_go_with_is_refused_before_anything_is_written(tmp_path: Path, number: int) -> None:
    words, start = list(refusals(tmp_path).items())[number]
    with pytest.raises(ConfigurationError) as error:
        start()
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "base"]


def test_a_run_without_it_has_the_text_that_it_had_before(tmp_path: Path) -> None:
    plain = Workspace.create(write_simulation(tmp_path), tmp_path / "plain")
    assert set(json.loads(plain.config.to_json())["aggregation"]).isdisjoint({"secure", "honest", "threshold"})
    secure = begin(tmp_path)
    assert type(secure.config).from_json(secure.config.to_json()) == secure.config
