"""The training loop on tiny transformers: a step's arithmetic, the units it draws, and the state it leaves."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from client.audit.sensitivity import Neighbours, hostile_adapters, integer_sum, movement
from client.dp.mechanism import DpSettings
from client.dp.noise import FixedNoise, SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.adapters.adapted_model import adapt
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import example_losses
from common.base_models.heads import FEATURE_NORM
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ConfigurationError, DataError, ModelError
from common.events import Observer
from common.tasks import task
from tests.reference.per_example import clipped_sum, customers_clipped_sum, relative_error
from tests.tiny_models import VOCABULARY, save_tiny_model

WORDS = [word for word in VOCABULARY if len(word) > 3 and not word.startswith("[")]
CLASSES = 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = {}

    def get(family, layers=2):
        if (family, layers) not in made:
            made[family, layers] = save_tiny_model(tmp_path_factory.mktemp(family), family, layers=layers, hidden=16)
        return str(made[family, layers])

    return get


def build(path, *, kind="mean", layers="all", trained_factors="B", dropout=0.0, weights=1, dtype="float32"):
    name = "financial_ner" if kind == "token" else "sentiment_analysis"
    pooling = "mean" if kind == "mean" else "native"
    base = load_base(ModelConfig(max_tokens=64, base=path, pooling=pooling, dtype=dtype), task(name), labels=CLASSES)
    cfg = AdapterConfig(
        rank=2,
        alpha=4,
        dropout=dropout,
        target_modules="all-linear",
        layers=layers,
        trained_factors="AB" if layers == "none" else trained_factors,
    )
    model = adapt(base, cfg, task(name), seed=5)
    if weights is not None:
        # Away from the start, where B = 0 and a head of zeros hide most gradients.
        rng = np.random.default_rng(weights)
        model.load({n: rng.normal(size=s).astype(np.float32) * 0.2 for n, s, _ in model.spec.tensors})
    return model


def examples(model, n=20, kind="mean", seed=0):
    rng = np.random.default_rng(seed)
    sentences = [list(rng.choice(WORDS, rng.integers(2, 14))) for _ in range(n)]
    if kind == "token":
        return model.encode_words(sentences, [list(map(int, rng.integers(0, CLASSES, len(s)))) for s in sentences])
    return model.encode([" ".join(s) for s in sentences], [int(label) for label in rng.integers(0, CLASSES, n)])


def plan(
    steps=1, q=1.0, lr=1.0, head_lr=None, optimizer="sgd", tokens=60, sigma=0.0, clip=0.3, seed=0, private=True,
    size=10, **dp_options
):  # fmt: skip
    """`size` is the number of units that sums are divided by, times q. `dp_options` go to `DpSettings`."""
    dp = DpSettings(sigma, clip, q, steps, expected_batch_size=q * size, **dp_options) if private else None
    return DpTrainingPlan(steps, q, lr, lr if head_lr is None else head_lr, optimizer, tokens, dp, seed)


def moved(model, data, given, noise=None, cache=None):
    """The change of each trained tensor by one training from the same weights, which are put back."""
    before = model.export()
    train(model, data, given, noise or (SystemNoise() if given.dp else None), cache=cache)
    after = model.export()
    model.load(before)
    return {name: torch.from_numpy(before[name] - after[name]) for name in after}


def gap(one, other):
    return math.sqrt(sum(float(((one[n] - other[n]).double() ** 2).sum()) for n in one))


def slow(model, data, rows, clip, owners=None):
    """The clipped sum by the reference, on a float64 copy, one unpadded example at a time, all blocks computed."""
    exact = copy.deepcopy(model.module).double()
    for part in exact.modules():
        part._forward_pre_hooks.clear()  # the adapter's cast of the head's input to float32
        if hasattr(part, "pool"):
            part.pool = lambda hidden, mask: FEATURE_NORM * torch.nn.functional.normalize(hidden.mean(1), dim=-1)
    trained = dict(zip(unwired(model), (p for p in exact.parameters() if p.requires_grad), strict=True))

    def loss(row):
        ids = torch.from_numpy(data.input_ids[row])[None]
        logits = exact(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        label = torch.from_numpy(data.labels[row])
        if label.ndim == 0:
            return -torch.log_softmax(logits, -1)[label]
        counted = label != -100
        return -torch.log_softmax(logits, -1)[counted, label[counted]].mean()

    each = [lambda row=row: loss(row) for row in rows]
    return clipped_sum(trained, each, clip) if owners is None else customers_clipped_sum(trained, each, owners, clip)


def unwired(model):
    """Wire names in the order of the module's own parameters."""
    by_id = {id(p): name for name, p in model.trainable().items()}
    return [by_id[id(p)] for p in model.module.parameters() if p.requires_grad]


