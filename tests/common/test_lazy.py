"""The names of a room load their module when they are first used, and an unknown name is an AttributeError."""

import math
from importlib import import_module
from pathlib import Path

import pytest

from common.lazy import lazy_names

ROOT = Path(__file__).parents[2]
FACES = [
    path for path in ROOT.glob("*/**/__init__.py") if ".venv" not in path.parts and "lazy_names(" in path.read_text()
]


def test_a_place_is_a_module_or_an_attribute_of_one() -> None:
    getattr_, dir_ = lazy_names("room", {"square_root": "math:sqrt", "maths": "math"})
    assert getattr_("square_root") is math.sqrt
    assert getattr_("maths") is math
    assert dir_() == ["maths", "square_root"]
    with pytest.raises(AttributeError, match="'room' has no attribute 'cube'"):
        getattr_("cube")


@pytest.mark.parametrize("path", FACES, ids=lambda path: ".".join(path.parent.relative_to(ROOT).parts))
def test_each_name_of_a_face_exists(path: Path) -> None:
    face = import_module(".".join(path.parent.relative_to(ROOT).parts))
    assert dir(face) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None


def test_the_faces_were_found() -> None:
    assert len(FACES) > 10
