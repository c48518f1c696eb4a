"""A run says which packages made it."""

import importlib.metadata

from common.versions import package_versions


def test_the_packages_that_decide_a_privacy_guarantee_are_recorded() -> None:
    versions = package_versions()
    for name in ("opacus", "dp-accounting", "torch", "flwr"):
        assert versions[name] == importlib.metadata.version(name)
    assert versions["python"].startswith("3.")