CASES = [
    ("bert", "mean", "all", "B"),
    ("bert", "mean", "all", "AB"),
    ("bert", "mean", "last:1", "B"),
    ("bert", "mean", "last:1", "AB"),
    ("bert", "mean", "none", "AB"),
    ("bert", "native", "last:1", "B"),
    ("bert", "token", "all", "B"),
    ("bert", "token", "last:1", "AB"),
    ("roberta", "mean", "last:1", "B"),
    ("llama", "native", "all", "B"),
    ("llama", "native", "all", "AB"),
    ("llama", "native", "last:1", "B"),
]


@pytest.mark.parametrize(("family", "kind", "layers", "factors"), CASES)
def test_the_clipped_sum_is_the_slow_per_example_loop(saved, family, kind, layers, factors):
    model = build(saved(family), kind=kind, layers=layers, trained_factors=factors)
    data = examples(model, 12, kind)
    rows = np.flatnonzero(FixedNoise(b"rows").uniform_mask(12, 0.6))
    _, norms = slow(model, data, rows, 1.0)
    clip = float(np.median(norms))
    expected, _ = slow(model, data, rows, clip)
    found = moved(model, data, plan(q=0.6, clip=clip, size=11), FixedNoise(b"rows"))
    assert relative_error(found, {n: total / (0.6 * 11) for n, total in expected.items()}) < 1e-5


@pytest.mark.parametrize("kind", ["mean", "token"])
def test_the_frozen_blocks_are_computed_once_and_change_nothing(saved, kind):
    model = build(saved("bert"), kind=kind, layers="last:1")
    data, cache = examples(model, 15, kind), FeatureCache()
    first = moved(model, data, plan(), cache=cache)
    calls = []
    handle = model.base.model.get_submodule(
        "encoder.encoder.layer.0" if kind == "mean" else "bert.encoder.layer.0"
    ).register_forward_hook(lambda *_: calls.append(1))
    again = moved(model, data, plan(steps=3), cache=cache)
    handle.remove()
    assert len(calls) <= 1, "only the public probe sentences pass through the frozen block again"
    assert set(again) == set(first)


def test_a_cache_of_other_examples_is_refused(saved):
    model = build(saved("bert"), layers="last:1")
    cache = FeatureCache()
    moved(model, examples(model, 4), plan(), cache=cache)
    with pytest.raises(ConfigurationError, match="prefix cache"):
        moved(model, examples(model, 4, seed=1), plan(), cache=cache)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("tokens", [1, 33, 10_000])
def test_how_a_batch_is_split_physically_changes_nothing(saved, private, tokens):
    model = build(saved("bert"))
    data = examples(model)
    whole = moved(model, data, plan(tokens=100_000, private=private))
    split = moved(model, data, plan(tokens=tokens, private=private))
    assert gap(whole, split) < 1e-5 * max(gap(whole, dict.fromkeys(whole, torch.zeros(1))), 1e-3)


@pytest.mark.parametrize(("kind", "dropout"), [("mean", 0.0), ("token", 0.0), ("mean", 0.5)])
def test_adding_one_record_moves_a_step_by_at_most_the_clipping_norm(saved, kind, dropout):
    # An adapter that was begun without privacy may bring dropout with it.
    model = build(saved("bert"), kind=kind, dropout=dropout)
    data = examples(model, 8, kind)
    for left_out in range(8):
        keep = [row for row in range(8) if row != left_out]
        without = replace(
            data,
            input_ids=tuple(data.input_ids[i] for i in keep),
            labels=tuple(data.labels[i] for i in keep),
        )
        full, less = (moved(model, each, plan(clip=0.05)) for each in (data, without))
        distance = 10 * gap(full, less)
        assert distance <= 0.05 * (1 + 1e-4)


def owned(model, customers=6, n=20):
    """Examples dealt out to customers at random, so that theirs are not neighbours."""
    whose = np.random.default_rng(4).integers(0, customers, n)
    return replace(examples(model, n), owners=whose)


