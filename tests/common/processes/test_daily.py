"""A message that is due is printed at once, then once a day, and an error of looking ends nothing."""

import pytest

from common.errors import EnrolmentError
from common.processes.daily import DailyReminder


def test_what_is_due_is_said_at_once_and_then_once_a_day() -> None:
    said: list[str] = []
    due, now = ["the certificate of server expires in 3 days"], [0.0]
    reminder = DailyReminder(lambda: due, said.append, lambda: now[0])
    assert said == due
    for now[0] in (1.0, 3_600.0, 86_399.0):
        reminder.tick()
    assert len(said) == 1
    for now[0] in (86_400.0, 86_401.0, 172_800.0):
        reminder.tick()
    assert said == due * 3
    due.clear()  # it was renewed
    now[0] = 1e6
    reminder.tick()
    assert len(said) == 3


def test_an_error_ends_the_start_and_nothing_that_runs() -> None:
    said: list[str] = []
    damaged, now = [True], [0.0]

    def due() -> list[str]:
        if damaged[0]:
            raise EnrolmentError("certificate: not an X.509 certificate in PEM")
        return []

    with pytest.raises(EnrolmentError):
        DailyReminder(due, said.append, lambda: now[0])
    damaged[0] = False
    reminder = DailyReminder(due, said.append, lambda: now[0])
    damaged[0], now[0] = True, 1e6
    reminder.tick()
    assert said == ["certificate: not an X.509 certificate in PEM"]
