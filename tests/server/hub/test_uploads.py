"""An institution sends what the round needs, and not more."""

from pathlib import Path

import pytest

from server.hub.directory import HubDirectory
from server.hub.uploads import UploadQuota, allow_uploads, end_uploads

MIB = 2**20


def test_a_reply_far_larger_than_the_adapter_is_cut_off_for_its_sender_alone(tmp_path: Path) -> None:
    home = HubDirectory(tmp_path)
    quota = UploadQuota(home, lambda: 0.0)
    allow_uploads(home, "run", 1, 10 * MIB)
    assert sum(quota.take("west", 5 * MIB) for _ in range(50)) * 5 == 40  # four copies of it, of 250 MB
    assert quota.take("north", 10 * MIB)
    assert not quota.take("west", 5 * MIB)
    allow_uploads(home, "run", 2, 10 * MIB)
    assert quota.take("west", 10 * MIB)


def test_without_a_run_little_is_taken_and_a_node_can_live_on(tmp_path: Path) -> None:
    home, now = HubDirectory(tmp_path), [0.0]
    quota = UploadQuota(home, lambda: now[0])
    allow_uploads(home, "run", 1, 10 * MIB)
    end_uploads(home, "run")
    assert not quota.take("west", 5 * MIB)
    for _ in range(1000):
        now[0] += 30
        assert quota.take("west", MIB)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"bytes": "x"}'])
def test_a_damaged_file_allows_nothing_more(tmp_path: Path, text: str) -> None:
    home = HubDirectory(tmp_path)
    home.uploads_path.mkdir(parents=True)
    (home.uploads_path / "run.json").write_text(text)
    assert not UploadQuota(home).take("west", 5 * MIB)
