"""What the node's group may open of an institution's directory, and what it may not."""

import os
import stat
from pathlib import Path

import pytest

from client.institution.directory import InstitutionDirectory
from client.institution.enrolment import make_request
from client.institution.sharing import directory_mode, is_shared, secret_mode
from common.errors import ConfigurationError


def modes(home: InstitutionDirectory) -> dict[str, int]:
    paths = (home.directory, home.tls, home.tls / "client.key", home.node_key_path, home.run, home.node_state)
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_without_a_group_everything_is_the_owners_alone(tmp_path: Path) -> None:
    home = InstitutionDirectory(tmp_path / "bank")
    make_request(home.directory, "bank")
    assert not any(mode & 0o077 for mode in modes(home).values())
    assert (is_shared(home.run), secret_mode(home.tls), directory_mode(home)) == (False, 0o600, 0o700)


def test_the_nodes_group_reads_its_keys_and_writes_its_state_and_a_renewal_keeps_that(tmp_path: Path) -> None:
    home = InstitutionDirectory(tmp_path / "bank")
    make_request(home.directory, "bank", node_group=str(os.getgid()))
    expected = {
        "bank": 0o710, "tls": 0o2750, "client.key": 0o640, "node.ecdsa": 0o640, "run": 0o2750, "node-state": 0o2770
    }  # fmt: skip
    assert modes(home) == expected
    for closed in (home.keys_path, home.keys_path / "private.json", home.ledger_path, home.settings_path, home.state):
        assert not stat.S_IMODE(closed.stat().st_mode) & 0o077
    make_request(home.directory, "bank", renew=True)
    assert modes(home) == expected


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no-such-group: no such group"):
        make_request(tmp_path / "bank", "bank", node_group="no-such-group")
