"""The commands of fine-tuning alone: finetune, predict, evaluate, merge, and the ledger that pays."""

import io
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from client.commands import evaluate, finetune, merge, predict
from client.inference.predictor import Predictor
from client.inspection import look
from client.institution.directory import InstitutionDirectory
from client.tracking.progress_bar import ProgressBar
from common.adapters.restore import load_adapter
from common.base_models.provenance import refuse_private_base
from common.data.datasets import Dataset, Example, ResponseExample, TokenExample
from common.errors import ConfigurationError
from common.events import EpochEvent
from common.privacy.ledger import PrivacyLedger
from common.tasks import TASKS
from common.tokenization.batches import Batch
from tests.client.commands.institution_commands import command_line
from tests.client.finetune.example_data import TinyModels, dataset
from tests.tiny_models import soften_attention

main = command_line(evaluate.add, finetune.add, merge.add, predict.add)

SENTIMENT, NER, SUMMARY = "sentiment_analysis", "financial_ner", "document_summarization"
TEXTS = ["profit rises strong", "net loss of the bank widens"]


def write(path: Path, rows: Dataset) -> Path:
    """As an institution would hold them: CSV, or CoNLL if words are labelled."""
    lines = []
    for example in rows.examples:
        if isinstance(example, TokenExample):
            tags = [rows.labels[tag] for tag in example.labels]
            lines += [f"{word} {tag}" for word, tag in zip(example.words, tags, strict=True)] + [""]
        elif isinstance(example, Example):
            lines.append(f"{example.text},{rows.labels[example.label]}")
        elif isinstance(example, ResponseExample):
            lines.append(f"{example.text},{example.response}")
    head = {"Example": ["text,label"], "ResponseExample": ["text,summary"]}
    path.write_text("\n".join([*head.get(type(rows.examples[0]).__name__, []), *lines, ""]))
    return path