@pytest.mark.parametrize("tokens", [1, 33, 10_000])
@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_customers_are_clipped_as_the_slow_loop_does_however_the_batch_is_split(saved, tokens, layers):
    model = build(saved("bert"), layers=layers)
    data = owned(model)
    drawn = np.flatnonzero(FixedNoise(b"who").uniform_mask(6, 0.5))
    rows = np.flatnonzero(np.isin(data.owners, drawn))
    assert 1 < len(drawn) < 6
    owners = data.owners[rows].tolist()
    clip = float(np.mean(slow(model, data, rows, 1.0, owners)[1]))  # so that some are clipped and others are not
    expected, _ = slow(model, data, rows, clip, owners)
    given = plan(q=0.5, clip=clip, tokens=tokens, size=8, unit="customer")
    found = moved(model, data, given, FixedNoise(b"who"))
    assert relative_error(found, {n: total / (0.5 * 8) for n, total in expected.items()}) < 1e-5


def test_adding_one_customer_moves_a_step_by_at_most_the_clipping_norm(saved):
    model = build(saved("bert"))
    data, given = owned(model), plan(clip=0.05, unit="customer")
    full = moved(model, data, given)
    for customer in range(6):
        keep = np.flatnonzero(data.owners != customer)
        without = replace(
            data,
            input_ids=tuple(data.input_ids[i] for i in keep),
            labels=tuple(data.labels[i] for i in keep),
            owners=data.owners[keep],
        )
        assert 0.01 < 10 * gap(full, moved(model, without, given)) <= 0.05 * (1 + 1e-4)


def test_every_customer_is_drawn_with_the_accounted_probability_and_with_all_its_rows(saved):
    model = build(saved("bert", 1), layers="none")
    data = replace(examples(model, 120), owners=np.repeat(np.arange(40), 3)[::-1].copy())
    stats_ = train(model, data, plan(steps=80, q=0.07, lr=0.0, tokens=4096, unit="customer"), SystemNoise())
    assert all(drawn % 3 == 0 for drawn in stats_.examples_drawn)
    assert stats.binomtest(sum(stats_.examples_drawn) // 3, 80 * 40, 0.07).pvalue > 1e-6


def test_rows_without_customers_cannot_be_trained_by_customer(saved):
    model = build(saved("bert", 1), layers="none")
    with pytest.raises(DataError, match="carry no customer"):
        train(model, examples(model, 4), plan(unit="customer"), SystemNoise())


@pytest.mark.parametrize("rows", [3, 60])
def test_the_number_of_records_shows_in_nothing_but_the_sum(saved, rows):
    """Else the scale of the noise would give it away: here every row contributes exactly nothing."""
    model = build(saved("bert", 1), layers="none")
    data, given = examples(model, rows), plan(q=1e-9, sigma=1.0)
    values = np.concatenate([v.numpy().ravel() for v in moved(model, data, given, FixedNoise(b"n")).values()])
    assert np.std(values) == pytest.approx(0.3 / 1e-8, rel=0.4)


def test_every_record_is_drawn_with_the_accounted_probability(saved):
    model = build(saved("bert", 1), layers="none")
    data = examples(model, 100)
    stats_ = train(model, data, plan(steps=60, q=0.07, lr=0.0, tokens=4096), SystemNoise())
    assert stats.binomtest(sum(stats_.examples_drawn), 6000, 0.07).pvalue > 1e-6
    # Poisson sampling lets the batch size vary as a binomial does: a fixed size would have variance 0.
    assert np.var(stats_.examples_drawn) > 0.4 * 100 * 0.07 * 0.93


def test_a_step_without_any_record_still_adds_noise(saved):
    model = build(saved("bert", 1), layers="none")
    data, before = examples(model, 3), model.export()
    stats_ = train(model, data, plan(steps=4, q=1e-9, sigma=1.0), SystemNoise())
    assert stats_.examples_drawn == (0, 0, 0, 0)
    change = np.concatenate([(model.export()[n] - before[n]).ravel() for n in before]) * (1e-8) / (0.3 * math.sqrt(4))
    assert stats.kstest(change, "norm").pvalue > 1e-6


def test_each_step_of_a_training_draws_noise_of_its_own(saved):
    model = build(saved("bert"))
    seen = [model.export()]

    class Exports(Observer):
        def on_step(self, event):
            seen.append(model.export())

    train(model, examples(model, 3), plan(steps=3, q=1e-9, sigma=1.0), SystemNoise(), observers=(Exports(),))
    moves = [np.concatenate([(b[n].astype(float) - a[n]).ravel() for n in a]) for a, b in itertools.pairwise(seen)]
    found = np.corrcoef(moves) - np.eye(3)
    assert np.abs(found).max() < 6 / math.sqrt(moves[0].size)


def test_the_noise_of_a_training_has_the_accounted_scale(saved):
    model = build(saved("bert"))
    data = examples(model, 10)
    silent = moved(model, data, plan())
    values = []
    for _ in range(8):
        noisy = moved(model, data, plan(sigma=1.3))
        values += [((noisy[n] - silent[n]) * 10 / (1.3 * 0.3)).numpy().ravel() for n in silent]
    found = np.concatenate(values)
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / len(found))
    assert stats.kstest(found, "norm").statistic < critical
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(found * wrong, "norm").statistic > critical


