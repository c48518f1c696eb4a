"""A TOML file that cannot be read is one clear line, and `--set` changes exactly the keys that it names."""

from pathlib import Path

import pytest

from common.config.toml import apply_overrides, load_toml, parse_toml, read_config
from common.errors import ConfigurationError

TABLES = {"privacy": {"mode": "target", "target_epsilon": 8.0}, "text": "no section"}


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "run.toml").write_text(f'{mark}[model]\nbase = "Bär"\n', encoding="utf-8")
        assert load_toml(tmp_path / "run.toml") == {"model": {"base": "Bär"}}


def test_a_file_that_cannot_be_read_is_one_line_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('name = "Bär"'.encode("latin-1"))
    for name, reason in (("absent.toml", "no such"), (".", "cannot be read"), ("latin.toml", "UTF-8")):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            read_config(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a = ", "[a", "a = 1\na = 2", "x = " + "[" * 5000])
def test_wrong_syntax_is_one_line_that_names_the_source(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^run\.toml: not TOML: ") as caught:
        parse_toml(text, "run.toml")
    assert "\n" not in str(caught.value)


def test_a_change_sets_adds_or_removes_one_key_and_leaves_the_original() -> None:
    changes = ["privacy.target_epsilon=3", "model.base=MiniLM", "privacy.mode=", "adapter.layers=['a']"]
    assert apply_overrides(TABLES, changes) == {
        "privacy": {"target_epsilon": 3},
        "model": {"base": "MiniLM"},
        "adapter": {"layers": ["a"]},
        "text": "no section",
    }
    assert TABLES["privacy"] == {"mode": "target", "target_epsilon": 8.0}


@pytest.mark.parametrize("change", ["privacy", "privacy.mode", "mode=none", ".mode=none", "privacy.=none", "text.a=1"])
def test_a_change_of_another_form_is_refused_and_quoted(change: str) -> None:
    with pytest.raises(ConfigurationError, match="--set") as caught:
        apply_overrides(TABLES, [change])
    assert change in str(caught.value)
