"""Files, directories and locks: whole or not at all."""

import os
from pathlib import Path

import pytest

from common.files import json_text, open_own, read_limited, replace_directory, try_lock, write_atomic


def test_a_directory_is_replaced_only_when_its_draft_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    with replace_directory(place) as draft:
        (draft / "one").write_text("1")
        assert not place.exists()
    with pytest.raises(FileNotFoundError), replace_directory(place) as draft:
        (draft / "absent" / "two").write_text("2")
    assert [path.name for path in place.iterdir()] == ["one"]
    with replace_directory(place) as draft:
        (draft / "three").write_text("3")
    assert [path.name for path in place.iterdir()] == ["three"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_lock_excludes_other_open_files_until_it_is_closed(tmp_path: Path) -> None:
    first, second, third = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(3))
    assert try_lock(first)
    assert not try_lock(second)
    assert not try_lock(second, shared=True)
    os.close(first)
    assert try_lock(second, shared=True)
    assert try_lock(third, shared=True)
    assert not try_lock(third)
    os.close(second)
    assert try_lock(third)
    os.close(third)


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_ones_own_is_never_a_link_and_never_truncated(tmp_path: Path) -> None:
    kept = tmp_path / "ledger"
    kept.write_bytes(b"kept")
    (tmp_path / "lock").symlink_to(kept)
    with pytest.raises(OSError, match="symbolic links"):
        open_own(tmp_path / "lock", os.O_RDWR)
    os.close(open_own(kept, os.O_RDWR))
    write_atomic(tmp_path / "lock", b"new", sync=False)
    assert kept.read_bytes() == b"kept"
    assert not (tmp_path / "lock").is_symlink()


def test_a_file_is_read_up_to_its_limit_and_a_pipe_never(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe")
    assert read_limited(tmp_path / "file", 4) == b"1234"
    with pytest.raises(ValueError, match="longer than 3 bytes"):
        read_limited(tmp_path / "file", 3)
    for other in ("/dev/zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="not a regular file"):
            read_limited(Path(other), 4)


def test_json_has_no_number_that_the_standard_lacks() -> None:
    assert json_text({"a": [float("inf"), float("nan")]}) == '{"a": ["infinity", null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("-inf"))
