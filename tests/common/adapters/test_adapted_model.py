"""The adapter: the tensors that are trained, those that travel, and that nothing depends on where it was attached."""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.manifest import DESCRIPTION, Manifest, write_manifest
from common.adapters.tensors import seeded
from common.base_models.load import load_base, load_classifier
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.evaluation.evaluate import predict
from common.protocol.adapter_codec import decode, digest, encode
from common.tasks import task
from common.tokenization.batches import Batch
from tests.tiny_models import FAMILIES, shaken, tiny_adapted

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TEXTS = ["profit rises", "net loss of the bank widens in the quarter", "sales flat"]
SEQUENCE, TOKEN = task("sentiment_analysis"), task("financial_ner")


def batch_of(model: AdaptedModel) -> Batch:
    return model.encode(TEXTS, [0, 1, 2]).batch([0, 1, 2])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("pooling", "which", "train", "layers"),
    [
        ("mean", SEQUENCE, "B", "all"),
        ("native", SEQUENCE, "AB", "last:1"),
        ("mean", SEQUENCE, "AB", "none"),
        ("native", TOKEN, "B", "last:2"),
    ],
)
def test_a_saved_adapter_loads_with_peft_alone_and_gives_the_same_logits(
    path: Path, tmp_path: Path, family: str, pooling: Any, which: Any, train: str, layers: str
) -> None:
    if family == "bart" and which is TOKEN:
        pytest.skip("transformers has no token head for BART")
    model = shaken(
        tiny_adapted(path, family=family, pooling=pooling, which=which, trained_factors=train, layers=layers)
    )
    model.save_pretrained(tmp_path / "adapter", {"Accuracy": 0.5})
    base = load_classifier(str(model.base.path), 3, pooling, which.head)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    batch = batch_of(model)
    with torch.no_grad():
        logits = loaded(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        assert torch.equal(logits, model.logits(batch))
    assert logits.abs().max() > 1e-3


def test_the_cards_lines_load_the_model_and_a_second_save_replaces_the_first(path: Path, tmp_path: Path) -> None:
    model = shaken(tiny_adapted(path, layers="last:1"))
    manifest = Manifest.from_record(
        {
            "base_model": str(model.base.path), "pooling": "mean", "max_tokens": 64, "seed": 7,
            "tasks": {"sentiment_analysis": ["negative", "neutral", "positive"]}, "method": "lora", "rank": 2,
            "alpha": 4.0, "dropout": 0.0, "target_modules": "task", "layers": "last:1", "trained_factors": "B",
            "virtual_tokens": 0,
        }
    )  # fmt: skip
    beside = {DESCRIPTION: write_manifest(manifest, model.base.digest, {})}
    model.save_pretrained(tmp_path / "adapter", beside=beside)
    before = {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()}
    model.save_pretrained(tmp_path / "adapter", beside=beside)
    assert {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()} == before
    assert sorted(before) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "fedfin.json"]
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]
    lines = before["README.md"].decode().split("```python\n")[1].split("```")[0]
    assert lines.startswith("import fedfin\n")
    scope: dict[str, Any] = {}
    exec(lines.replace("THIS DIRECTORY", str(tmp_path / "adapter")), scope)  # noqa: S102
    batch, loaded = batch_of(model), scope["model"]
    with torch.no_grad():
        assert torch.equal(loaded.model.logits(batch), model.logits(batch))
    assert loaded.predict(["profit rises"]) == [loaded.labels[predict(model, ["profit rises"])[0]]]


@pytest.mark.parametrize(
    ("pooling", "family", "which"),
    [("mean", "bert", SEQUENCE), ("native", "roberta", SEQUENCE), ("native", "bert", TOKEN)],
)
def test_wire_names_are_pefts_own_and_only_what_is_trained_travels(
    path: Path, pooling: Any, family: str, which: Any
) -> None:
    both = tiny_adapted(path, family=family, pooling=pooling, which=which, trained_factors="AB")
    saved = {name: tuple(value.shape) for name, value in peft.get_peft_model_state_dict(both.module).items()}
    assert {name: shape for name, shape, _ in both.spec.tensors} == saved
    only_b = tiny_adapted(path, family=family, pooling=pooling, which=which, trained_factors="B")
    assert {name for name, _, _ in only_b.spec.tensors} == {name for name in saved if ".lora_A." not in name}
    assert only_b.spec.parameters == only_b.parameters_trained < both.parameters_trained
    heads = {name for name in saved if ".lora_" not in name}
    assert only_b.head_names() == both.head_names() == heads != set()
    assert {name for name, p in only_b.module.named_parameters() if p.requires_grad} == {
        name.replace(".weight", ".default.weight") if ".lora_B." in name else _wrapped(name, only_b)
        for name in only_b.trainable()
    }


