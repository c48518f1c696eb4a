"""Bad input is one line with its remedy, and `docs/errors.md` holds each of those lines as it is said."""

from pathlib import Path

from tests.client.commands.error_cases import page, prepare

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"


def test_the_page_of_errors_says_what_the_commands_say(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert page(tmp_path) == PAGE.read_text(), "python -m tests.client.commands.error_cases > docs/errors.md"
