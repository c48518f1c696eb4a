"""The whole audit as one typed result: the claim, the findings of each attack, and which of them refute the claim."""

import time
from collections.abc import Callable
from typing import Annotated

from scipy.stats import binom

from client.audit.canaries import attack
from client.audit.checks import SURPRISE, run_checks
from client.audit.inversion import invert
from client.audit.memorisation import memorise
from client.audit.subject import default_run, load_subject
from common.base_models.device import select_device
from common.config.run import RunConfig
from common.config.sections import Range, check_value
from common.errors import ConfigurationError
from common.report.records import AuditResult, InversionResult

__all__ = ["audit"]


def audit(
    config: RunConfig | None = None,
    canaries: int = 10_000,
    confidence: float = 0.95,
    noise_multiplier: float | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> AuditResult:
    """Attack the privacy that `config` claims, on its own training loop. No private row is read, no budget spent.

    Args:
        config: The run. If None, the training of the demo, claiming epsilon 2.
        canaries: Number of gradients that the attacker looks for, at most the numbers of the adapter. More can show a
            larger epsilon.
        confidence: Of the lower bound.
        noise_multiplier: Noise to add in place of the noise that the claim needs, to see that the audit notices.
        device: "auto", "cpu", "cuda", "cuda:1".
        progress: Called with the step under way, the number done, and the number in all.

    Raises:
        ConfigurationError: An argument is out of range, or the run cannot be audited.
        ModelError: The base model is absent, or its first layer cannot be attacked.
    """
    canaries = check_value(canaries, Annotated[int, Range(20, 1_000_000)], "canaries")
    confidence = check_value(confidence, Annotated[float, Range(0.5, 1, below=True)], "confidence")
    noise_multiplier = check_value(noise_multiplier, Annotated[float | None, Range(0, 1000)], "noise_multiplier")
    config = default_run() if config is None else config
    if not isinstance(config, RunConfig):
        raise ConfigurationError(
            f"audit: config is a {type(config).__name__}: make it with RunConfig.read or RunConfig.from_tables"
        )
    started = time.monotonic()
    subject = load_subject(config, canaries // 2, select_device(device))
    found = attack(subject, canaries, confidence, noise_multiplier, progress)
    checks = run_checks(subject, noise_multiplier, progress)
    writes = subject.base.head.writes_text
    memorised = memorise(subject, confidence, noise_multiplier, progress) if writes else None
    inversion = invert(subject, noise_multiplier, progress)
    failed = ["canaries"] if found.lower_bound > subject.claimed else []
    failed += ["sentences"] if memorised is not None and memorised.lower_bound > subject.claimed else []
    failed += [check.name for check in checks if not check.passed]
    failed += ["inversion"] if _more_than_chance(inversion) else []
    return AuditResult(
        claimed_epsilon=subject.claimed,
        lower_bound=found.lower_bound,
        confidence=confidence,
        delta=subject.delta,
        unit=subject.dp.unit,
        canaries=canaries,
        guesses=found.guesses.made,
        right_guesses=found.guesses.right,
        largest_possible_bound=found.possible,
        noise_multiplier=found.noise_multiplier,
        claimed_noise_multiplier=subject.dp.noise_multiplier,
        planted=noise_multiplier is not None,
        clipping_norm=subject.dp.clipping_norm,
        sampling_probability=subject.dp.sampling_probability,
        steps=found.steps,
        steps_attacked=found.steps,
        checks=tuple(checks),
        inversion=inversion,
        memorisation=memorised,
        failed=tuple(failed),
        base_model=config.model.base,
        parameters_trained=subject.model.parameters_trained,
        config_digest=config.digest(),
        seconds=round(time.monotonic() - started, 1),
    )


def _more_than_chance(inversion: InversionResult) -> bool:
    """Whether the private updates gave back more tokens than blind guessing would, or the true ones ranked too high.

    Under chance the places are uniform: their mean has standard deviation 1 / sqrt(12 n).
    """
    n = inversion.tokens
    guessed = float(binom.sf(inversion.private - 1, n, inversion.chance / n))
    high = inversion.place < 0.5 - 4.4 / (12 * n) ** 0.5
    return guessed < SURPRISE or high
