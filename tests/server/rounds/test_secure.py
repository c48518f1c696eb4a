"""The hub asks a session at its start and before its rounds run out, and refuses sums whose masks did not cancel."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigurationError, QuorumError
from common.protocol.envelope import peek
from common.secure_aggregation.masks import MaskAdder
from server.rounds import secure
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