def test_two_private_trainings_never_share_their_noise_and_fixed_ones_repeat(saved):
    model = build(saved("bert", 1), layers="none")
    data = examples(model, 10)
    assert gap(moved(model, data, plan(sigma=1.0)), moved(model, data, plan(sigma=1.0))) > 0
    fixed = [moved(model, data, plan(sigma=1.0, q=0.5), FixedNoise(b"s")) for _ in range(2)]
    assert gap(*fixed) == 0


def test_the_head_has_a_learning_rate_of_its_own(saved):
    model = build(saved("bert"))
    data = examples(model)
    one, other = moved(model, data, plan(lr=1.0)), moved(model, data, plan(lr=1.0, head_lr=7.0))
    for name in one:
        factor = 7.0 if name in model.head_names() else 1.0
        torch.testing.assert_close(other[name], factor * one[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("private", [True, False])
def test_training_learns_and_begins_each_time_without_a_past(saved, optimizer, private):
    model = build(saved("bert"), weights=None)
    data = examples(model, 16)
    lr = 0.5 if optimizer == "sgd" else 0.05
    given = plan(steps=25, lr=lr, optimizer=optimizer, private=private, clip=2.0, tokens=4096)
    before = model.export()
    losses = []
    for _ in range(2):
        model.load(before)
        losses.append(train(model, data, given, FixedNoise(b"x") if private else None).loss)
    assert min(losses[0]) < 0.85 * losses[0][0]
    assert losses[0] == losses[1]


def test_without_privacy_every_row_is_used_before_any_is_used_again(saved):
    model = build(saved("bert", 1), layers="none")
    data = examples(model, 10)
    stats_ = train(model, data, plan(steps=5, q=0.4, private=False), None)
    assert stats_.examples_drawn == (4,) * 5
    assert stats_.clip_fraction == (0.0,) * 5


def test_without_privacy_a_step_is_autograds_mean_over_the_minibatch(saved):
    model = build(saved("bert"))
    data = examples(model, 9)
    expected, _ = slow(model, data, range(9), 1e9)
    found = moved(model, data, plan(private=False))
    assert relative_error(found, {n: total / 9 for n, total in expected.items()}) < 1e-5


def test_one_model_serves_the_next_institution_as_if_it_were_the_first(saved):
    fresh, used = build(saved("bert"), layers="last:1"), build(saved("bert"), layers="last:1")
    start = used.export()
    train(used, examples(used, 12, seed=3), plan(steps=2, sigma=1.0, optimizer="adam"), SystemNoise())
    used.load(start)
    for part in used.module.modules():
        assert not part._backward_hooks
        assert not {"activations", "max_batch_len", "autograd_grad_sample_hooks"} & set(vars(part))
        assert not part.training
    for parameter in used.module.parameters():
        assert parameter.grad is None
        assert not {"grad_sample", "summed_grad", "_forward_counter"} & set(vars(parameter))
    with torch.no_grad():
        batch = examples(fresh).batch(range(5))
        assert torch.equal(fresh.logits(batch), used.logits(batch))
    data = examples(fresh)
    assert gap(moved(fresh, data, plan()), moved(used, data, plan())) == 0
    assert gap(moved(fresh, data, plan(private=False)), moved(used, data, plan(private=False))) == 0


def test_training_leaves_torchs_own_generator_alone(saved):
    model = build(saved("bert"), dropout=0.1)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    moved(model, examples(model), plan(private=False))
    assert torch.equal(torch.rand(3), expected)


def test_a_trainable_parameter_outside_the_adapter_stops_the_training_at_its_start(saved):
    model = build(saved("bert"))
    norm = next(m for m in model.module.modules() if isinstance(m, torch.nn.LayerNorm))
    norm.weight.requires_grad_(True)
    before = model.export()
    with pytest.raises(ModelError, match="not held by the optimiser"):
        train(model, examples(model), plan(), SystemNoise())
    assert all((before[n] == v).all() for n, v in model.export().items())


def test_an_example_whose_gradient_depends_on_its_padding_stops_the_training_at_its_start(saved, monkeypatch):
    model = build(saved("bert"))
    monkeypatch.setattr(model.base.model, "pool", lambda hidden, _: hidden.mean(1))
    before = model.export()
    with pytest.raises(ModelError, match="depends on the rest of the batch"):
        train(model, examples(model), plan(), SystemNoise())
    assert all(np.array_equal(before[name], value) for name, value in model.export().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", ["all", "last:1", "none"])
def test_a_long_record_moves_no_other_records_gradient(saved, layers, dtype):
    """Here the model shows the padded length in its output, as rounding does in a large model."""
    model = build(saved("bert"), layers=layers, dtype=dtype)
    model.base.model.encoder.embeddings.register_forward_hook(lambda _, __, output: output * (1 + output.shape[1] / 8))
    short, long = examples(model, 30), model.encode([" ".join(WORDS[:40])], [0])
    both = replace(short, input_ids=short.input_ids + long.input_ids, labels=short.labels + long.labels)
    sums = [
        integer_sum(model, data, np.arange(len(data)), plan(clip=0.05, tokens=10_000), FeatureCache())
        for data in (both, short, long)
    ]
    assert np.array_equal(sums[0], sums[1] + sums[2])


@pytest.mark.parametrize("layers", ["last:1", "none"])
def test_frozen_features_are_computed_at_a_length_that_follows_from_the_record(saved, layers):
    """Here the frozen layers show the padded length in their output, as rounding does in a large model."""
    model = build(saved("bert"), layers=layers)
    model.base.model.encoder.embeddings.register_forward_hook(lambda _, __, output: output * (1 + output.shape[1]))
    short, long = examples(model, 30), model.encode([" ".join(WORDS[:40])], [0])
    both = replace(short, input_ids=short.input_ids + long.input_ids, labels=short.labels + long.labels)
    alone = model.features(short).values
    assert torch.equal(model.features(both).values[: len(alone)], alone)


@pytest.mark.parametrize("layers", ["all", "last:1", "none"])
def test_at_hostile_adapters_a_record_moves_the_integer_sum_by_at_most_the_clip_and_undrawn_by_nothing(saved, layers):
    model = build(saved("bert"), layers=layers)
    data = replace(examples(model, 24), owners=np.arange(24))
    rng = np.random.default_rng(8)
    kinds = set()
    for kind, adapter in itertools.islice(hostile_adapters(model, data, rng), 24):
        kinds.add(kind)
        model.load(adapter)
        drawn, undrawn = movement(model, Neighbours.of(data, int(rng.integers(24))), plan(clip=0.3, tokens=4096))
        assert drawn <= 1, kind
        assert undrawn == 0, kind
    assert ("overflow at padding alone" in kinds) is (layers != "none")


def test_a_token_examples_loss_is_its_own_mean_and_ignores_padding():
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, -100, -100], [2, 2, 1, 0]])
    found = example_losses(logits, labels)
    log = torch.log_softmax(logits, -1)
    assert float(found[0]) == pytest.approx(-float(log[0, 0, 0] + log[0, 1, 1]) / 2, rel=1e-5)
    assert float(example_losses(logits[:1], torch.full((1, 4), -100))[0]) == 0.0


