"""The weights of institutions in the mean of a round, from their declared sizes."""

import math
from collections.abc import Mapping
from typing import Literal

__all__ = ["Weighting", "noise_equivalent_units", "weights"]

Weighting = Literal["capped_units", "declared_units", "inverse_variance", "uniform"]
"""Rules for the weights of a round. See `weights`."""

_CAP = 0.5
"""Largest share of one institution under "capped_units"."""


def weights(declared_units: Mapping[str, int | None], weighting: Weighting) -> dict[str, float]:
    """Return each institution's weight in the mean. Weights sum to 1.

    "declared_units" is proportional to the declared size, as a mean over all records would be. "inverse_variance" is
    proportional to its square. All institutions of a run use one noise multiplier, and each divides its sums by its
    declared size, so the variance of a contribution's noise goes with 1 / size^2. Weights by inverse variance leave the
    least noise beside the signal. "capped_units" is "declared_units" with at most one half for one institution, as in
    a capped index: no member outweighs all others together. The rest is divided among the others by size.

    An institution that declares no size gets the smallest declared size, so hiding it brings no extra weight. If none
    declares a size, weights are equal.

    Args:
        declared_units: Declared number of units by institution, or None.
        weighting: Rule of the run.

    >>> weights({"a": 1024, "b": 3072, "c": None}, "declared_units")
    {'a': 0.2, 'b': 0.6, 'c': 0.2}
    >>> weights({"a": 1024, "b": 6144, "c": 1024}, "capped_units")
    {'a': 0.25, 'b': 0.5, 'c': 0.25}
    """
    declared = [units for units in declared_units.values() if units is not None]
    if weighting == "uniform" or not declared:
        return {name: 1.0 / len(declared_units) for name in sorted(declared_units)}
    power = 2 if weighting == "inverse_variance" else 1
    sizes = {
        name: (min(declared) if (units := declared_units[name]) is None else units) ** power
        for name in sorted(declared_units)
    }
    total = sum(sizes.values())
    if weighting == "capped_units" and len(sizes) > 1:
        largest = max(sizes, key=sizes.__getitem__)
        rest = total - sizes[largest]
        if sizes[largest] > rest:
            return {name: _CAP if name == largest else (1 - _CAP) * size / rest for name, size in sizes.items()}
    return {name: size / total for name, size in sizes.items()}


def noise_equivalent_units(declared_units: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Return the size of one institution alone whose update has the noise of the weighted mean.

    An update of n declared units has noise of standard deviation proportional to 1 / n, with the same noise multiplier
    and sampling probability everywhere. The mean has that of 1 / sqrt(sum (w / n)^2) units.

    Args:
        declared_units: Declared size of each institution.
        shares: Weight of each institution. They sum to 1.

    >>> sizes = {"a": 3, "b": 4}
    >>> round(noise_equivalent_units(sizes, weights(sizes, "inverse_variance")), 6)
    5.0
    """
    return 1.0 / math.sqrt(sum((share / declared_units[name]) ** 2 for name, share in shares.items()))
