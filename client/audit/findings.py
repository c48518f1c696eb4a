"""The whole audit as one JSON object: what was claimed, what each attack found, and what does not fit together."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from scipy.stats import binom

from client.audit.canaries import attack
from client.audit.checks import SURPRISE, run_checks
from client.audit.inversion import InversionResult, invert
from client.audit.subject import load_subject
from common.config.run import RunConfig
from common.errors import ConfigurationError

__all__ = ["audit"]


def audit(
    config: RunConfig,
    canaries: int = 500,
    confidence: float = 0.95,
    noise_multiplier: float | None = None,
    device: str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Attack what `config` claims; reads no private row.

    Args:
        noise_multiplier: plants this much noise in place of what the claim needs, to see that the audit notices.

    Raises:
        ConfigurationError: an argument out of range, or a run that cannot be audited.
        ModelError: the base model is absent, or its first layer cannot be attacked.
    """
    if not 20 <= canaries <= 1_000_000:
        raise ConfigurationError(f"--canaries is {canaries}: use a whole number from 20 to 1,000,000")
    if not 0.5 <= confidence < 1:
        raise ConfigurationError(f"--confidence is {confidence}: use a number from 0.5 to below 1, as 0.95")
    if noise_multiplier is not None and not 0 <= noise_multiplier <= 1000:
        raise ConfigurationError(f"--noise-multiplier is {noise_multiplier}: use a number from 0 to 1000")
    started = time.monotonic()
    subject = load_subject(config, canaries // 2, device)
    found = attack(subject, canaries, confidence, noise_multiplier, progress)
    checks = run_checks(subject, noise_multiplier, progress)
    inversion = invert(subject, noise_multiplier, progress)
    failed = ["canaries"] if found.lower_bound > subject.claimed else []
    failed += [check.name for check in checks if not check.passed]
    failed += ["inversion"] if _more_than_chance(inversion) else []
    return {
        "claimed_epsilon": subject.claimed,
        "lower_bound": found.lower_bound,
        "confidence": confidence,
        "delta": subject.delta,
        "unit": subject.dp.unit,
        "canaries": canaries,
        "guesses": found.guesses.made,
        "right_guesses": found.guesses.right,
        "largest_possible_bound": found.possible,
        "noise_multiplier": found.noise_multiplier,
        "claimed_noise_multiplier": subject.dp.noise_multiplier,
        "planted": noise_multiplier is not None,
        "clipping_norm": subject.dp.clipping_norm,
        "clipping": subject.dp.clipping,
        "sampling_probability": subject.dp.sampling_probability,
        "steps": found.steps,
        "steps_attacked": found.steps_attacked,
        "checks": [asdict(check) for check in checks],
        "inversion": asdict(inversion),
        "failed": failed,
        "base_model": config.model.base,
        "parameters_trained": subject.model.parameters_trained,
        "config_digest": config.digest(),
        "seconds": round(time.monotonic() - started, 1),
    }


def _more_than_chance(inversion: InversionResult) -> bool:
    """Whether the private updates gave back more tokens than blind guessing would, or the true ones ranked too high.

    Under chance the places are uniform: their mean has standard deviation 1 / sqrt(12 n).
    """
    n = inversion.tokens
    guessed = float(binom.sf(inversion.private - 1, n, inversion.chance / n))
    high = inversion.place < 0.5 - 4.4 / (12 * n) ** 0.5
    return guessed < SURPRISE or high