class Desk:
    """A directory with rows of three tasks and tiny models, where commands are run."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.models = directory, TinyModels(directory / "models")
        for name in (SENTIMENT, NER, SUMMARY):
            for seed, part in enumerate(("train", "test", "later", "later-test"), start=1):
                write(self.path(name, part), dataset(name, 64 if seed % 2 else 16, seed))

    def path(self, task: str, part: str) -> Path:
        return self.directory / f"{task}-{part}.{'txt' if TASKS[task].head.labels_words else 'csv'}"

    def rows(self, *tasks: str, train: str = "train", test: str = "test") -> list[str]:
        found: list[str] = []
        for task in tasks:
            found += ["--task", task, "--train", str(self.path(task, train)), "--test", str(self.path(task, test))]
        return found

    def adapter(self, name: str, *arguments: str, family: str = "bert") -> Path:
        """The output of `finetune` with these arguments. It is trained once."""
        out = self.directory / name
        if not out.exists():
            quick = ["--base-model", self.models(family), "--epochs", "1", "--learning-rate", "0.01", "--out", str(out)]
            assert main(["finetune", *arguments, *quick, "--json"]) == 0
        return out

    def single(self, task: str = SENTIMENT, family: str = "bert") -> Path:
        return self.adapter(f"{task}-{family}", *self.rows(task), family=family)

    def several(self) -> Path:
        return self.adapter("several", *self.rows(SENTIMENT, NER), "--strategy", "multi_task")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one object on the last line."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_the_rows_are_looked_at_before_and_the_findings_are_in_the_report(desk: Desk) -> None:
    out = desk.single()
    found = json.loads((out / "result.json").read_text())["settings"]["inspection"]
    assert [(split["name"], split["rows"]) for split in found["splits"]] == [("train", 64), ("test", 16)]
    assert found["splits"][0]["lengths"]["measured"] == 64
    page = (out / "report.html").read_text()
    assert "The rows" in page
    assert "near-duplicates" in page


def test_no_finding_about_the_rows_changes_a_private_training_or_travels_with_its_adapter(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = desk.path(SENTIMENT, "train").read_text()
    (tmp_path / "train.csv").write_text(rows + "anna@example.com reports a profit,positive\n")

    def train(name: str) -> Path:
        where = ["--train", str(tmp_path / "train.csv"), "--test", str(desk.path(SENTIMENT, "test"))]
        quick = ["--base-model", desk.models("bert"), "--epochs", "1", "--target-epsilon", "4"]
        out = tmp_path / name
        assert main(["finetune", "--task", SENTIMENT, *where, *quick, "--out", str(out), "--json"]) == 0
        return out

    out = train("looked at")
    result = json.loads((out / "result.json").read_text())
    assert result["settings"]["inspection"]["splits"][0]["personal_data"]["e-mail"]["count"] == 1
    for kept in ("result.json", "tracker.json", "report.html"):
        assert stat.S_IMODE((out / kept).stat().st_mode) == 0o600
    for travels in (out / "adapter").iterdir():
        assert b"e-mail" not in travels.read_bytes()
        assert b"inspection" not in travels.read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(look, "inspect_rows", fail)
    other = json.loads((train("not looked at") / "result.json").read_text())
    assert other["settings"].pop("inspection") is None
    for settings in (other["settings"], result["settings"]):
        settings.pop("inspection", None)
        settings.pop("data")  # a fingerprint under a key of the directory
    assert other["settings"] == result["settings"]
    for name in ("noise_multiplier", "sampling_probability", "steps", "epsilon"):
        assert other["privacy"][name] == result["privacy"][name]


def test_finetune_says_where_the_adapter_is_how_well_it_does_and_what_it_took(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(desk.single())
    capsys.readouterr()
    found = desk.single() and said(capsys)
    assert Path(found["adapter"]).is_dir()
    assert (found["strategy"], found["method"], found["tasks"]) == ("single_task", "lora", [SENTIMENT])
    assert {"accuracy", "weighted_f1", "weighted_precision", "weighted_recall", "negative_recall"} <= set(
        found["metrics"]
    )
    assert 0 < found["trainable_parameters"] < found["total_parameters"]
    assert found["parameter_efficiency"] == found["trainable_parameters"] / found["total_parameters"]
    assert found["seconds"] > 0
    assert found["peak_memory_bytes"] > 2**20
    assert Path(found["report"]).is_file()


def test_away_from_a_terminal_an_epoch_is_one_line_and_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {f"some_long_name_of_a_figure_{n}": 0.5 for n in range(9)}
    with ProgressBar(quiet=False) as progress:
        pass
    assert capsys.readouterr().err == "", "an error that follows is the only line"
    with progress:
        progress.on_epoch(EpochEvent(1, 3, 10, 0.25, figures, True, 1.0))
        progress.on_epoch(EpochEvent(2, 3, 20, 0.125, {}, False, 2.0))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("epoch 1: loss 0.250; some_long_name_of_a_figure_0 0.500, ")
    assert first.endswith(" (best)")
    assert second == "epoch 2: loss 0.125"


def test_evaluate_finds_the_figures_that_finetune_printed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for out, task in ((desk.single(), SENTIMENT), (desk.single(NER), NER), (desk.several(), NER)):
        expected = json.loads((out / "result.json").read_text())["metrics"]
        expected = expected.get(task, expected)
        capsys.readouterr()
        assert (
            main(["evaluate", "--adapter", str(out), "--test", str(desk.path(task, "test")), "--task", task, "--json"])
            == 0
        )
        assert said(capsys) == {"task": task, "rows": 16, "metrics": pytest.approx(expected)}


@pytest.mark.parametrize("source", ["standard input", "news.txt", "news.csv", "news.jsonl"])
def test_predict_labels_files_and_standard_input_alike(
    desk: Desk, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Predictor(desk.single()).classify(TEXTS)
    file = [] if source == "standard input" else [str(tmp_path / source)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*TEXTS, ""])))
    content = {
        "news.txt": "\n".join(TEXTS),
        "news.csv": "\n".join(["id,text", *(f"7,{text}" for text in TEXTS)]),
        "news.jsonl": "\n".join(json.dumps({"text": text}) for text in TEXTS),
    }
    if file:
        (tmp_path / source).write_text(content[source])
    capsys.readouterr()
    assert main(["predict", "--adapter", str(desk.single()), *file]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "row,label,p_negative,p_neutral,p_positive"
    assert [line.split(",")[:2] for line in lines] == [["1", expected[0].label], ["2", expected[1].label]]
    probabilities = [float(value) for value in lines[0].split(",")[2:]]
    assert probabilities == pytest.approx(list(expected[0].probabilities.values()), abs=1e-6)


def test_predict_writes_a_file_for_its_owner_alone_or_one_json_object(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "news.txt").write_text("\n".join(TEXTS))
    command = ["predict", "--adapter", str(desk.several()), str(tmp_path / "news.txt"), "--task", NER]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "out.jsonl"), "--format", "jsonl"]) == 0
    assert capsys.readouterr().out == ""
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [len(row["labels"].split()) for row in rows] == [len(text.split()) for text in TEXTS]
    assert main([*command, "--json"]) == 0
    assert said(capsys) == {"task": NER, "rows": 2, "predictions": rows}


@pytest.mark.parametrize("case", [SENTIMENT, NER, SUMMARY, "answers", "several"])
def test_a_merged_model_gives_the_adapters_logits_without_peft_or_fedfin(
    desk: Desk, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"answers": SUMMARY, "several": SENTIMENT}.get(case, case)
    family = {SUMMARY: "t5", "answers": "writer"}.get(case, "bert")
    adapter = desk.several() if case == "several" else desk.single(task, family)
    capsys.readouterr()
    assert main(["merge", "--adapter", str(adapter), "--out", str(tmp_path / "whole"), "--task", task, "--json"]) == 0
    found = said(capsys)
    whole = eval(found["load"], {"transformers": transformers}).eval()  # noqa: S307 - the line that users copy
    assert not [name for name, _ in whole.named_parameters() if "lora" in name]
    model = Predictor(adapter, task).model
    tokens = model.encode(TEXTS)
    batch = tokens.batch([0, 1])
    extra = {}
    if case == SUMMARY:
        batch = Batch(batch.input_ids, batch.attention_mask, labels=batch.input_ids)
        extra = {"labels": batch.labels}
        soften_attention(whole)
        soften_attention(model.module)
    with torch.no_grad():
        given = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **extra).logits
        expected = model.logits(batch)
    assert (given - expected).norm() < 1e-5 * expected.norm()
    if case not in (SUMMARY, "answers"):
        assert tuple(whole.config.id2label.values()) == load_adapter(adapter)[1].tasks[task]


def test_a_model_merged_from_private_rows_is_no_base_for_a_federation(desk: Desk, tmp_path: Path) -> None:
    assert main(["merge", "--adapter", str(desk.single()), "--out", str(tmp_path / "whole")]) == 0
    with pytest.raises(ConfigurationError, match="learned from private text"):
        refuse_private_base(str(tmp_path / "whole"))


def test_incremental_measures_the_old_rows_and_the_new_before_and_after(desk: Desk) -> None:
    old = ["--from", str(desk.single()), "--previous-test", str(desk.path(SENTIMENT, "test"))]
    rows = desk.rows(SENTIMENT, train="later", test="later-test")
    spring = desk.adapter("spring", *rows, "--strategy", "incremental", *old)
    replayed = desk.adapter(
        "replay", *rows, "--strategy", "incremental", *old, "--previous-train", str(desk.path(SENTIMENT, "train"))
    )
    for out in (spring, replayed):
        metrics = json.loads((out / "result.json").read_text())["metrics"]
        assert set(metrics) == {"new", "old", "new_before", "old_before", "forgotten"}
        lost = metrics["old_before"]["weighted_f1"] - metrics["old"]["weighted_f1"]
        assert metrics["forgotten"] == pytest.approx(lost)
    assert json.loads((replayed / "result.json").read_text())["train_metrics"]["steps"] == 6  # 64 new rows, 32 old


def test_multi_task_takes_files_task_by_task_and_one_column_name_for_all(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((desk.several() / "result.json").read_text())
    assert found["tasks"] == [SENTIMENT, NER]
    assert found["metrics"].keys() == {SENTIMENT, NER}
    assert found["settings"]["rows"][NER] == {"train": 64, "validation": 0, "test": 16, "left_out": 0}
    wrong = ["--text-column", "a", "--text-column", "b", "--text-column", "c"]
    assert (
        main(["finetune", *desk.rows(SENTIMENT, NER), *wrong, "--strategy", "multi_task", "--out", str(tmp_path)]) == 2
    )
    assert "--text-column is given 3 times" in capsys.readouterr().err


@pytest.mark.parametrize("privacy", [[], ["--target-epsilon", "2"]], ids=["without", "with"])
@pytest.mark.parametrize(
    ("model", "limits", "why"),
    [
        ("bert", 'tasks = ["financial_ner"]', "sentiment_analysis is not among this institution's [limits] tasks"),
        ("other", "", "is not among this institution's [model] allowed"),
    ],
    ids=["task", "model"],
)
def test_a_task_or_model_that_the_officer_forbade_is_not_trained_and_not_charged(
    desk: Desk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    privacy: list[str],
    model: str,
    limits: str,
    why: str,
) -> None:
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    allowed = desk.models("bert") if model == "bert" else "minilm"
    home.settings_path.write_text(
        f'[institution]\nname = "bank"\n[model]\nallowed = ["{allowed}"]\n'
        f"[limits]\nallow_without_privacy = true\n{limits}\n"
    )
    more = ["--base-model", desk.models("bert"), "--home", str(home.directory), "--out", str(tmp_path / "out")]
    rows = desk.rows(SENTIMENT)
    capsys.readouterr()  # transformers' progress in writing the tiny model
    assert main(["finetune", *rows, *more, *privacy]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        assert ledger.entries == ()


def test_a_training_without_privacy_is_charged_to_its_institution_if_that_allows_it(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    more = ["--base-model", desk.models("bert"), "--epochs", "1", "--home", str(home.directory)]

    def train(allow: bool) -> int:
        home.settings_path.write_text(
            f'[institution]\nname = "bank"\n[model]\nallowed = ["{desk.models("bert")}"]\n'
            f"[limits]\nallow_without_privacy = {str(allow).lower()}\n"
        )
        return main(["finetune", *desk.rows(SENTIMENT), *more, "--out", str(tmp_path / "out")])

    assert train(allow=False) == 2
    assert "does not train without differential privacy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for _ in range(2):  # the second finds it finished
        assert train(allow=True) == 0
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        [charge] = ledger.charges
    assert (charge.event.noise_multiplier, charge.reservation.use.delta) == (0.0, None)


def test_a_private_training_of_an_institution_charges_its_one_ledger_within_its_limit(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    settings = f'[institution]\nname = "bank"\n[model]\nallowed = ["{desk.models("bert")}"]\n'
    home.settings_path.write_text(settings + "[limits]\nmax_epsilon = 4.0\ndelta = 1e-4\n")
    quick = ["--base-model", desk.models("bert"), "--epochs", "1", "--home", str(home.directory), "--json"]

    def train(out: str, epsilon: str) -> int:
        capsys.readouterr()
        where = ["--out", str(tmp_path / out), "--target-epsilon", epsilon]
        return main(["finetune", *desk.rows(SENTIMENT), *where, *quick])

    assert train("first", "2") == 0
    privacy = said(capsys)["privacy"]
    assert privacy["delta"] == 1e-4, "the institution's own"
    assert 1.9 < privacy["epsilon"] <= 2.0
    assert not (tmp_path / "first" / "ledger.jsonl").exists()
    assert train("second", "4") == 2
    assert "above the limit 4" in capsys.readouterr().err
    assert not (tmp_path / "second").exists(), "a refusal leaves nothing, so that the next attempt may have the place"
    assert train("second", "0.5") == 0
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        assert [charge.reservation.use.requester for charge in ledger.charges] == ["bank", "bank"]
        assert said(capsys)["privacy"]["ledger_epsilon"] == ledger.epsilon(1e-4) <= 4.0
    assert train("first", "2") == 0, "finished: nothing is trained or charged again"
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        assert len(ledger.charges) == 2


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("federated", "fedfin-simulate run"),
        ("domain_adversarial", "fedfin-institution domain-adversarial"),
        ("continual_pretraining", "fedfin-institution adapt"),
        ("distillation", "fedfin-institution stages --student-blocks"),
        ("multitask", "did you mean multi_task"),
    ],
)
def test_a_strategy_that_is_no_option_names_the_command_that_has_it(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--task", "sentiment_analysis", "--train", "a.csv", "--test", "b.csv", "--out", str(tmp_path / "out")]
    assert main(["finetune", *given, "--strategy", name]) == 2
    message = capsys.readouterr().err.strip()
    assert command in message
    assert "\n" not in message
