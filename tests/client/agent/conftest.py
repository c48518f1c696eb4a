"""The agent's socket needs a short path."""

from tests.short_paths import tmp_path  # noqa: F401 - a fixture
