"""The hub asks a session at its start and before its rounds run out, and refuses sums whose masks did not cancel."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigurationError, QuorumError
from common.protocol.envelope import peek
from common.secure_aggregation.aggregator import Aggregator
from common.secure_aggregation.masks import MaskAdder
from common.secure_aggregation.terms import Terms
from server.rounds import secure
from server.rounds.admission import Failure
from server.rounds.gathered import Gathered
from server.rounds.secure import SecureRounds
from server.rounds.transport import Transport
from simulation.workspace import Workspace
from tests.simulation.test_secure_aggregation import NAMES, Absent, begin, execute


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return begin(tmp_path, rounds=3)


def test_a_session_has_so_many_rounds_and_then_another_begins(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure, "MOST_ROUNDS", 2)
    absent = Absent(workspace, {})
    transport: Transport = absent
    state = execute(workspace, transport)
    assert len(state.history) == 3
    kinds = Counter(peek(each).kind for _, each in absent.sent)
    assert kinds["secure AnnouncementRequest"] == kinds["secure PadsRequest"] == 2 * len(NAMES)
    assert kinds["secure MaskedSumRequest"] == kinds["secure UnmaskingRequest"] == 3 * len(NAMES)
    assert all(sum(record.weights.values()) == 1 for record in state.history)


class AbsentInRounds(Absent):
    """Loses the answers of one institution in some rounds."""

    def __init__(self, workspace: Workspace, name: str, rounds: tuple[int, ...]) -> None:
        super().__init__(workspace, {})
        self._name, self._rounds = name, rounds
        self.deadlines: dict[str, float] = {}

    def exchange(self, round_: int, sealed: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        self.deadlines[peek(next(iter(sealed.values()))).kind] = deadline_s
        answers = super().exchange(round_, sealed, deadline_s)
        return {name: each for name, each in answers.items() if (name, round_) not in self._gone()}

    def _gone(self) -> set[tuple[str, int]]:
        return {(self._name, round_) for round_ in self._rounds}


def begun(transport: Absent) -> list[int]:
    """Return the first rounds of all sessions."""
    found = (peek(each) for _, each in transport.sent)
    return sorted({context.round for context in found if context.kind == "secure AnnouncementRequest"})


def test_one_that_is_back_takes_part_again_from_the_next_round(tmp_path: Path) -> None:
    workspace = begin(tmp_path, rounds=4)
    transport = AbsentInRounds(workspace, "west", (2,))
    state = execute(workspace, transport)
    contributed = [record.contributed for record in state.history]
    assert contributed == [NAMES, ("north", "south"), NAMES, NAMES]
    assert begun(transport) == [1, 3]


def test_sessions_begin_less_often_the_longer_one_is_absent(tmp_path: Path) -> None:
    workspace = begin(tmp_path, rounds=9)
    transport = AbsentInRounds(workspace, "west", tuple(range(1, 10)))
    state = execute(workspace, transport)
    assert all(record.contributed == ("north", "south") for record in state.history)
    assert begun(transport) == [1, 2, 4, 8]


def test_only_the_exchanges_that_wait_for_people_or_training_have_the_whole_deadline(workspace: Workspace) -> None:
    transport = AbsentInRounds(workspace, "west", ())
    execute(workspace, transport)
    whole = workspace.config.aggregation.deadline_s
    assert whole > 120
    short = ("SharesRequest", "PadsRequest", "ConfirmationRequest", "UnmaskingRequest")
    expected = {f"secure {kind}": 120.0 for kind in short}
    assert transport.deadlines == expected | dict.fromkeys(
        ("secure AnnouncementRequest", "secure MaskedSumRequest"), whole
    )


def test_a_sum_whose_masks_did_not_cancel_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One institution that takes other masks than agreed."""
    subtract = MaskAdder.subtract
    monkeypatch.setattr(MaskAdder, "subtract", lambda self, key: subtract(self, bytes(b ^ 1 for b in key)))
    with pytest.raises(QuorumError, match="failed:unmasking"):
        execute(workspace, Absent(workspace, {}))


def test_an_update_above_the_runs_norm_is_refused(tmp_path: Path) -> None:
    workspace = begin(tmp_path, "low", ("aggregation.max_update_norm=0.0001",), rounds=1)
    with pytest.raises(QuorumError, match="north refused:norm, south refused:norm, west refused:norm"):
        execute(workspace, Absent(workspace, {}))


def test_numbers_that_give_no_guarantee_for_the_enrolled_ones_are_refused(workspace: Workspace) -> None:
    for number in (2, 3):
        workspace.config.aggregation.check_institutions(number)
    with pytest.raises(ConfigurationError, match="the hub could get two different sums"):
        workspace.config.aggregation.check_institutions(4)
    with pytest.raises(ConfigurationError, match="but 1 institutions take part"):
        workspace.config.aggregation.check_institutions(1)


def test_nothing_is_combined_without_enough_contributions(workspace: Workspace) -> None:
    gathered = []
    gather = SecureRounds.gather

    def noted(self: SecureRounds, state: object, expected: object) -> Gathered:
        gathered.append(gather(self, state, expected))
        return gathered[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecureRounds, "gather", noted)
        with pytest.raises(QuorumError, match="of 3 contributed"):
            execute(workspace, Absent(workspace, {"secure AnnouncementRequest": ("north", "west")}))
    assert (gathered[0].mean, gathered[0].needed) == (None, 2)
    outcomes = gathered[0].record.outcomes
    assert {name: str(outcome) for name, outcome in outcomes.items()} == {
        "north": "failed:silent",
        "south": "failed:unmasking",
        "west": "failed:silent",
    }
    assert np.isfinite(gathered[0].record.bytes_up)


@pytest.mark.parametrize(("approved", "bits"), [({}, 64), ({"north": 64}, 32)])
def test_a_size_above_the_approved_one_does_not_double_the_bytes_of_all(
    workspace: Workspace, approved: dict[str, int], bits: int
) -> None:
    federation = replace(workspace.hub(), approved_units=approved)
    roster = tuple(federation.institutions[name] for name in NAMES)
    session = Aggregator(Terms("run", federation.config.digest(), 1, 3, 2, 2, roster))
    session.declared_units = {"north": 2**40, "south": 64, "west": None}
    transport: Transport = Absent(workspace, {})
    assert SecureRounds(federation, transport)._range_of(session).bits == bits
