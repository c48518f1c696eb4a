"""A whole run with each personal part, at one institution: what is charged, what travels, and what stays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.agent import Agent, LocalModel
from client.federation.local_round import PreparedData
from client.institution.config import PersonalConfig
from client.institution.paths import InstitutionPaths
from client.personalisation.methods import After, Proximal
from client.personalisation.part import PersonalPart
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.manifest import read_manifest, unprotected
from common.adapters.travelling import travelling, travelling_spec
from common.config.run import RunConfig, parse_run
from common.data.datasets import Dataset
from common.events import Stopping
from common.identity.keys import PrivateKeys
from common.privacy.accounting import epsilon
from common.privacy.charges import Charge, read_charges
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import Tensors, decode, encode
from common.protocol.envelope import MessageContext, open_sealed, peek, seal
from common.protocol.messages import Assignment, Contribution, Receipt, Refusal, RefusalCode
from common.source import code_digest
from tests.client.institution.example_config import institution_config
from tests.tiny_models import tiny_adapted

HUB, BANK = PrivateKeys.generate("hub"), PrivateKeys.generate("bank")
RUN, ROUNDS, RECORDS, TARGET = "run 1", 2, 1024, 4.0
LABELS = ("negative", "neutral", "positive")
METHODS: dict[str, dict[str, Any]] = {
    "prior": {"method": "prior"},
    "head": {"method": "head"},
    "proximal": {"method": "proximal", "proximal_weight": 1.0},
    "after": {"method": "after", "steps": 3},
}
UNNOISED = {"method": "after", "steps": 3, "without_noise": True}


def config(**personal: Any) -> RunConfig:
    return parse_run(
        {
            "run": {"name": "tiny", "seed": 3, "rounds": ROUNDS},
            "task": {"name": "sentiment_analysis"},
            "adapter": {"rank": 2, "alpha": 4, "dropout": 0.0, "layers": "last:1", "trained_factors": "B"},
            "training": {"local_steps": 2, "sampling_rate": 0.02, "learning_rate": 0.5},
            "privacy": {"mode": "target", "target_epsilon": TARGET, "clipping_norm": 0.5, "delta": 1e-5},
            "personalisation": personal,
        },
        "test",
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    model = tiny_adapted(tmp_path_factory.mktemp("model"), blocks=2, target_modules="all-linear", layers="last:1")
    texts = [f"{('loss', 'market', 'profit')[n % 3]} of bank {n % 7}" for n in range(RECORDS)]
    # Nine rows in ten are negative here.
    labels = [n % 3 if n % 10 == 0 else 0 for n in range(RECORDS)]
    data = PreparedData(model.encode(texts, labels), "f" * 64, FeatureCache())
    test = Dataset.of(texts[:40], [LABELS[label] for label in labels[:40]], known=LABELS)
    return LocalModel(model, data, "b" * 64, LABELS, test)


class Bank:
    """An institution that allows every personal part, with a hub that sends each round's adapter back."""

    def __init__(
        self, directory: Path, local: LocalModel, run: RunConfig, noise: Any = "fixed", **officer: Any
    ) -> None:
        allowed = PersonalConfig(**{"allowed": tuple(METHODS), "allow_without_noise": True} | officer)
        settings = institution_config("bank", declared_units=RECORDS, personalisation=allowed, noise=noise)
        PrivacyLedger.open(directory / "ledger.jsonl", BANK).close()
        self.directory, self.local, self.run = directory, local, run
        self.agent = Agent(directory, settings, BANK, HUB.public, lambda _: local)
        self.shared = travelling(local.adapted.initial(), local.adapted, run)
        self.payloads: list[bytes] = []

    @property
    def part(self) -> PersonalPart:
        return PersonalPart(InstitutionPaths(self.directory).personal(RUN))

    def charges(self) -> tuple[Charge, ...]:
        return read_charges(self.directory / "ledger.jsonl", BANK.public)

    def ask(self, round_: int) -> Contribution | Receipt | Refusal:
        spec = travelling_spec(self.local.adapted, self.run)
        question = Assignment(RUN, round_, self.run.to_json(), spec.to_json(), encode(self.shared), code_digest())
        context = MessageContext(RUN, round_, "assignment", "hub", "bank")
        answer = self.agent.handle(seal(question.to_bytes(), HUB, BANK.public, context))
        place = peek(answer)
        payload = open_sealed(
            answer, HUB, BANK.public, replace(context, kind=place.kind, sender="bank", recipient="hub")
        )
        self.payloads.append(payload)
        kinds: dict[str, Any] = {"contribution": Contribution, "receipt": Receipt, "refusal": Refusal}
        message: Contribution | Receipt | Refusal = kinds[place.kind].from_bytes(payload)
        if isinstance(message, Contribution):
            self.shared = decode(message.adapter, spec)
        return message

    def finish(self) -> None:
        for round_ in range(1, ROUNDS + 1):
            assert isinstance(self.ask(round_), Contribution)
        assert isinstance(self.ask(ROUNDS + 1), Receipt)


