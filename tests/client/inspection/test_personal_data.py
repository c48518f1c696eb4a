"""Personal data is told from the figures of financial text."""

import time

import pytest

from client.inspection.personal_data import personal_data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to x.y+z@bank.co.uk", ("e-mail",)),
        ("IBAN GB29 NWBK 6016 1331 9268 19 please", ("IBAN",)),
        ("FR1420041010050500013M02606", ("IBAN",)),
        ("card 4111 1111 1111 1111, valid", ("card number",)),
        ("5555-5555-5555-4444", ("card number",)),
        ("call +44 20 7946 0958", ("phone",)),
        ("call (202) 555-0142 now", ("phone",)),
        ("anna@example.com, +49 30 901820, DE89370400440532013000", ("e-mail", "IBAN", "phone")),
        # wrong checksums, and figures
        ("IBAN GB29 NWBK 6016 1331 9268 18", ()),
        ("card 4111 1111 1111 1112", ()),
        ("revenue of 1,234,567,890 and 2,345,678,901.50 in 2019-2020", ()),
        ("filing 0001193125-20-123456 of 10-K", ()),
        ("a@b, 50% @ 3.5", ()),
        ("0000 0000 0000 0000", ()),
        ("ISIN US0378331005 rose by 12.5", ()),
        ("", ()),
    ],
)
def test_kinds_of_personal_data(text: str, kinds: tuple[str, ...]) -> None:
    assert personal_data(text) == kinds


@pytest.mark.parametrize("line", ["-" * 60_000 + " @", "@" + "a." * 30_000, "@ " + "a" * 60_000])
def test_a_long_line_without_blanks_takes_no_time(line: str) -> None:
    personal_data("+49 30 901820")  # imports
    began = time.monotonic()
    assert personal_data(line) == ()
    assert time.monotonic() - began < 2.0
