"""Settings of all tests."""

from hypothesis import HealthCheck, settings

from tests.soft_tokens import soft_token  # noqa: F401 - a fixture

# A busy machine generates inputs slowly. That says nothing about the code under test.
settings.register_profile("random", suppress_health_check=[HealthCheck.too_slow], deadline=None)
# The same inputs in every run: a red test tells something of the change. `make fuzz` draws new ones.
settings.register_profile("fixed", settings.get_profile("random"), derandomize=True)
settings.load_profile("fixed")


def pytest_make_parametrize_id(val: object) -> str | None:
    """The name of a test tells bytes by their number: a compressed file holds the time, and processes must agree."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None
