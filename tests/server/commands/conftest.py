"""Hubs and requests for the tests of the hub's commands."""

import shutil
from pathlib import Path

import pytest

from common.identity.enrolment import EnrolmentRequest
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve
from tests.server.hub.test_directory import make_request

BASE = Path(__file__).parents[2] / "earlier" / "base"
RUN = f"""
[run]
name = "headlines"
seed = 1
rounds = 2
[task]
name = "sentiment_analysis"
labels = ["negative", "positive"]
[model]
base = "{BASE}"
max_tokens = 32
[training]
local_steps = 2
sampling_rate = 0.25
learning_rate = 1.0
[privacy]
mode = "high"
delta = 1e-5
"""


@pytest.fixture(scope="session")
def made_hubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the hub "empty", and the hub "two" in which two institutions are enrolled.

    Keys take a good part of a second to make, so each test works on a copy.
    """
    directory = tmp_path_factory.mktemp("hubs")
    HubDirectory.create(directory / "empty", "hub", "127.0.0.1:8443", [])
    shutil.copytree(directory / "empty", directory / "two")
    for name in ("north", "south"):
        approve(HubDirectory(directory / "two"), make_request(name))
    return directory


@pytest.fixture
def empty_hub(tmp_path: Path, made_hubs: Path) -> HubDirectory:
    """A hub in which no institution is enrolled."""
    return HubDirectory(shutil.copytree(made_hubs / "empty", tmp_path / "hub"))


@pytest.fixture
def hub(tmp_path: Path, made_hubs: Path) -> HubDirectory:
    """A hub that is not started, with the institutions "north" and "south"."""
    return HubDirectory(shutil.copytree(made_hubs / "two", tmp_path / "hub"))


@pytest.fixture
def request_file(tmp_path: Path) -> tuple[EnrolmentRequest, Path]:
    """The request of institution "east", and the file that it sent."""
    request = make_request("east")
    path = tmp_path / "request.json"
    path.write_text(request.to_json())
    return request, path


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """The configuration of a run."""
    path = tmp_path / "headlines.toml"
    path.write_text(RUN)
    return path
