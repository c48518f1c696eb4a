"""The sockets of the node need a short path."""

from tests.short_paths import tmp_path  # noqa: F401 - a fixture
