"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# A busy machine generates inputs slowly. That says nothing about the code under test.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("any machine")
