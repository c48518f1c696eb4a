"""`init` makes a hub that the other commands can open, and never overwrites a directory."""

from pathlib import Path

import pytest

from common.identity.enrolment import format_fingerprint
from common.journal.journal import verify
from server.commands.init import add
from server.hub.audit_log import HUB_PURPOSE
from server.hub.directory import HubDirectory
from tests.server.commands.hub_commands import contents, json_of, printed, refusal


def test_the_printed_fingerprint_is_that_of_the_new_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "hub"
    out = printed(capsys, add, "init", "--home", directory, "--name", "central")
    keys = HubDirectory.open(directory).keys().public
    assert keys.name == "central"
    assert format_fingerprint(keys.fingerprint) in out
    assert f"fedfin-hub start --home {directory}" in out


def test_address_and_further_names_are_in_settings_and_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "hub"
    names = ("--address", "hub.example.org:9443", "--san", "10.0.0.7", "--san", "hub.internal")
    record = json_of(capsys, add, "init", "--home", directory, *names)
    home = HubDirectory.open(directory)
    assert record == {"hub": str(directory), "fingerprint": home.keys().public.fingerprint}
    assert home.settings().gateway.address == "hub.example.org:9443"
    assert home.settings().gateway.names == ("hub.example.org", "10.0.0.7", "hub.internal")


def test_the_audit_log_begins_with_the_hub_and_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, add, "init", "--home", tmp_path / "hub")
    home = HubDirectory.open(tmp_path / "hub")
    [entry] = verify(home.audit_path, home.keys().public, HUB_PURPOSE)
    assert (entry.kind, entry.body["keys"]) == ("hub_created", home.keys().public.fingerprint)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), "not empty"), (("--name", ""), "name"), (("--address", "nowhere"), "host:port")],
)
def test_a_refused_init_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    directory = tmp_path / "used"
    if not arguments:
        directory.mkdir()
        (directory / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    assert named in refusal(capsys, add, "init", "--home", directory, *arguments)
    assert contents(tmp_path) == before
