"""An outbox names each answer by its round and assignment, and forgets the rounds before."""

from pathlib import Path

from client.agent.outbox import answer_name, forget_before, latest_answered


def test_the_latest_answer_is_found_and_earlier_ones_are_forgotten(tmp_path: Path) -> None:
    assert latest_answered(tmp_path / "absent") == -1
    names = [answer_name(round_, b"assignment") for round_ in (2, 11)]
    for name in (*names, "config"):
        (tmp_path / name).write_bytes(b"")
    assert latest_answered(tmp_path) == 11
    assert answer_name(2, b"another") != names[0]
    forget_before(tmp_path, 11)
    assert {path.name for path in tmp_path.iterdir()} == {names[1], "config"}