def own_numbers(tensors: Tensors) -> set[bytes]:
    """The bytes of each two numbers that stand beside each other and are not zero. One alone may occur by chance."""
    flat = [np.ravel(tensor) for tensor in tensors.values()]
    return {row[at : at + 2].tobytes() for row in flat for at in range(len(row) - 1) if row[at : at + 2].all()}


def model_of(bank: Bank) -> Tensors:
    """The personal model, as it was saved."""
    from safetensors.numpy import load_file

    saved = load_file(bank.part.directory / "adapter" / "adapter_model.safetensors")
    return {name: saved[name] for name, _, _ in bank.local.adapted.spec.tensors}


@pytest.mark.parametrize("personal", [*METHODS.values(), UNNOISED], ids=[*METHODS, "after-unnoised"])
def test_the_whole_run_stays_within_its_target_and_every_private_step_is_charged(
    tmp_path: Path, local: LocalModel, personal: dict[str, Any]
) -> None:
    bank = Bank(tmp_path, local, config(**personal))
    bank.finish()
    charges = bank.charges()
    further = 3 if personal == METHODS["after"] else 0
    assert sum(charge.event.steps for charge in charges) == 2 * ROUNDS + further
    assert all(charge.steps_done == charge.event.steps for charge in charges)
    spent = epsilon([charge.event for charge in charges], 1e-5)
    assert TARGET * 0.97 < spent <= TARGET


@pytest.mark.parametrize("personal", [*METHODS.values(), UNNOISED], ids=[*METHODS, "after-unnoised"])
def test_no_number_of_the_personal_part_is_in_any_message(
    tmp_path: Path, local: LocalModel, personal: dict[str, Any]
) -> None:
    bank = Bank(tmp_path, local, config(**personal))
    bank.finish()
    spec, travelled = travelling_spec(local.adapted, bank.run), set[bytes]()
    for payload in bank.payloads[:ROUNDS]:
        travelled |= own_numbers(decode(Contribution.from_bytes(payload).adapter, spec))
    stays = own_numbers(model_of(bank)) | own_numbers(bank.part.before(ROUNDS + 1))
    differing = stays - travelled
    assert differing, "the personal model is the global one"
    for number in differing:
        assert all(number not in payload for payload in bank.payloads)
    if personal["method"] == "head":
        heads = local.adapted.head_names()
        assert heads <= set(bank.part.before(ROUNDS + 1))
        assert not any(name.encode() in payload for name in heads for payload in bank.payloads)


def test_a_receipt_holds_nothing_but_its_place(tmp_path: Path, local: LocalModel) -> None:
    bank = Bank(tmp_path, local, config(**METHODS["prior"]))
    bank.finish()
    assert bank.payloads[-1] == Receipt(RUN, ROUNDS + 1).to_bytes()


@pytest.mark.parametrize(("method", "noised"), [("prior", False), ("head", True), ("proximal", True), ("after", True)])
def test_a_part_without_noise_is_marked_and_its_model_counts_as_unprotected(
    tmp_path: Path, local: LocalModel, method: str, noised: bool
) -> None:
    bank = Bank(tmp_path, local, config(**METHODS[method]), noise="system")
    bank.finish()
    record = bank.part.record()
    assert record is not None
    assert (record.method, record.noised, record.finished) == (method, noised, True)
    assert unprotected(read_manifest(bank.part.directory)[2]) is not noised


def test_a_model_with_fixed_noise_counts_as_unprotected(tmp_path: Path, local: LocalModel) -> None:
    bank = Bank(tmp_path, local, config(**METHODS["proximal"]))
    bank.finish()
    assert unprotected(read_manifest(bank.part.directory)[2])


def test_each_institution_sees_its_own_figures_and_sends_none(tmp_path: Path, local: LocalModel) -> None:
    bank = Bank(tmp_path, local, config(**METHODS["prior"]))
    bank.finish()
    record = bank.part.record()
    assert record is not None
    # Nine rows in ten are negative, and the tiny model knows nothing else.
    assert record.metrics_personal["accuracy"] >= 0.9
    assert set(record.metrics_shared) == set(record.metrics_personal)
    assert str(RECORDS) not in (bank.part.directory / "record.json").read_text()


@pytest.mark.parametrize(
    ("personal", "officer", "code"),
    [
        (METHODS["prior"], {"allowed": ("after",)}, RefusalCode.CONFIG),
        (METHODS["prior"], {"allow_without_noise": False}, RefusalCode.PRIVACY_LIMIT),
        (UNNOISED, {"allow_without_noise": False}, RefusalCode.PRIVACY_LIMIT),
        (METHODS["proximal"], {"allowed": ()}, RefusalCode.CONFIG),
    ],
)
def test_what_the_officer_has_not_allowed_is_refused_before_a_charge(
    tmp_path: Path, local: LocalModel, personal: dict[str, Any], officer: dict[str, Any], code: RefusalCode
) -> None:
    bank = Bank(tmp_path, local, config(**personal), **officer)
    assert bank.ask(1) == Refusal(RUN, 1, code)
    assert bank.charges() == ()
    assert not bank.part.directory.exists() or bank.part.record() is not None


