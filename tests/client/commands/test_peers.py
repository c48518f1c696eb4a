"""Two officers approve each other's institutions with `fedfin-institution peers`."""

import json
from pathlib import Path
from typing import NoReturn

import pytest

from client.commands import peers
from client.institution.directory import InstitutionDirectory
from client.institution.peers import read_peers
from tests.client.commands.institution_commands import command_line, printed, refusal


def test_the_commands_exchange_keys_between_two_institutions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = InstitutionDirectory.create(tmp_path / "north", "north")
    south = InstitutionDirectory.create(tmp_path / "south", "south")
    here, there = ("--home", north.directory), ("--home", south.directory)
    file, own = south.keys_path / "public.json", south.public_keys()
    assert "no institution is approved" in printed(capsys, peers.add, "peers", "list", *here)
    shown = printed(capsys, peers.add, "peers", "show", *there)
    assert str(file) in shown
    spoken = shown.splitlines()[-1].split(": ")[1]
    facts = json.loads(printed(capsys, peers.add, "peers", "show", "--json", *there))
    assert facts == {"name": "south", "file": str(file), "fingerprint": own.fingerprint}

    assert "give --fingerprint, as south reads it out" in refusal(capsys, peers.add, "peers", "add", file, *here)
    wrong = refusal(capsys, peers.add, "peers", "add", file, *here, "--fingerprint", "0" * 32)
    assert "do not use the file, call south" in wrong
    absent = refusal(capsys, peers.add, "peers", "add", tmp_path / "absent.json", *here, "--fingerprint", spoken)
    assert "cannot be read (No such file or directory): give an institution's public.json" in absent
    printed(capsys, peers.add, "peers", "add", file, *here, "--fingerprint", spoken)
    assert read_peers(north) == {"south": own}
    assert f"south: {spoken}" in printed(capsys, peers.add, "peers", "list", *here)
    listed = json.loads(printed(capsys, peers.add, "peers", "list", "--json", *here))
    assert listed == {"peers": {"south": own.fingerprint}}
    printed(capsys, peers.add, "peers", "remove", "south", *here)
    assert read_peers(north) == {}
    assert "none is approved, so" in refusal(capsys, peers.add, "peers", "remove", "south", *here)


def test_an_input_that_ends_before_the_fingerprint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    north = InstitutionDirectory.create(tmp_path / "north", "north")
    south = InstitutionDirectory.create(tmp_path / "south", "south")

    def ended(_: str) -> NoReturn:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ended)
    file = south.keys_path / "public.json"
    assert command_line(peers.add)(["peers", "add", str(file), "--home", str(north.directory)]) == 2
    assert capsys.readouterr().err.strip().endswith("no answer was typed: run the command again, or see its --help")
    assert read_peers(north) == {}
