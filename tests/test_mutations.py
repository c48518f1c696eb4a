"""Each mutation still finds its text and its test. `python tests/mutations.py` applies them, which takes long."""

from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[str(number) for number in range(1, len(MUTATIONS) + 1)])
def test_its_text_stands_once_in_its_file_and_its_test_exists(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.old != mutation.new
    file, name = mutation.test
    assert name in (ROOT / file).read_text()
