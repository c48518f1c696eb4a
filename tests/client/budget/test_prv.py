"""PRV, another implementation of the same composition, agrees with the figure of record."""

import math

import pytest

from client.budget.prv import epsilon_prv
from common.errors import ConfigurationError
from common.privacy.accounting import DpSgdEvent, epsilon


@pytest.mark.parametrize(("noise", "probability", "steps"), [(1.0, 0.01, 500), (1.56, 0.25, 100), (0.8, 0.1, 10)])
def test_prv_and_pld_agree_within_prvs_error_term(noise, probability, steps):
    events = [DpSgdEvent(noise, probability, steps)]
    assert epsilon_prv(events, 1e-5) == pytest.approx(epsilon(events, 1e-5), rel=2e-3, abs=0.02)


def test_edges_of_prv():
    assert epsilon_prv([], 1e-5) == 0.0
    assert epsilon_prv([DpSgdEvent(0.0, 0.1, 1)], 1e-5) == math.inf
    assert epsilon_prv([DpSgdEvent(0.3, 1.0, 1000)], 1e-5) is None
    assert epsilon_prv([DpSgdEvent(1 + i / 100, 0.1, 1) for i in range(30)], 1e-5) is None
    with pytest.raises(ConfigurationError, match="delta"):
        epsilon_prv([], 0.0)