def test_progress_is_reported_after_every_step(saved):
    model = build(saved("bert", 1), layers="none")
    seen = []

    class Seen(Observer):
        def on_step(self, event):
            seen.append((event.step, event.steps))

    train(model, examples(model, 4), plan(steps=3), SystemNoise(), observers=(Seen(),))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_bad_requests_are_refused_before_anything_is_trained(saved):
    model = build(saved("bert", 1), layers="none")
    data = examples(model, 4)
    with pytest.raises(ConfigurationError, match="noise source"):
        train(model, data, plan(), None)
    with pytest.raises(ConfigurationError, match="noise source"):
        train(model, data, plan(private=False), SystemNoise())
    with pytest.raises(DataError, match="no labelled example"):
        train(model, replace(data, input_ids=(), labels=()), plan(private=False), None)
    with pytest.raises(DataError, match="no labelled example"):
        train(model, replace(data, labels=None), plan(), SystemNoise())


@pytest.mark.parametrize(
    "wrong",
    [
        {"adam_noise_correction": True},
        {"optimizer": "lion"},
        {"steps": 0},
        {"sampling_probability": 0.0},
        {"sampling_probability": 0.5},
        {"steps": 2},
    ],
)
def test_a_plan_that_is_not_what_is_accounted_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="training"):
        replace(plan(), **wrong)
