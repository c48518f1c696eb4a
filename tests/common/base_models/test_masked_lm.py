"""The masked-language-model head: tied, corrected, scored at hidden tokens only, trained privately."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from client.dp.mechanism import DpSettings
from client.dp.noise import FixedNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.losses import example_losses
from common.adapters.tensors import NEW_ROWS, seeded
from common.base_models.load import load_base, load_classifier
from common.base_models.masked_lm import MaskedLanguageModel
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.data.datasets import Dataset, Example
from common.errors import ModelError
from common.evaluation.evaluate import evaluate, evaluate_language_model
from common.evaluation.metrics import TokenCounts, headline, total
from common.tasks import task
from common.tokenization.batches import IGNORED
from common.tokenization.language_modelling import mask_tokens
from tests.reference.per_example import clipped_sum, relative_error
from tests.tiny_models import VOCABULARY, save_tiny_model, shaken, tiny_adapted, tiny_config, tiny_tokenizer

KIND = task("masked_language_modelling")
WORDS = [word for word in VOCABULARY if len(word) > 3 and not word.startswith("[")]


def texts(count: int, words: int = 9, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, words))) for _ in range(count)]


def model_of(path, **adapter) -> AdaptedModel:
    return tiny_adapted(path, which=KIND, labels=0, blocks=2, target_modules="all-linear", **adapter)


def test_scores_of_a_missing_head_are_products_with_the_input_embeddings(tmp_path):
    model = load_classifier(str(save_tiny_model(tmp_path / "m")), 0, head="masked")
    assert not model.has_own_head
    ids = torch.tensor([[3, 6, 7, 4]])
    hidden = model.get_submodule("encoder")(ids).last_hidden_state
    torch.testing.assert_close(model(ids).logits, hidden @ model.encoder.embeddings.word_embeddings.weight.T)


def test_chosen_tokens_get_the_scores_that_they_have_among_all_tokens(tmp_path):
    model = shaken(model_of(tmp_path)).base.model
    assert isinstance(model, MaskedLanguageModel)
    ids = torch.tensor([[3, 6, 7, 4], [3, 8, 4, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    chosen = torch.tensor([[False, True, False, True], [True, False, False, False]])
    torch.testing.assert_close(model(ids, mask, chosen).logits, model(ids, mask).logits[chosen])


def test_after_tie_the_scores_follow_embeddings_that_were_replaced(tmp_path):
    model = load_classifier(str(save_tiny_model(tmp_path / "m")), 0, head="masked")
    assert isinstance(model, MaskedLanguageModel)
    larger = torch.nn.Embedding(len(VOCABULARY) + 5, 32)
    model.encoder.set_input_embeddings(larger)
    model.tie()
    ids = torch.tensor([[3, 6, 7, 4]])
    hidden = model.encoder(ids).last_hidden_state
    torch.testing.assert_close(model(ids).logits, hidden @ larger.weight.T)


def test_a_head_in_the_files_is_used_as_it_is(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole = AutoModelForMaskedLM.from_config(tiny_config("bert", 2, 32)).eval()
    whole.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path), 0, head="masked")
    assert model.has_own_head
    ids = torch.tensor([[3, 6, 7, 4]])
    torch.testing.assert_close(model(ids).logits, whole(ids).logits)


def test_only_hidden_tokens_are_scored_and_their_loss_is_the_full_one(tmp_path):
    model = shaken(model_of(tmp_path))
    tokens = mask_tokens(model.encode(texts(5)), model.base.tokenizer, 0)
    batch = tokens.batch(range(5))
    scores = model.base.model(batch.input_ids, batch.attention_mask).logits
    assert model.logits(batch).shape == (int((batch.labels != IGNORED).sum()), len(VOCABULARY))
    expected = example_losses(scores, batch.labels)
    torch.testing.assert_close(example_losses(model.logits(batch), batch.labels), expected)


def test_per_example_gradients_are_those_of_each_text_alone(tmp_path):
    """One noiseless private step moves the weights by the clipped sum that the slow reference computes."""
    model = shaken(model_of(tmp_path))
    tokens = mask_tokens(model.encode(texts(6)), model.base.tokenizer, 0)
    before = model.export()

    def loss_of(row):
        batch = tokens.batch([row])
        return example_losses(model.logits(batch), batch.labels)[0]

    clip = 0.5
    expected, _ = clipped_sum(model.trainable(), [lambda row=row: loss_of(row) for row in range(6)], clip)
    plan = DpTrainingPlan(
        steps=1,
        sampling_probability=1.0,
        learning_rate=1.0,
        head_learning_rate=1.0,
        optimizer="sgd",
        max_batch_tokens=16,
        dp=DpSettings(
            noise_multiplier=0.0, clipping_norm=clip, sampling_probability=1.0, steps=1, expected_batch_size=len(tokens)
        ),
        seed=0,
    )
    train(model, tokens, plan, FixedNoise(bytes(32)))
    after = model.export()
    moved = {name: torch.from_numpy((before[name] - after[name]) * 6) for name in expected}
    assert relative_error(moved, expected) < 1e-4


@pytest.mark.parametrize("layers", ["last:1", "none"])
def test_from_kept_states_the_loss_is_the_same(tmp_path, layers):
    model = shaken(model_of(tmp_path, layers=layers, **({"trained_factors": "AB"} if layers == "none" else {})))
    tokens = mask_tokens(model.encode(texts(7)), model.base.tokenizer, 0)
    features = model.features(tokens)
    assert features is not None
    plain, kept = evaluate_language_model(model, tokens), evaluate_language_model(model, tokens, features)
    assert plain.tokens == kept.tokens
    assert plain.loss == pytest.approx(kept.loss, rel=1e-5)


def test_perplexity_is_that_of_the_definition_and_parts_add_up(tmp_path):
    model = shaken(model_of(tmp_path))
    dataset = Dataset(tuple(Example(text, 0) for text in texts(9)), (), "texts")
    tokens = model.encode_dataset(dataset)
    logs = []
    for row in range(9):
        batch = tokens.batch([row])
        with torch.no_grad():
            logits = model.base.model(batch.input_ids, batch.attention_mask).logits[0]
        scores = torch.log_softmax(logits.double(), -1)
        logs += [float(scores[place, token]) for place, token in enumerate(batch.labels[0]) if token != IGNORED]
    found = evaluate(model, dataset)
    assert isinstance(found, TokenCounts)
    assert found.perplexity == pytest.approx(math.exp(-np.mean(logs)), rel=1e-5)
    assert total([found, found]).perplexity == pytest.approx(found.perplexity)
    assert headline(found) == {"accuracy": found.accuracy, "perplexity": found.perplexity}


def test_training_lowers_the_perplexity_of_text_it_did_not_see(tmp_path):
    model = model_of(tmp_path, trained_factors="AB")
    pattern = ["profit rises", "loss falls", "bank grew"]
    seen = mask_tokens(model.encode([" ".join(pattern) for _ in range(12)] + texts(12)), model.base.tokenizer, 1)
    unseen = mask_tokens(model.encode([" ".join(pattern) for _ in range(4)]), model.base.tokenizer, 2)
    before = evaluate_language_model(model, unseen).perplexity
    plan = DpTrainingPlan(60, 0.5, 1e-2, 1e-2, "adam", 4096, None, 0)
    train(model, seen, plan, None)
    assert evaluate_language_model(model, unseen).perplexity < before / 4


def test_a_model_without_a_mask_token_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"could not be loaded|no mask token"):
        tiny_adapted(tmp_path, family="llama", which=KIND, labels=0)


def test_an_own_head_scores_with_the_trained_rows_of_new_words_as_it_does_after_merging(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        AutoModelForMaskedLM.from_config(tiny_config("bert", 2, 32)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    base = load_base(ModelConfig(max_tokens=64, base=str(tmp_path)), KIND, 0)
    assert base.model.has_own_head
    cfg = AdapterConfig(
        rank=1, alpha=1, dropout=0.0, layers="last:1", trained_factors="AB", target_modules="all-linear", new_tokens=3
    )
    model = adapt(base, cfg, KIND, seed=1)
    start = model.initial()
    model.load({name: value + 0.3 * seeded(1, name, value.shape) for name, value in start.items()})
    batch = model.encode(["profit rises 9 . - %", "loss falls"]).batch([0, 1])
    trained = model.logits(batch)
    model.load({name: start[name] if NEW_ROWS in name else value for name, value in model.export().items()})
    without = model.logits(batch)
    assert not torch.allclose(trained[..., -3:], without[..., -3:], atol=1e-3)
    model.load({name: value + 0.3 * seeded(1, name, value.shape) for name, value in start.items()})
    with torch.no_grad():
        torch.testing.assert_close(model.merge().model(batch.input_ids, batch.attention_mask).logits, trained)
