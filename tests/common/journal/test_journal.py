"""Every edit of a journal shows, every crash leaves all acknowledged lines, and one process writes at a time."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import files
from common.errors import LedgerError
from common.identity.keys import PrivateKeys
from common.journal import journal, line_format
from common.journal.journal import Journal, verify

ROOT = Path(__file__).parents[3]
KEYS = PrivateKeys.generate("bank")


def fill(path, count=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Journal.open(path, KEYS) as opened:
        for number in range(count):
            opened.append("note", {"number": number, "half": number / 2, "text": "déjà"})
    return path


@pytest.fixture
def path(tmp_path):
    return fill(tmp_path / "audit.jsonl")


def head_of(path):
    return path.with_name(path.name + ".head")


def numbers(path):
    with Journal.open(path, KEYS) as opened:
        return [entry.body["number"] for entry in opened.entries]


def assert_refused(path, match="restore"):
    with pytest.raises(LedgerError, match=match):
        Journal.open(path, KEYS)
    with pytest.raises(LedgerError, match=match):
        verify(path, KEYS.public)


def test_what_was_appended_is_read_back_and_verifies_without_the_private_key(path):
    with Journal.open(path, KEYS) as opened:
        opened.append("note", {"number": 4, "deep": {"list": [1, None, True]}})
        entries = opened.entries
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[-1].body == {"number": 4, "deep": {"list": [1, None, True]}}
    assert verify(path, KEYS.public) == verify(path, KEYS.public, "journal") == entries
    assert [json.loads(line)["body"] for line in path.read_text().splitlines()] == [entry.body for entry in entries]
    assert path.stat().st_mode & 0o777 == head_of(path).stat().st_mode & 0o777 == 0o600


def test_one_flipped_bit_anywhere_is_found(path):
    for file in (path, head_of(path)):
        good = file.read_bytes()
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 1 << (position % 8)
            file.write_bytes(bad)
            assert_refused(path)
        file.write_bytes(good)
    assert numbers(path) == [0, 1, 2, 3]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_other_bytes_in_any_place_are_found(path, data):
    file = data.draw(st.sampled_from([path, head_of(path)]))
    good = file.read_bytes()
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start + 1, min(start + 40, len(good))))
    other = data.draw(st.binary(max_size=40).filter(lambda new: new != good[start:end]))
    bad = good[:start] + other + good[end:]
    try:
        # Bytes after the acknowledged lines that are no line are a torn tail, and no edit.
        if file == head_of(path) or not bad.startswith(good):
            file.write_bytes(bad)
            assert_refused(path)
    finally:
        file.write_bytes(good)


def test_a_line_taken_out_doubled_swapped_or_cut_off_is_found(path):
    lines = path.read_bytes().splitlines(keepends=True)
    for other in (
        lines[1:],
        lines[:-1],
        lines[:1],
        [],
        [*lines, lines[-1]],
        [lines[1], lines[0], *lines[2:]],
        lines[:2] + lines[3:],
    ):
        path.write_bytes(b"".join(other))
        assert_refused(path)
    for length in range(sum(map(len, lines))):
        path.write_bytes(b"".join(lines)[:length])
        assert_refused(path)


def test_a_file_or_its_head_alone_is_found(path, tmp_path):
    head = head_of(path).read_bytes()
    head_of(path).unlink()
    assert_refused(path)
    head_of(path).write_bytes(head)
    path.unlink()
    with pytest.raises(LedgerError, match="absent"):
        Journal.open(path, KEYS)
    assert not path.exists()
    with pytest.raises(LedgerError, match="absent"):
        verify(path, KEYS.public)


def test_one_that_was_begun_does_not_begin_again(path):
    for content in (None, b""):  # both files deleted, or the lines emptied as well
        head_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LedgerError, match="absent"):
            Journal.open(path, KEYS, begun=True)
        assert path.exists() == (content is not None)
        assert not head_of(path).exists()


def test_another_key_or_another_purpose_cannot_pose_as_this_journal(path, tmp_path):
    other = PrivateKeys.generate("other")
    with pytest.raises(LedgerError, match="another key"):
        Journal.open(path, other)
    with pytest.raises(LedgerError, match="another key"):
        verify(path, other.public)
    with pytest.raises(LedgerError, match="purpose"):
        Journal.open(path, KEYS, "privacy ledger")
    with pytest.raises(LedgerError, match="purpose"):
        verify(path, KEYS.public, "privacy ledger")
    theirs = fill(tmp_path / "other.jsonl", 4)
    path.write_bytes(theirs.read_bytes())  # same key, same length, other moment
    assert_refused(path)


def test_a_signature_that_the_chain_covers_but_the_key_did_not_make_is_found_offline(path):
    forged = PrivateKeys.generate("forger")
    entries = list(verify(path, KEYS.public))
    opened = Journal.open(path, KEYS)
    opened._keys = forged
    entry, line = opened._next("note", {"number": 9})
    opened._write(line)
    opened._keys = KEYS
    head = opened._signed_head(entry.sequence, opened._head.length + len(line), line_format.digest(line))
    opened._acknowledge(head)
    opened.close()
    assert len(entries) == 4
    with pytest.raises(LedgerError, match="line 5 was edited"):
        verify(path, KEYS.public)


def test_half_a_line_after_the_head_is_cut_off_whatever_its_length(path):
    whole, head = path.read_bytes(), head_of(path).read_bytes()
    with Journal.open(path, KEYS) as opened:
        opened.append("note", {"number": 4})
    longer = path.read_bytes()
    for length in range(len(whole), len(longer)):
        path.write_bytes(longer[:length])
        head_of(path).write_bytes(head)
        assert len(verify(path, KEYS.public)) == 4
        assert numbers(path) == [0, 1, 2, 3]
        assert path.read_bytes() == whole
    path.write_bytes(longer)  # the whole line, killed before its head: it was written, so it stands
    head_of(path).write_bytes(head)
    assert len(verify(path, KEYS.public)) == 5
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert b'"count":5' in head_of(path).read_bytes()
    path.write_bytes(longer + b"\0" * 300 + b"\n")
    assert numbers(path) == [0, 1, 2, 3, 4]
    path.write_bytes(longer + b"{}\n")
    assert_refused(path, "edited")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fchmod", "ftruncate"])
def test_an_append_killed_at_any_system_call_leaves_an_openable_journal(tmp_path, monkeypatch, call):
    for moment in range(1, 5):
        path = fill(tmp_path / f"{call}-{moment}" / "audit.jsonl", 2)
        opened, left, real = Journal.open(path, KEYS), [moment], getattr(os, call)

        def dying(*given, left=left, real=real):
            left[0] -= 1
            if left[0] == 0:
                if call == "write":
                    real(given[0], given[1][:50])
                raise Killed
            return real(*given)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, dying)
            try:
                opened.append("note", {"number": 2})
                acknowledged = True
            except Killed:
                acknowledged = False
        if not acknowledged:
            with pytest.raises(LedgerError, match="open it again"):
                opened.append("note", {"number": 3})
        opened.close()
        found = numbers(path)
        assert found[:2] == [0, 1]
        assert found[2:] in ([[2]] if acknowledged else [[2], []])
        assert len(verify(path, KEYS.public)) == len(found)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_one_clear_error_and_the_journal_opens_again(path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    opened = Journal.open(path, KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(LedgerError, match="No space left"):
            opened.append("note", {"number": 4})
    opened.close()
    assert numbers(path) == [0, 1, 2, 3]
    opened = Journal.open(path, KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_atomic", full)
        with pytest.raises(LedgerError, match="No space left"):
            opened.append("note", {"number": 4})
    opened.close()
    assert numbers(path) == [0, 1, 2, 3, 4]  # on disk before its head was: it stands, whatever the caller was told


def test_what_is_no_json_or_no_kind_is_refused_and_harms_nothing(path):
    with Journal.open(path, KEYS) as opened:
        for kind, body in [("note", {"x": float("nan")}), ("note", {"x": b""}), ("note", {"x": "y" * 2**20}), ("", {})]:
            with pytest.raises(LedgerError):
                opened.append(kind, body)
        opened.append("note", {"number": 4})
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_a_file_changed_under_an_open_journal_stops_it(path):
    opened = Journal.open(path, KEYS)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(LedgerError, match="changed by something else"):
        opened.append("note", {})
    opened.close()


def test_leftovers_of_a_killed_head_are_removed_and_nothing_else(path):
    mine, foreign = path.parent / f".{path.name}.head.abc123", path.parent / ".other"
    mine.write_text("")
    foreign.write_text("")
    numbers(path)
    assert not mine.exists()
    assert foreign.exists()


def test_a_second_opener_is_told_at_once_and_a_reader_is_not_kept_out(path, tmp_path):
    KEYS.save(tmp_path / "keys")
    code = (
        "import sys; from pathlib import Path; from common.journal.journal import Journal\n"
        "from common.identity.keys import PrivateKeys\n"
        "try: Journal.open(Path(sys.argv[1]), PrivateKeys.load(Path(sys.argv[2])))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )

    def other_process():
        command = [sys.executable, "-c", code, str(path), str(tmp_path / "keys")]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout

    with Journal.open(path, KEYS):
        assert other_process().startswith("LedgerError")
        with pytest.raises(LedgerError, match="held by another process"):
            Journal.open(path, KEYS)
        assert len(verify(path, KEYS.public)) == 4
    assert other_process() == ""


def test_a_forked_child_cannot_write_with_its_parents_journal(path, monkeypatch):
    with Journal.open(path, KEYS) as opened:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(LedgerError, match="parent"):
            opened.append("note", {})


def test_a_directory_that_cannot_hold_it_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Journal.open(tmp_path / "file" / "audit.jsonl", KEYS)
    with pytest.raises(LedgerError, match="cannot be opened"):
        Journal.open(tmp_path, KEYS)


def test_atomic_files_are_what_the_head_is_written_with():
    assert vars(journal)["write_atomic"] is files.write_atomic