def test_a_run_without_a_personal_part_has_no_round_after_the_last(tmp_path: Path, local: LocalModel) -> None:
    bank = Bank(tmp_path, local, config())
    for round_ in range(1, ROUNDS + 1):
        assert isinstance(bank.ask(round_), Contribution)
    assert bank.ask(ROUNDS + 1) == Refusal(RUN, ROUNDS + 1, RefusalCode.CONFIG)


def test_further_steps_that_do_not_fit_leave_the_global_model_and_the_same_receipt(
    tmp_path: Path, local: LocalModel
) -> None:
    bank = Bank(tmp_path, local, config(**METHODS["after"]))
    for round_ in range(1, ROUNDS + 1):
        bank.ask(round_)
    shared = {name: value.copy() for name, value in bank.shared.items()}
    spent = epsilon([charge.event for charge in bank.charges()], 1e-5)
    limits = replace(bank.agent.institution.limits, max_epsilon=spent * 1.001, delta=1e-5)
    bank.agent.institution = replace(bank.agent.institution, limits=limits)
    assert bank.ask(ROUNDS + 1) == Receipt(RUN, ROUNDS + 1)
    record = bank.part.record()
    assert record is not None
    assert (record.steps, bool(record.refused)) == (0, True)
    assert len(bank.charges()) == ROUNDS
    for name, value in model_of(bank).items():
        np.testing.assert_array_equal(value, shared[name])


@pytest.mark.parametrize("personal", [*METHODS.values(), UNNOISED], ids=[*METHODS, "after-unnoised"])
def test_without_a_single_row_the_answers_are_the_same(
    tmp_path: Path, local: LocalModel, personal: dict[str, Any]
) -> None:
    """Rows with other labels than the run's are left out, so a hub could otherwise ask for labels one by one."""
    empty = PreparedData(replace(local.data.tokens, input_ids=(), labels=()), "f" * 64, FeatureCache())
    Bank(tmp_path, replace(local, data=empty), config(**personal)).finish()


def test_the_receipt_is_the_same_if_the_personal_model_cannot_be_made(
    tmp_path: Path, local: LocalModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of any kind may depend on the rows. Its text may quote one. Only an agent that stops gives no answer."""
    bank = Bank(tmp_path, local, config(**METHODS["after"]))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(After, "finish", fail)
    error: Exception = Stopping()
    with pytest.raises(Stopping):
        bank.ask(ROUNDS + 1)
    error = ValueError("profit of bank 3")
    assert bank.ask(ROUNDS + 1) == Receipt(RUN, ROUNDS + 1)
    assert "ValueError" in caplog.text
    assert "bank 3" not in caplog.text


@pytest.mark.parametrize("method", ["head", "proximal"])
def test_a_round_that_is_cut_before_its_answer_starts_again_from_the_same_own_tensors(
    tmp_path: Path, local: LocalModel, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fixed noise the second attempt repeats the first, so the whole run equals the uncut one."""
    uncut = Bank(tmp_path / "uncut", local, config(**METHODS[method]))
    uncut.finish()
    cut = Bank(tmp_path / "cut", local, config(**METHODS[method]))
    cut.ask(1)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Contribution, "to_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            cut.ask(2)
    assert isinstance(cut.ask(2), Contribution)
    assert isinstance(cut.ask(3), Receipt)
    for name, value in model_of(uncut).items():
        np.testing.assert_array_equal(model_of(cut)[name], value)


def test_with_equal_weights_the_global_adapter_moves_as_the_mean_of_the_own_ones() -> None:
    """MR-MTL's global model is the mean of the own models. Two institutions, two rounds, by hand."""
    draw = np.random.default_rng(0)
    method = Proximal(0.5)
    shared: Tensors = {"w": draw.normal(size=4).astype(np.float32)}
    own: list[Tensors] = [{}, {}]
    for _ in range(3):
        sent = []
        for place in (0, 1):
            started = method.receive(shared, own[place])
            trained = {"w": started["w"] + draw.normal(size=4).astype(np.float32)}
            travels, own[place] = method.send(shared, started, trained)
            sent.append(travels["w"])
        shared = {"w": np.mean(sent, axis=0).astype(np.float32)}
        np.testing.assert_allclose(shared["w"], np.mean([each["w"] for each in own], axis=0), atol=1e-5)


def test_a_weight_of_nothing_never_pulls_and_a_large_one_is_the_global_adapter() -> None:
    shared, own = {"w": np.zeros(3, np.float32)}, {"w": np.ones(3, np.float32)}
    np.testing.assert_array_equal(Proximal(0.0).receive(shared, own)["w"], own["w"])
    np.testing.assert_allclose(Proximal(1e6).receive(shared, own)["w"], shared["w"], atol=2e-6)


def test_the_heads_of_a_model_are_the_only_tensors_that_stay(local: LocalModel) -> None:
    model: AdaptedModel = local.adapted
    names = {name for name, _, _ in travelling_spec(model, config(**METHODS["head"])).tensors}
    assert names == set(model.trainable()) - model.head_names()
    assert travelling_spec(model, config()) == model.spec
