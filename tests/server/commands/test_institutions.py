"""`institutions`, `certs` and `revoke`: who may connect, and until when."""

import argparse
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.identity.authority import Certificate
from common.identity.enrolment import EnrolmentPackage
from server.commands import certs, institutions, revoke
from server.commands.options import add_home, open_home
from server.hub.audit_log import verify_all
from server.hub.directory import HubDirectory
from tests.server.commands.hub_commands import contents, json_of, printed, refusal


def test_each_institution_is_a_row_with_its_state(hub: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, revoke.add, "revoke", "south", "--home", hub.directory)
    rows = json_of(capsys, institutions.add, "institutions", "--home", hub.directory)["institutions"]
    assert [(row["name"], row["state"]) for row in rows] == [("north", "enrolled"), ("south", "revoked")]
    entry = hub.enrolled()["north"]
    assert rows[0]["fingerprint"] == entry.request.fingerprint
    assert rows[0]["certificate_until"] == entry.certificate.not_after.isoformat(timespec="seconds")


def test_the_table_fits_80_columns_and_names_every_institution(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys, institutions.add, "institutions", "--home", hub.directory)
    for word in ("north", "south", "enrolled", "certificate until"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_empty_hub_says_which_command_comes_next(
    empty_hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "fedfin-hub approve REQUEST" in printed(
        capsys, institutions.add, "institutions", "--home", empty_hub.directory
    )


def test_certs_lists_every_certificate_with_the_soonest_first(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json_of(capsys, certs.add, "certs", "--home", hub.directory)
    assert record["packages"] == {}
    names = [row["name"] for row in record["certificates"]]
    assert names == ["server", "north", "south", "authority"]
    lines = printed(capsys, certs.add, "certs", "--home", hub.directory).splitlines()
    assert [line.split()[0] for line in lines] == names
    text = hub.settings_path.read_text()
    hub.settings_path.write_text(text.replace("warn_days = 30 ", "warn_days = 100 "))
    first, *others = printed(capsys, certs.add, "certs", "--home", hub.directory).splitlines()
    assert first.endswith("<- renew it")
    assert not [line for line in others if "<-" in line]


def test_certs_rotate_renews_the_named_certificates_and_no_other(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    def serials() -> dict[str, str]:
        server = Certificate.read(hub.server_certificate.read_bytes())
        return {"server": server.serial, **{name: entry.certificate.serial for name, entry in hub.members().items()}}

    before = serials()
    out = printed(capsys, certs.add, "certs", "--rotate", "server", "--rotate", "north", "--home", hub.directory)
    after = serials()
    assert {name for name in before if before[name] != after[name]} == {"server", "north"}
    path = Path(next(line for line in out.splitlines() if line.startswith("hand north")).split(": ")[1])
    assert Certificate.read(EnrolmentPackage.from_json(path.read_bytes()).certificate).serial == after["north"]


def test_revoke_shuts_an_institution_out_and_signs_it_into_the_log(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = verify_all(hub.directory).hub
    assert json_of(capsys, revoke.add, "revoke", "south", "--home", hub.directory) == {"revoked": "south"}
    assert list(hub.members()) == ["north"]
    assert verify_all(hub.directory).hub == before + 1


@pytest.mark.parametrize(
    "arguments", [("revoke", "west"), ("certs", "--rotate", "west")], ids=["revoke", "certs --rotate"]
)
def test_a_name_that_is_not_enrolled_changes_nothing(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    before = contents(hub.directory)
    add = revoke.add if arguments[0] == "revoke" else certs.add
    assert "choose one of north, south" in refusal(capsys, add, *arguments, "--home", hub.directory)
    assert contents(hub.directory) == before


def test_the_hub_is_that_of_home_else_of_the_environment(
    hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, institutions.add, "institutions")
    assert "--home or FEDFIN_HUB" in line
    monkeypatch.setenv("FEDFIN_HUB", str(hub.directory))
    assert len(json_of(capsys, institutions.add, "institutions")["institutions"]) == 2
    other = HubDirectory.create(tmp_path / "other", "other", "127.0.0.1:8444", [])
    assert json_of(capsys, institutions.add, "institutions", "--home", other.directory) == {"institutions": []}


def test_options_open_the_hub_that_they_name(hub: HubDirectory) -> None:
    parser = argparse.ArgumentParser()
    add_home(parser)
    assert open_home(parser.parse_args(["--home", str(hub.directory)])) == hub
    with pytest.raises(ConfigurationError, match=r"no hub\.toml"):
        open_home(parser.parse_args(["--home", str(hub.runs_path)]))
