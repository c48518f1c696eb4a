"""A federation in which the hub and one institution sign with keys in a token ends as one with keys in files does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import TokenError
from common.identity import keyring
from common.identity.keys import PrivateKeys
from common.identity.pin import PinSource, read_pin_from
from common.identity.token import TokenKey
from tests.soft_tokens import SoftToken, needs_softhsm

pytestmark = needs_softhsm


@pytest.fixture
def in_token(
    soft_token: SoftToken, all_keys: dict[str, PrivateKeys], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, PrivateKeys]:
    """The keys of the hub and of one institution, with the same names and other signing keys."""
    monkeypatch.setattr(keyring, "_held", {})
    read_pin_from(soft_token.pin_file)
    pins = PinSource(tmp_path / "passphrase.json", tmp_path / "pin-refused")
    return {
        name: replace(all_keys[name], signing=TokenKey.make(soft_token.settings(name).key_place, pins)[0])
        for name in ("hub", "bank-b")
    }


def test_all_rounds_end_with_the_same_adapter(federate: Callable[..., Any], in_token: dict[str, PrivateKeys]) -> None:
    plain, signed = federate(), federate()
    signed.hub_keys = in_token["hub"]
    for name, institution in signed.institutions.items():
        institution.hub = in_token["hub"].public
        institution.keys = in_token.get(name, institution.keys)
    expected, state = plain.run(), signed.run()
    assert len(state.history) == plain.config.rounds
    assert [record.outcomes for record in state.history] == [record.outcomes for record in expected.history]
    assert set(state.history[0].outcomes.values()) == {"contributed"}
    for name, value in expected.adapter.items():
        np.testing.assert_array_equal(state.adapter[name], value)


def test_a_hub_without_its_token_stops_with_one_line(
    federate: Callable[..., Any], in_token: dict[str, PrivateKeys], soft_token: SoftToken
) -> None:
    federation = federate()
    federation.hub_keys = in_token["hub"]
    soft_token.pull_out()
    with pytest.raises(TokenError, match="token bank: it"):
        federation.run()
    assert federation.states == []