def _wrapped(name: str, model: AdaptedModel) -> str:
    head = next(head for head in model.base.head_names if name.startswith(f"base_model.model.{head}."))
    return name.replace(f".{head}.", f".{head}.modules_to_save.default.", 1)


def test_the_start_is_the_same_wherever_it_is_made_and_depends_on_the_seed_alone(path: Path) -> None:
    torch.manual_seed(1)
    one = tiny_adapted(path, trained_factors="AB")
    torch.manual_seed(2)
    other = tiny_adapted(path, trained_factors="AB")
    assert digest(one.initial()) == digest(other.initial()) == digest(one.export())
    frozen, again = tiny_adapted(path, trained_factors="B"), tiny_adapted(path, trained_factors="B")
    assert frozen.base.model is not again.base.model
    assert _factors_a(frozen) == _factors_a(again)
    start = one.initial()
    assert {n: v.tobytes() for n, v in start.items() if ".lora_A." in n} == _factors_a(frozen)
    assert (
        adapt(
            one.release(),
            AdapterConfig(rank=2, alpha=4.0, dropout=0.0, trained_factors="AB", target_modules="task", layers="all"),
            SEQUENCE,
            seed=8,
        )
        .initial()[min(_factors_a(frozen))]
        .tobytes()
        not in _factors_a(frozen).values()
    )


def _factors_a(model: AdaptedModel) -> dict[str, bytes]:
    found = {n: p for n, p in model.module.named_parameters() if ".lora_A." in n}
    return {n.replace(".default.", "."): p.detach().numpy().tobytes() for n, p in found.items()}


