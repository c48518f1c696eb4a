"""An institution counts the peers alone whose fingerprint its officer has compared."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from client.institution.directory import InstitutionDirectory
from client.institution.peers import add_peer, read_peers, remove_peer
from common.errors import ConfigurationError, EnrolmentError, EnvelopeError
from common.identity.keys import PrivateKeys, PublicKeys


@pytest.fixture
def home(tmp_path: Path) -> InstitutionDirectory:
    return InstitutionDirectory.create(tmp_path / "north", "north")


def keys(name: str) -> PublicKeys:
    return PrivateKeys.generate(name).public


def test_a_peer_is_approved_by_its_fingerprint_alone(home: InstitutionDirectory) -> None:
    south, other = keys("south"), keys("south")
    for heard in (None, other.fingerprint, south.fingerprint[:31], ""):
        with pytest.raises(EnrolmentError, match="peer south: "):
            add_peer(home, south, heard)
    assert read_peers(home) == {}
    add_peer(home, south, south.fingerprint[:32].upper())
    add_peer(home, south, south.fingerprint)
    assert read_peers(home) == {"south": south}


def test_other_keys_under_an_approved_name_and_own_keys_are_refused(home: InstitutionDirectory) -> None:
    south, other = keys("south"), keys("south")
    add_peer(home, south, south.fingerprint)
    with pytest.raises(EnrolmentError, match="approved with other keys: `peers remove` it first"):
        add_peer(home, other, other.fingerprint)
    own = home.public_keys()
    with pytest.raises(EnrolmentError, match="this institution has that name"):
        add_peer(home, own, own.fingerprint)
    remove_peer(home, "south")
    add_peer(home, other, other.fingerprint)
    assert read_peers(home) == {"south": other}


@pytest.mark.parametrize("name", ["east", "../keys/public", "", "x" * 300])
def test_only_an_approved_name_is_removed(home: InstitutionDirectory, name: str) -> None:
    south = keys("south")
    add_peer(home, south, south.fingerprint)
    with pytest.raises(ConfigurationError, match="no approved institution has that name: approved are south"):
        remove_peer(home, name)
    assert (home.keys_path / "public.json").exists()


def test_a_file_that_was_changed_stops_the_roster(home: InstitutionDirectory) -> None:
    south = keys("south")
    add_peer(home, south, south.fingerprint)
    path = home.peers / "south.json"
    path.rename(home.peers / "west.json")
    with pytest.raises(EnvelopeError, match=r"west.json: it holds the keys of south: remove it, and add the peer"):
        read_peers(home)
    (home.peers / "west.json").write_text("{}")
    with pytest.raises(EnvelopeError, match=r"west.json: not a public.json of this version"):
        read_peers(home)


def test_one_institution_does_not_count_twice_under_two_names(home: InstitutionDirectory) -> None:
    south, other = keys("south"), keys("other")
    add_peer(home, south, south.fingerprint)
    for twice in (
        replace(south, name="south 2"),
        PublicKeys("east", south.signing, other.sealing),
        PublicKeys("east", other.signing, south.sealing),
        replace(home.public_keys(), name="north 2"),
    ):
        with pytest.raises(EnrolmentError, match=r"(south|north) has the same keys: do not use the file"):
            add_peer(home, twice, twice.fingerprint)
    for name in ("South", "south ", "South..", "NORTH-"):
        alike = keys(name)
        with pytest.raises(EnrolmentError, match=r"its name sounds like (south|north): agree with"):
            add_peer(home, alike, alike.fingerprint)
    assert read_peers(home) == {"south": south}
    for name in ("bank 1-1", "bank 11"):
        apart = keys(name)
        add_peer(home, apart, apart.fingerprint)


def test_what_stands_in_the_way_of_a_file_is_one_error(home: InstitutionDirectory) -> None:
    south = keys("south")
    home.peers.write_text("")
    with pytest.raises(ConfigurationError, match="peers: cannot be changed"):
        add_peer(home, south, south.fingerprint)
    home.peers.unlink()
    (home.peers / "south.json").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="peers: cannot be changed"):
        remove_peer(home, "south")


def test_a_pipe_in_place_of_keys_is_refused_and_not_waited_for(home: InstitutionDirectory) -> None:
    home.peers.mkdir()
    os.mkfifo(home.peers / "south.json")
    with pytest.raises(EnvelopeError, match=r"south.json: not a public.json of this version"):
        read_peers(home)
