"""The share in the weights that the hub stated is kept inside, and a damaged file is one clear line."""

from pathlib import Path

import pytest

from client.institution.say import Say
from common.errors import LedgerError


def test_the_share_is_kept_as_it_was_stated(tmp_path: Path) -> None:
    assert Say.read(tmp_path) is None
    Say(0.004, 3).write(tmp_path)
    assert Say.read(tmp_path) == Say(0.004, 3)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "share").write_text('{"share": 1')
    with pytest.raises(LedgerError, match="damaged: delete it"):
        Say.read(tmp_path)
