"""Compare four privacy accountants: epsilon, time, and required noise. `python -m benchmarks.accounting`

The ledger uses PLD. PRV and RDP are bounds too. PRV has an error term, and RDP is looser. GDP is a limit theorem
(Bu et al. 2019, corollary 3) and no bound. It is shown to measure its error.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from client.budget.prv import epsilon_prv
from common.privacy.accounting import DpSgdEvent, calibrate, epsilon, epsilon_rdp, loss_distribution
from common.privacy.tradeoff import gaussian_delta, profile

DELTA = 1e-5
SETTINGS = [
    [DpSgdEvent(1.0, 0.01, 1000)],
    [DpSgdEvent(0.5, 0.01, 100)],
    [DpSgdEvent(1.0, 0.05, 1000)],
    [DpSgdEvent(2.0, 0.1, 1000)],
    [DpSgdEvent(1.56, 0.25, 100)],
    [DpSgdEvent(4.0, 0.001, 10_000)],
    [DpSgdEvent(0.6 + 0.024 * i, 0.005 + 0.00195 * (i * 37 % 100), 100) for i in range(100)],
]
TARGETS = [(1.0, 0.01, 1000), (3.0, 0.02, 2000), (8.0, 0.25, 100), (8.0, 0.05, 500)]  # epsilon, q, steps
COLD = """
import time
from common.privacy.accounting import DpSgdEvent, epsilon
epsilon([DpSgdEvent(3.0, 0.5, 1)], 1e-5)
ledger = [DpSgdEvent(0.6 + 0.024 * i, 0.005 + 0.00195 * (i * 37 % 100), 100) for i in range(100)]
processor, wall = time.process_time(), time.monotonic()
epsilon(ledger, 1e-5)
print(time.process_time() - processor, time.monotonic() - wall)
"""

Accountant = Callable[[Sequence[DpSgdEvent], float], float | None]


def epsilon_clt(events: Sequence[DpSgdEvent], delta: float) -> float:
    """Return epsilon by the limit theorem, no bound: mu = q sqrt(T (e^(1/sigma^2) - 1)), squares summed over events."""
    squares = (e.sampling_probability**2 * e.steps * math.expm1(e.noise_multiplier**-2) for e in events)
    mu, low, high = math.sqrt(math.fsum(squares)), 0.0, 1000.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(middle, mu) <= delta else (middle, high)
    return high


def main() -> None:
    """Print the tables. A "-" stands for an accountant that is left out because it would take minutes."""
    for accountant in (epsilon, epsilon_prv, epsilon_rdp, epsilon_clt):
        accountant([DpSgdEvent(3.0, 0.5, 1)], DELTA)  # warm up: imports are not measured
    print(f"epsilon at delta {DELTA:g}; CPU seconds of the first call of each setting\n")
    print(
        f"{'noise, q, steps':<22}{'PLD':>9}{'s':>7}{'again':>7}{'PRV':>9}{'s':>7}{'RDP':>9}{'s':>7}{'GDP*':>9}{'mu':>8}"
    )
    for events in SETTINGS:
        cells = [*timed(epsilon, events), timed(epsilon, events)[1], *timed(epsilon_prv, events)]
        cells += [*timed(epsilon_rdp, events), timed(epsilon_clt, events)[0]]
        cells.append(f"{profile(loss_distribution(events)).gaussian_mu(DELTA):.3f}")
        widths = (9, 7, 7, 9, 7, 9, 7, 9, 8)
        print(f"{named(events):<22}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    print(
        "* a limit theorem, no bound: below PLD it is too small. mu: proven from PLD, for error rates of delta and more"
    )
    cold_ledger()
    print(f"\nnoise that each accountant requires at delta {DELTA:g}, and its excess over PLD in percent\n")
    print(f"{'epsilon, q, steps':<22}{'PLD':>9}{'PRV':>9}{'%':>7}{'RDP':>9}{'%':>7}{'GDP*':>9}{'%':>7}")
    for target, q, steps in TARGETS:
        record = calibrate(target, DELTA, q, steps)
        row = f"{f'{target:g}, {q:g}, {steps}':<22}{record:>9.4f}"
        for accountant in (epsilon_prv, epsilon_rdp, epsilon_clt):
            noise = needed(accountant, target, q, steps, record)
            row += f"{noise:>9.4f}{100 * (noise / record - 1):>+7.1f}"
        print(row)


def cold_ledger() -> None:
    """Measure 10,000 steps in 100 settings in a fresh process without cached results."""
    done = subprocess.run([sys.executable, "-c", COLD], check=True, capture_output=True, text=True)
    processor, wall = map(float, done.stdout.split())
    print(f"\n10,000 steps in 100 settings, nothing cached: {processor:.2f} CPU s, {wall:.2f} s of wall time")


def needed(accountant: Accountant, target: float, q: float, steps: int, near: float) -> float:
    """Return the smallest noise multiplier, to 0.05 %, for which `accountant` stays within `target`."""
    low, high = near / 2, near * 2
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        found = accountant([DpSgdEvent(middle, q, steps)], DELTA)
        low, high = (low, middle) if found is not None and found <= target else (middle, high)
    return high


def named(events: Sequence[DpSgdEvent]) -> str:
    """Return the printed form of a setting."""
    first = events[0]
    if len(events) > 1:
        return f"{len(events)} settings x {first.steps}"
    return f"{first.noise_multiplier:g}, {first.sampling_probability:g}, {first.steps}"


def timed(accountant: Accountant, events: Sequence[DpSgdEvent]) -> tuple[str, str]:
    """Return epsilon and CPU seconds in printed form."""
    start = time.process_time()
    found = accountant(events, DELTA)
    seconds = time.process_time() - start
    return ("-" if found is None else f"{found:.3f}"), f"{seconds:.3f}"


if __name__ == "__main__":
    main()
