"""A `tmp_path` whose path leaves room for the path of a socket, however long pytest's own has become."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedfin-") as directory:
        yield Path(directory)
