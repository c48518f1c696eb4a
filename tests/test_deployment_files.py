"""Docker and systemd files keep their promises and start real programs. A machine with Docker shows that they run."""

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import client.cli
import server.cli

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = sorted((ROOT / "docker").glob("*.compose.yaml"))
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PARSERS = {"fedfin-hub": server.cli.parser, "fedfin-institution": client.cli.parser}


def unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)  # a repeated key is no error: the last one is seen here
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser["Service"]


def services() -> list[Any]:
    found = []
    for path in COMPOSE:
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            found.append(pytest.param(service, id=f"{path.stem}:{name}"))
    return found


@pytest.mark.parametrize("service", services())
def test_a_container_is_not_root_writes_nowhere_else_and_has_no_capabilities(service: dict[str, Any]) -> None:
    assert int(service["user"].split(":")[0]) >= 10001
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    program = service["image"]
    PARSERS[program]().parse_args(service["command"])


def test_the_container_with_the_rows_has_no_network_and_the_one_with_the_network_no_rows() -> None:
    agent, node = yaml.safe_load((ROOT / "docker" / "institution.compose.yaml").read_text())["services"].values()
    assert agent["network_mode"] == "none"
    mounted = [volume.split(":")[1:] for volume in node["volumes"]]
    assert mounted == [[f"/srv/fedfin/{name}", "ro"] for name in ("hub.json", "tls", "node", "run")]
    user, group = node["user"].split(":")
    assert user != agent["user"].split(":")[0]
    assert group in agent["group_add"]
    kept = [volume.split(":")[0] for volume in node["tmpfs"]]
    assert kept[1:] == ["/srv/fedfin/node-state"]


def test_the_image_copies_what_is_there_runs_as_nobody_in_particular_and_under_tini() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())
    assert "USER 10001:10001" in text
    entries = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    assert entries == [f'["/usr/bin/tini", "--", "{program}"]' for program in PARSERS]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists_and_may_do_little_else(path: Path) -> None:
    service = unit(path)
    program, *arguments = shlex.split(service["ExecStart"])
    PARSERS[Path(program).name]().parse_args(arguments)
    assert service["User"] != "root"
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictNamespaces"):
        assert service[key] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_the_unit_with_the_rows_has_no_network_and_the_one_with_the_network_no_rows() -> None:
    agent, node = (unit(ROOT / "deploy" / "systemd" / f"fedfin-{name}.service") for name in ("agent", "node"))
    assert agent["PrivateNetwork"] == "yes"
    assert node["TemporaryFileSystem"] == "/srv/fedfin:ro"
    assert {Path(name).name for name in node["BindReadOnlyPaths"].split()} == {"hub.json", "tls", "node", "run"}
    assert node["BindPaths"] == node["ReadWritePaths"] == "/srv/fedfin/node-state"


def test_agent_and_node_are_two_users_and_the_agent_may_hand_its_socket_to_the_nodes_group() -> None:
    agent, node = (unit(ROOT / "deploy" / "systemd" / f"fedfin-{name}.service") for name in ("agent", "node"))
    assert agent["User"] != node["User"]
    assert agent["Group"] != node["Group"]
    assert node["Group"] in agent["SupplementaryGroups"].split()
    assert "SupplementaryGroups" not in node
