"""Three accountants side by side: what they say and what they cost. `python -m benchmarks.accounting`"""

import time
from collections.abc import Callable

from client.prv import epsilon_prv
from common.accounting import DpSgdEvent, epsilon, epsilon_rdp

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


def main() -> None:
    """Print one row a setting; "-" where an accountant is not asked because it would take minutes."""
    for accountant in (epsilon, epsilon_prv, epsilon_rdp):
        accountant([DpSgdEvent(3.0, 0.5, 1)], DELTA)  # imports are not what is measured
    print(f"delta {DELTA:g}, first call of each setting, CPU seconds\n")
    print(f"{'noise, q, steps':<26}{'PLD':>10}{'s':>8}{'again s':>10}{'PRV':>10}{'s':>8}{'RDP':>10}{'s':>8}")
    for events in SETTINGS:
        first = events[0]
        name = f"{first.noise_multiplier:g}, {first.sampling_probability:g}, {first.steps}"
        if len(events) > 1:
            name = f"{len(events)} settings x {first.steps}"
        cells = [*timed(epsilon, events), timed(epsilon, events)[1], *timed(epsilon_prv, events)]
        cells += timed(epsilon_rdp, events)
        widths = (10, 8, 10, 10, 8, 10, 8)
        print(f"{name:<26}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))


def timed(accountant: Callable[[list[DpSgdEvent], float], float | None], events: list[DpSgdEvent]) -> tuple[str, str]:
    """Epsilon and CPU seconds, as printed."""
    start = time.process_time()
    found = accountant(events, DELTA)
    seconds = time.process_time() - start
    return ("-" if found is None else f"{found:.3f}"), f"{seconds:.3f}"


if __name__ == "__main__":
    main()