def philox4x64(key: tuple[int, int], words: int) -> list[int]:
    """Philox-4x64-10 from its paper (Salmon et al. 2011), in Python's integers. The counter starts at 1 as NumPy's."""
    low, result = 2**64 - 1, list[int]()
    for counter in range(1, words // 4 + 2):
        state, (k0, k1) = (counter, 0, 0, 0), key
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * state[0], 0xCA5A826395121157 * state[2]
            state = ((second >> 64) ^ state[1] ^ k0, second & low, (first >> 64) ^ state[3] ^ k1, first & low)
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
        result += state
    return result[:words]


def test_the_starting_numbers_are_these_on_every_machine() -> None:
    hashed = hashlib.sha256(b"fedfin start|7|a.lora_A.weight").digest()
    key = (int.from_bytes(hashed[:8], "little"), int.from_bytes(hashed[8:16], "little"))
    expected = [float(Fraction((word >> 11) * 2 + 1, 2**53) - 1) for word in philox4x64(key, 6)]
    values = seeded(7, "a.lora_A.weight", (2, 3))
    assert values.shape == (2, 3)
    assert values.ravel().tolist() == pytest.approx(expected, rel=1e-6)
    assert (
        values.tobytes()
        == seeded(7, "a.lora_A.weight", (2, 3)).tobytes()
        != seeded(8, "a.lora_A.weight", (2, 3)).tobytes()
    )
    many = seeded(0, "x", (64, 48))
    assert many.std() == pytest.approx(48**-0.5, rel=0.05)
    assert np.abs(many).max() <= (3 / 48) ** 0.5


def test_the_start_predicts_nothing_and_changes_nothing(path: Path) -> None:
    model = tiny_adapted(path, family="roberta", pooling="native", trained_factors="AB")
    start = model.initial()
    assert all(not value.any() for name, value in start.items() if ".lora_B." in name or ".out_proj." in name)
    assert all(value.any() for name, value in start.items() if ".lora_A." in name or name.endswith("dense.weight"))
    with torch.no_grad():
        assert not model.logits(batch_of(model)).any()


def test_load_then_export_is_the_identity_and_a_foreign_adapter_changes_nothing(path: Path) -> None:
    model = shaken(tiny_adapted(path))
    tensors = model.export()
    assert list(tensors) == sorted(tensors)
    model.load(model.initial())
    model.load(decode(encode(tensors), model.spec))
    assert digest(model.export()) == digest(tensors)
    short = dict(list(model.initial().items())[:-1])
    wide = {name: value[..., :-1] for name, value in model.initial().items()}
    for wrong in (short, wide, {**tensors, "extra": np.zeros(1, np.float32)}):
        with pytest.raises(ModelError, match="adapter"):
            model.load(wrong)
    assert digest(model.export()) == digest(tensors)


def test_an_examples_logits_do_not_depend_on_the_padding_of_its_batch(path: Path) -> None:
    for family in ("bert", "mpnet", "llama"):
        model = shaken(tiny_adapted(path, family=family, pooling="mean"))
        tokens = model.encode(TEXTS)
        with torch.no_grad():
            together = model.logits(tokens.batch([0, 1, 2]))
            alone = torch.cat([model.logits(tokens.batch([row])) for row in range(3)])
        assert torch.allclose(together, alone, atol=1e-5), family


def test_only_loras_dropout_is_ever_on(path: Path) -> None:
    model = shaken(tiny_adapted(path, dropout=0.5))
    batch = batch_of(model)
    with torch.no_grad():
        model.eval_mode()
        still = model.logits(batch)
        model.train_mode(dropout=False)
        assert torch.equal(model.logits(batch), still)
        model.train_mode()
        assert not torch.equal(model.logits(batch), still)
    assert all(model.module.get_submodule(name).training for name in _owners(model))


def _owners(model: AdaptedModel) -> set[str]:
    return {name.rpartition(".")[0] for name, p in model.module.named_parameters() if p.requires_grad}


def test_a_base_carries_one_adapter_at_a_time_and_is_itself_again_after_release(path: Path) -> None:
    model = shaken(tiny_adapted(path))
    config = AdapterConfig(rank=2, alpha=4.0, dropout=0.0, trained_factors="AB", target_modules="task", layers="all")
    with pytest.raises(ModelError, match="release"):
        adapt(model.base, config, SEQUENCE, seed=1)
    batch = batch_of(model)
    clean = load_classifier(str(model.base.path), 3).encoder
    base = model.release()
    with torch.no_grad():
        ids, mask = batch.input_ids, batch.attention_mask
        encoder: Any = base.model.encoder
        assert torch.equal(encoder(ids, mask).last_hidden_state, clean(ids, mask).last_hidden_state)
    again = adapt(base, config, SEQUENCE, seed=7)
    assert digest(again.initial()) == digest(tiny_adapted(path, trained_factors="AB").initial())
    assert not again.logits(batch).any()


def test_a_bfloat16_base_keeps_adapter_and_head_in_float32(path: Path) -> None:
    for pooling in ("mean", "native"):
        directory = tiny_adapted(path).base.path
        base = load_base(
            ModelConfig(max_tokens=64, base=str(directory), pooling=pooling, dtype="bfloat16"), SEQUENCE, 3
        )
        model = shaken(
            adapt(
                base,
                AdapterConfig(rank=2, alpha=4.0, dropout=0.0, trained_factors="B", target_modules="task", layers="all"),
                SEQUENCE,
                seed=7,
            )
        )
        assert {p.dtype for p in model.trainable().values()} == {torch.float32}
        assert next(iter(base.model.parameters())).dtype == torch.bfloat16
        logits = model.logits(batch_of(model))
        assert logits.dtype == torch.float32
        full = shaken(tiny_adapted(path, pooling=pooling)).logits(batch_of(model))
        assert (logits - full).abs().max() < 0.1 * full.abs().max()


def test_the_head_is_counted_once_in_all_parameters(path: Path) -> None:
    model = tiny_adapted(path)
    base = load_base(ModelConfig(base=str(model.base.path), max_tokens=64), SEQUENCE, 3)
    factors = sum(p.numel() for name, p in model.module.named_parameters() if ".lora_" in name)
    assert model.parameters_total == sum(p.numel() for p in base.model.parameters()) + factors


@pytest.mark.encoder
def test_the_packaged_encoder_is_adapted_split_saved_and_loaded(tmp_path: Path) -> None:
    base = load_base(ModelConfig(max_tokens=64), SEQUENCE, 3)
    config = AdapterConfig(
        rank=8, alpha=16.0, dropout=0.0, target_modules="all-linear", layers="last:2", trained_factors="B"
    )
    model = shaken(adapt(base, config, SEQUENCE, seed=1))
    assert model.parameters_trained == 56_451
    tokens = model.encode(["The bank's operating profit rose 12 %.", "It lost EUR 3 mn."])
    features = model.features(tokens)
    assert features is not None
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(load_classifier("minilm", 3), tmp_path / "adapter").eval()
    batch = tokens.batch([0, 1])
    with torch.no_grad():
        logits = model.logits(batch)
        assert torch.equal(loaded(batch.input_ids, batch.attention_mask).logits, logits)
        assert torch.allclose(model.logits(features.batch(tokens, [0, 1])), logits, atol=1e-5)
