"""The examples of the checks are ordinary tokens of the asked lengths, with labels of the model's kind."""

from pathlib import Path

import numpy as np

from client.dp.random_examples import random_examples
from tests.client.dp.test_training import build
from tests.tiny_models import save_tiny_model


def test_random_examples_have_the_asked_lengths_and_ordinary_tokens(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    model = build(str(tmp_path))
    made = random_examples(model, [5, 9, 1], np.random.default_rng(0))
    special = model.base.tokenizer.all_special_ids
    assert made.lengths.tolist() == [5, 9, 3]  # the frame and one token between
    for ids in made.input_ids:
        assert np.isin(ids, special).tolist() == [True, *[False] * (len(ids) - 2), True]
    assert made.labels is not None
    assert all(0 <= int(label) < model.base.labels for label in made.labels)
