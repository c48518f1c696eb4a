"""`approve` enrols an institution only if the fingerprint that its people read out is that of its request."""

import io
import sys
from pathlib import Path

import pytest

from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest, format_fingerprint
from server.commands.approve import add
from server.hub.directory import HubDirectory
from tests.server.commands.hub_commands import contents, json_of, printed, refusal, run

RequestFile = tuple[EnrolmentRequest, Path]


class Terminal(io.StringIO):
    """Standard input with an operator at it."""

    def isatty(self) -> bool:
        return True


def test_the_right_fingerprint_enrols_and_writes_the_package(
    empty_hub: HubDirectory, request_file: RequestFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, path = request_file
    spoken = format_fingerprint(request.fingerprint)
    out = tmp_path / "east.package.json"
    record = json_of(capsys, add, "approve", path, "--fingerprint", spoken, "--home", empty_hub.directory, "--out", out)
    assert list(empty_hub.members()) == ["east"]
    package = EnrolmentPackage.from_json(out.read_bytes())
    package.check_answers(request)
    assert record == {"institution": "east", "package": str(out), "fingerprint": package.fingerprint}


def test_a_fingerprint_with_the_dashes_of_a_text_editor_is_taken(
    empty_hub: HubDirectory, request_file: RequestFile, capsys: pytest.CaptureFixture[str]
) -> None:
    request, path = request_file
    spoken = format_fingerprint(request.fingerprint).replace(" ", chr(0x2013)).upper()
    json_of(capsys, add, "approve", path, "--fingerprint", spoken, "--home", empty_hub.directory)
    assert list(empty_hub.members()) == ["east"]


def test_without_out_the_package_lies_in_the_hub_and_its_fingerprint_is_printed(
    empty_hub: HubDirectory, request_file: RequestFile, capsys: pytest.CaptureFixture[str]
) -> None:
    request, path = request_file
    words = printed(capsys, add, "approve", path, "--fingerprint", request.fingerprint, "--home", empty_hub.directory)
    package_path = empty_hub.institutions_path / "east" / "east.package.json"
    assert str(package_path) in words
    assert format_fingerprint(EnrolmentPackage.from_json(package_path.read_bytes()).fingerprint) in words


@pytest.mark.parametrize("spoken", ["another", "too short", "empty"])
def test_a_wrong_or_short_fingerprint_enrols_nobody(
    empty_hub: HubDirectory, request_file: RequestFile, capsys: pytest.CaptureFixture[str], spoken: str
) -> None:
    request, path = request_file
    right = request.fingerprint
    wrong = ("0" if right[0] != "0" else "1") + right[1:32]
    given = {"another": wrong, "too short": right[:31], "empty": ""}[spoken]
    before = contents(empty_hub.directory)
    line = refusal(capsys, add, "approve", path, "--fingerprint", given, "--home", empty_hub.directory)
    assert "not the one given: do not enrol it" in line
    assert contents(empty_hub.directory) == before


@pytest.mark.parametrize(("answer", "enrolled"), [("y\n", ["east"]), ("yes\n", ["east"]), ("\n", []), ("no\n", [])])
def test_at_a_terminal_only_a_yes_enrols(
    empty_hub: HubDirectory,
    request_file: RequestFile,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    enrolled: list[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    arguments = ("approve", request_file[1], "--home", empty_hub.directory)
    if enrolled:
        assert format_fingerprint(request_file[0].fingerprint) in printed(capsys, add, *arguments)
    else:
        capsys.readouterr()
        assert run(add, *arguments) == 2
        assert "not enrolled" in capsys.readouterr().err
    assert list(empty_hub.members()) == enrolled


def test_without_terminal_and_fingerprint_nobody_is_enrolled(
    empty_hub: HubDirectory,
    request_file: RequestFile,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    line = refusal(capsys, add, "approve", request_file[1], "--home", empty_hub.directory)
    assert "compare it with the institution over another channel, and give --fingerprint" in line
    assert not empty_hub.institutions_path.exists()


@pytest.mark.parametrize("content", [None, "", "{}", "profit rises"])
def test_a_file_that_is_no_request_is_named_and_not_quoted(
    empty_hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    line = refusal(capsys, add, "approve", path, "--fingerprint", "0" * 64, "--home", empty_hub.directory)
    assert str(path) in line
    assert "profit" not in line
