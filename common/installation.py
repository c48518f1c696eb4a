"""Detect another installed distribution whose top-level packages are called like those of fedfin."""

from functools import cache
from importlib.metadata import Distribution, distributions, packages_distributions

__all__ = ["PACKAGES", "foreign_package"]

PACKAGES = ("client", "common", "server", "simulation")
"""Top-level packages of fedfin whose names other projects use too."""
_OWN = "fedfin"


@cache
def foreign_package() -> str | None:
    """Return one line that says which distribution brings a package of the same name, or None if none does.

    Two such packages overwrite or hide each other's files, so neither is to be trusted.
    """
    # Reading every RECORD as `packages_distributions` does takes half a second, so it is asked only if it must be.
    if not any(_claims(each) and each.name != _OWN for each in distributions()):
        return None
    owners = packages_distributions()
    for package in PACKAGES:
        if others := sorted(set(owners.get(package, ())) - {_OWN}):
            return (
                f'distribution {others[0]} brings a package called "{package}", which fedfin has too: install fedfin '
                "in an environment of its own"
            )
    return None


def _claims(distribution: Distribution) -> bool:
    top_level = distribution.read_text("top_level.txt")
    if top_level is not None:
        return not set(PACKAGES).isdisjoint(top_level.split())
    record = "\n" + (distribution.read_text("RECORD") or "")
    return any(f"\n{package}/" in record or f"\n{package}.py," in record for package in PACKAGES)
