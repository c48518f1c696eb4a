"""Observers see each step of a private training, and nothing that has no noise."""

from pathlib import Path

import numpy as np
import torch

from client.dp.watcher import Watcher
from common.events import Observer, StepEvent
from tests.client.dp.test_training import build, examples, plan
from tests.tiny_models import save_tiny_model


def test_a_watcher_tells_the_length_of_each_step_by_itself_and_no_gradient(tmp_path: Path) -> None:
    model = build(str(save_tiny_model(tmp_path)))
    data, seen = examples(model, 6), list[StepEvent]()

    class Seen(Observer):
        def on_step(self, event: StepEvent) -> None:
            seen.append(event)

    watcher = Watcher(model, data, plan(steps=2, q=0.5), (Seen(),), started=0.0)
    first = next(iter(model.trainable().values()))
    for step, length in ((1, 3.0), (2, 4.0)):
        with torch.no_grad():
            first.view(-1)[0] += length
        watcher.tell(step, np.array([0, 2]), 0.25)
    assert [round(event.update_norm, 4) for event in seen] == [3.0, 4.0]
    assert [(event.step, event.steps, event.gradient_norm) for event in seen] == [(1, 2, None), (2, 2, None)]
    assert [(event.examples, event.tokens) for event in seen] == [(2, int(data.lengths[[0, 2]].sum()))] * 2
