"""A private training computes on one thread, and gives the others back."""

from pathlib import Path

import pytest
import torch

from client.dp.noise import FixedNoise
from client.dp.threads import one_thread
from client.dp.training import train
from common.events import Observer, StepEvent
from tests.client.dp.test_training import build, examples, plan
from tests.tiny_models import save_tiny_model


def test_one_thread_computes_inside_and_all_again_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        with pytest.raises(KeyError), one_thread():
            {}["absent"]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("private", "threads"), [(True, 1), (False, 3)])
def test_a_private_training_computes_on_one_thread(tmp_path: Path, private: bool, threads: int) -> None:
    """With several, an example's gradient depended on its place in a block: 7 tokens, MiniLM, two threads."""
    save_tiny_model(tmp_path)
    model, seen, before = build(str(tmp_path)), [], torch.get_num_threads()
    torch.set_num_threads(3)

    class Seen(Observer):
        def on_step(self, event: StepEvent) -> None:
            seen.append(torch.get_num_threads())

    try:
        noise = FixedNoise(b"0" * 32) if private else None
        train(
            model,
            examples(model, 4),
            plan(private=private),
            noise,
            observers=(Seen(),),
        )
        assert set(seen) == {threads}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
