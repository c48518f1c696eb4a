"""The subsampled Gaussian from its definition, sharing nothing with the accountant: no FFT, no loss distribution.

One step, for one record added or removed, is the pair N(0, s^2) and (1 - q) N(0, s^2) + q N(1, s^2). Its hockey-stick
divergence at epsilon is the integral of max(0, p - e^epsilon p'), in either direction. Few steps are few integrals:
the output is a vector, and only the last coordinate's integral has a closed form.
"""

import math

import mpmath
import numpy as np
from scipy.special import ndtr, roots_legendre


def gaussian_delta(epsilon: float, noise: float, steps: int) -> mpmath.mpf:
    """Closed form for q = 1 (Balle and Wang, arXiv 1805.06530, theorem 8), in 50 digits."""
    with mpmath.workdps(50):
        mu = mpmath.sqrt(steps) / mpmath.mpf(noise)
        e = mpmath.mpf(epsilon)
        return mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu)


def one_step_delta(epsilon: float, noise: float, probability: float, group: int = 1) -> mpmath.mpf:
    """The integral itself, by adaptive quadrature in 30 digits: the larger of both directions.

    `group` records come or go together, each drawn on its own: the sum moves by as many as were drawn.
    """
    with mpmath.workdps(30):
        s, q, scale = mpmath.mpf(noise), mpmath.mpf(probability), mpmath.exp(mpmath.mpf(epsilon))
        low, high = -16 * s, group + 16 * s
        drawn = [mpmath.binomial(group, j) * q**j * (1 - q) ** (group - j) for j in range(group + 1)]

        def without(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.npdf(x, 0, s)

        def with_it(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.fsum(share * mpmath.npdf(x, j, s) for j, share in enumerate(drawn) if share)

        def divergence(p, other) -> mpmath.mpf:
            """Integral of the positive part. The integrand changes sign once, since the loss is monotone in x."""

            def integrand(x: mpmath.mpf) -> mpmath.mpf:
                return p(x) - scale * other(x)

            left, right = low, high
            positive_at_right = integrand(high) > 0
            for _ in range(100):
                middle = (left + right) / 2
                left, right = (left, middle) if (integrand(middle) > 0) == positive_at_right else (middle, right)
            start, end = (right, high) if positive_at_right else (low, left)
            return mpmath.quad(integrand, mpmath.linspace(start, end, 17))

        return max(divergence(with_it, without), divergence(without, with_it))


def few_steps_delta(epsilon: float, noise: float, probability: float, steps: int, nodes: int = 1000) -> float:
    """Two or three steps, to about 1e-5: Gauss-Legendre over all coordinates but the last, which has a closed form.

    With loss L of the coordinates so far under the direction P/Q, the remainder is the divergence of one step at
    epsilon - L, which has a closed form since the loss of a step rises with x.
    """
    s, q = noise, probability
    where, weight = roots_legendre(nodes)
    low, high = -7.5 * s, 1 + 7.5 * s
    x = low + (high - low) * (where + 1) / 2
    weight = weight * (high - low) / 2
    out = np.exp(-(x**2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))
    loss = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * s**2))
    results = []
    for removing in (True, False):
        density = out * np.exp(loss) if removing else out
        total, mass = np.zeros(1), np.ones(1)
        for _ in range(steps - 1):
            total = np.add.outer(total, loss if removing else -loss).ravel()
            mass = np.multiply.outer(mass, density * weight).ravel()
        results.append(float(np.dot(mass, _last_step(epsilon - total, s, q, removing))))
    return max(results)


def _last_step(epsilon: np.ndarray, s: float, q: float, removing: bool) -> np.ndarray:
    """Hockey-stick divergence of one step at each (possibly negative) epsilon, in closed form."""
    ratio = np.exp(epsilon if removing else -epsilon)  # with_it / without at the place where the integrand changes sign
    inside = (ratio - (1 - q)) / q
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = np.where(inside > 0, s**2 * np.log(np.maximum(inside, 1e-300)) + 0.5, -np.inf)
    above_without, above_with = ndtr(-cut / s), (1 - q) * ndtr(-cut / s) + q * ndtr(-(cut - 1) / s)
    if removing:
        return above_with - np.exp(epsilon) * above_without
    return (1 - above_without) - np.exp(epsilon) * (1 - above_with)
