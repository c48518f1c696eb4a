"""The code that hub and institutions compare: every source file of three packages, and an error if there are none."""

import hashlib
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.source import code_digest, digest_of, package_root, source_files

ROOT = Path(__file__).parents[2]


def write_rooms(root: Path) -> None:
    for room in ("client", "common", "server"):
        (root / room / "sub").mkdir(parents=True)
        (root / room / "a.py").write_text(f"{room} = 1\n")
        (root / room / "sub" / "b.py").write_text("two = 2\n")


def test_the_code_digest_covers_every_source_file_of_three_rooms_and_nothing_else(tmp_path: Path) -> None:
    write_rooms(tmp_path)
    before = digest_of(tmp_path)
    for other in ("simulation/x.py", "common/__pycache__/a.pyc", "common/notes.md"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("x")
    assert digest_of(tmp_path) == before
    seen = {before}
    for room in ("client", "common", "server"):
        (tmp_path / room / "sub" / "b.py").write_text("two = 3\n")
        seen.add(digest_of(tmp_path))
    (tmp_path / "server" / "a.py").rename(tmp_path / "server" / "c.py")
    seen.add(digest_of(tmp_path))
    (tmp_path / "client" / "new.py").write_text("")
    seen.add(digest_of(tmp_path))
    assert len(seen) == 6


def test_the_code_digest_is_the_one_of_this_checkouts_files_computed_by_hand() -> None:
    names = sorted(
        path.relative_to(ROOT).as_posix()
        for room in ("client", "common", "server")
        for path in (ROOT / room).rglob("*.py")
    )
    assert "common/source.py" in names
    assert len(names) > 150
    parts = [hashlib.sha256(part).digest() for name in names for part in (name.encode(), (ROOT / name).read_bytes())]
    assert code_digest() == hashlib.sha256(b"".join(parts)).hexdigest()
    assert package_root() == ROOT


@pytest.mark.parametrize("absent", ["client", "common", "server"])
def test_a_root_without_source_is_an_error_and_never_the_hash_of_nothing(tmp_path: Path, absent: str) -> None:
    for room in {"client", "common", "server"} - {absent}:
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("")
    for function in (source_files, digest_of):
        with pytest.raises(ConfigurationError, match=f"no source files of the package {absent}: install fedfin again"):
            function(tmp_path)
