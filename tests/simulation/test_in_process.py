"""Steps of an institution carry its name, and nothing else of them changes."""

from dataclasses import replace

from common.events import Observer, StepEvent
from simulation.in_process import Named


def test_a_step_gets_the_name_of_its_institution_and_reaches_every_observer() -> None:
    seen: list[StepEvent] = []

    class Seen(Observer):
        def on_step(self, event: StepEvent) -> None:
            seen.append(event)

    step = StepEvent(1, 2, 1, 0.5, 0.1, None, 0.1, 4, 20, 0.1)
    Named("north", (Seen(), Seen())).on_step(step)
    assert seen == [replace(step, institution="north")] * 2
