"""Code that comes with a base model is never run, and nobody is asked about it."""

import ast
import builtins
import json
import shutil
from pathlib import Path

import pytest

from common.base_models.architecture import read_config
from common.base_models.resolve import resolve_base
from common.errors import ModelError
from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose config.json names a class of a file beside it. That file leaves a mark if it is imported."""

    def refuse(*_: object) -> str:
        raise AssertionError("somebody was asked at the terminal")

    monkeypatch.setattr(builtins, "input", refuse)
    model = save_tiny_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoTokenizer": ["own.OwnTokenizer", None]}
    config |= {"model_type": "own", "auto_map": classes}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    return model


def test_a_directory_with_code_is_refused_in_one_line(with_code: Path) -> None:
    with pytest.raises(ModelError, match=r"holds code \(own.py\), which is not run here"):
        resolve_base(str(with_code))


def test_a_configuration_that_names_code_runs_none_and_asks_nobody(with_code: Path) -> None:
    with pytest.raises(ModelError, match="choose another base model"):
        read_config("own", with_code)
    assert not with_code.with_name("mark").exists()
    shutil.rmtree(with_code)


def test_no_call_that_loads_a_model_leaves_the_question_of_its_code_open() -> None:
    """Without the argument transformers asks at the terminal."""
    open_calls = []
    for room in ("client", "common", "server", "simulation", "fedfin"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("from_pretrained", "from_config"):
                    named = {word.arg: word.value for word in node.keywords}
                    value = named.get("trust_remote_code")
                    if not (isinstance(value, ast.Constant) and value.value is False):
                        open_calls.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert open_calls == []
