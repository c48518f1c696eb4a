"""`verify` finds an edit of any audit log, also in a copy that holds the logs alone."""

import shutil
from pathlib import Path

import pytest

from common.identity.keys import PrivateKeys
from common.journal.journal import Journal
from server.commands.verify import add
from server.hub.audit_log import RUN_PURPOSE, anchor_run, note
from server.hub.directory import HubDirectory
from tests.server.commands.hub_commands import json_of, printed, refusal


@pytest.fixture
def logged(hub: HubDirectory) -> HubDirectory:
    """A hub whose run "spring" has two entries of its own, and an anchor in the hub's log."""
    note(hub, "run_created", {"run": "spring", "config_digest": "0" * 64})
    path = hub.runs_path / "spring" / "audit.jsonl"
    path.parent.mkdir(parents=True)
    with Journal.open(path, hub.keys(), RUN_PURPOSE) as journal:
        journal.append("round", {"round": 1})
        journal.append("round", {"round": 2})
        anchor_run(hub, "spring", journal.entries)
    return hub


def test_whole_logs_are_counted(logged: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of(capsys, add, "verify", "--home", logged.directory) == {"hub": 4, "runs": {"spring": 2}}
    words = printed(capsys, add, "verify", "--home", logged.directory)
    assert "the hub's audit log is whole: 4 entries" in words
    assert "run spring: whole, 2 entries" in words


@pytest.mark.parametrize("name", ["audit.jsonl", "runs/spring/audit.jsonl"])
@pytest.mark.parametrize("fault", ["edited", "cut"])
def test_an_edited_or_shortened_log_is_named(
    logged: HubDirectory, capsys: pytest.CaptureFixture[str], name: str, fault: str
) -> None:
    path = logged.directory / name
    text = path.read_bytes()
    changed = text.replace(b'"north"', b'"borth"').replace(b'"round":1', b'"round":3')
    path.write_bytes(changed if fault == "edited" else b"".join(text.splitlines(keepends=True)[:-1]))
    assert path.read_bytes() != text
    assert str(path) in refusal(capsys, add, "verify", "--home", logged.directory)


def test_a_removed_log_of_a_run_is_missed(logged: HubDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(logged.runs_path)
    assert "it is absent, but the hub's log names it" in refusal(capsys, add, "verify", "--home", logged.directory)


def test_an_auditor_needs_the_logs_and_a_trusted_public_key_alone(
    logged: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    kept = ("audit.jsonl", "audit.jsonl.head", "runs")
    ignored = shutil.ignore_patterns("keys", "ca", "tls", "institutions", "state", "hub.toml", "revoked.json")
    shutil.copytree(logged.directory, copy, ignore=ignored)
    assert sorted(path.name for path in copy.iterdir()) == sorted(kept)
    public = logged.keys_path / "public.json"
    assert json_of(capsys, add, "verify", "--home", copy, "--keys", public)["hub"] == 4
    assert "public.json" in refusal(capsys, add, "verify", "--home", copy)


def test_logs_that_another_key_signed_are_refused(
    logged: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(PrivateKeys.generate("hub").public.to_json())
    assert "another key" in refusal(capsys, add, "verify", "--home", logged.directory, "--keys", other)
    assert "cannot be read" in refusal(
        capsys, add, "verify", "--home", logged.directory, "--keys", tmp_path / "no.json"
    )
