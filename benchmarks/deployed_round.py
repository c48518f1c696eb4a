"""Rounds of the deployed federation, and of a plain Flower app that does the same, on loopback with two institutions.

Both train the MiniLM encoder with LoRA, one step on about ten headlines, so that a round is nearly all overhead. The
plain app follows Flower's documentation. Its client imports torch, transformers and peft and loads the model for every
message. It has no TLS, no sealing and no privacy, and runs with Flower's default settings.
"""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from common.base_models.resolve import resolve_base
from simulation.synthetic import synthetic_banks

__all__ = ["fedfin_rounds", "plain_rounds"]

ROUNDS = 7
ROWS = 200
BANKS = ("retail_bank", "fund_house")
LABELS = ("negative", "neutral", "positive")
_SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"


def fedfin_rounds(root: Path, rank: int, secure: bool = False) -> tuple[list[float], list[float]]:
    """Return the seconds of each round, and the seconds that the slower institution's agent opened, trained and sealed.

    The first round (which loads the model) and the last (which is evaluated) are left out.

    Args:
        root: An empty directory.
        rank: Rank of the adapter.
        secure: Whether the rounds are under secure aggregation. The agents' seconds are then not known.
    """
    port = _free_port()
    hub = root / "hub"
    _command("server.cli", "init", "--home", str(hub), "--address", f"127.0.0.1:{port}")
    for name in BANKS:
        request = _command("client.cli", "init", "--home", str(root / name), "--name", name)
        fingerprint = ("--fingerprint", request["fingerprint"])
        package = _command("server.cli", "approve", request["request"], *fingerprint, "--home", str(hub))
        fingerprint = ("--fingerprint", package["fingerprint"])
        _command("client.cli", "join", package["package"], *fingerprint, "--home", str(root / name))
        _write_rows(root / name / "rows.csv", name)
        (root / name / "institution.toml").write_text(
            f'[institution]\nname = "{name}"\n[data]\ntrain = "rows.csv"\n'
            '[model]\nallowed = ["minilm"]\ndevice = "cpu"\n[limits]\nmax_epsilon = 1e6\ndelta = 1e-4\n'
        )
    _write_rows(root / "test.csv", BANKS[0])
    if secure:
        _approve_each_other(root)
    (root / "run.toml").write_text(
        f"""
[run]
name = "overhead"
seed = 1
rounds = {ROUNDS}
[task]
name = "sentiment_analysis"
[adapter]
rank = {rank}
alpha = 16
target_modules = "all-linear"
[training]
local_steps = 1
sampling_rate = 0.05
learning_rate = 0.1
[privacy]
mode = "high"
delta = 1e-4
[evaluation]
every_rounds = 1000
[data]
test = "test.csv"
{_SECURE if secure else ""}"""
    )
    with (
        _started(("-m", "server.cli", "start", "--home", str(hub)), root / "hub.log"),
        _started(("-m", "client.cli", "start", "--home", str(root / BANKS[0])), root / "first.log"),
        _started(("-m", "client.cli", "start", "--home", str(root / BANKS[1])), root / "second.log"),
    ):
        _wait(lambda: all("connected to" in (root / f"{n}.log").read_text() for n in ("first", "second")), "nodes")
        run = _command("server.cli", "run", str(root / "run.toml"), "--home", str(hub), within=1200)["run"]
    entries = map(json.loads, (hub / "runs" / run / "audit.jsonl").read_text().splitlines())
    closed = [datetime.fromisoformat(e["time"]).timestamp() for e in entries if e["kind"] == "round_closed"]
    at_work = [_at_work(root / name / "state" / "logs" / "agent.log") for name in BANKS]
    slower = [max(seconds) for seconds in zip(*at_work, strict=True)]
    rounds = [after - before for before, after in itertools.pairwise(closed[:-1])]
    return rounds, [] if secure else slower[1:-1]


def _approve_each_other(root: Path) -> None:
    shown = {name: _command("client.cli", "peers", "show", "--home", str(root / name)) for name in BANKS}
    for name, other in (BANKS, BANKS[::-1]):
        given = (shown[other]["file"], "--fingerprint", shown[other]["fingerprint"], "--home", str(root / name))
        _command("client.cli", "peers", "add", *given)


def _at_work(log: Path) -> list[float]:
    return [float(seconds) for seconds in re.findall(r"answered after ([0-9.]+) s", log.read_text())]


def plain_rounds(root: Path, rank: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round of the plain Flower app but the first and last. Training time is not known."""
    app, times = root / "plain-app", root / "times.json"
    (app / "plain").mkdir(parents=True)
    for name in BANKS:
        _write_rows(root / f"{name}.csv", name)
    (app / "plain" / "__init__.py").write_text("")
    (app / "plain" / "server_app.py").write_text(_SERVER)
    (app / "plain" / "client_app.py").write_text(_CLIENT)
    settings = {"rounds": ROUNDS, "rank": rank, "base": resolve_base("minilm"), "times": str(times)}
    config = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    (app / "pyproject.toml").write_text(_PROJECT + config + "\n")
    port = _free_port()
    (root / "config.toml").write_text(f'[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
    environment = {"FLWR_HOME": str(root)}
    link = ("flower-superlink", "--insecure", "--port", str(port), "--disable-runtime-dependency-installation")
    with _started(link, root / "superlink.log", environment):
        _wait(lambda: _listens(port), "SuperLink")
        nodes = [
            (
                *("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--port", str(_free_port())),
                *("--node-config", f'rows="{root / name}.csv"'),
            )
            for name in BANKS
        ]
        with (
            _started(nodes[0], root / "first.log", environment),
            _started(nodes[1], root / "second.log", environment),
            _started(("flwr", "run", str(app), "here", "--stream"), root / "run.log", environment),
        ):
            _wait(times.exists, "the plain app's last round", within=1800)
    ends: list[float] = json.loads(times.read_text())
    return [after - before for before, after in itertools.pairwise(ends[:-1])], []


_PROJECT = """
[project]
name = "plain-app"
version = "1.0.0"
[tool.flwr.app]
publisher = "plain"
[tool.flwr.app.components]
serverapp = "plain.server_app:app"
clientapp = "plain.client_app:app"
[tool.flwr.app.config]
"""

_SERVER = """
import json, time
from pathlib import Path
import torch
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from plain.client_app import load

app = ServerApp()

class Timed(FedAvg):
    ends = []
    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        self.ends.append(time.time())
        return result

@app.main()
def main(grid, context):
    config = context.run_config
    model, _ = load(config)
    state = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(state), num_rounds=config["rounds"])
    Path(config["times"]).write_text(json.dumps(Timed.ends))
"""

_CLIENT = """
import csv
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoTokenizer

app = ClientApp()

class Classifier(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.classifier = encoder, torch.nn.Linear(encoder.config.hidden_size, 3)
    def forward(self, input_ids, attention_mask, **_):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[..., None].float()
        return self.classifier((hidden * weights).sum(1) / weights.sum(1))

def load(config):
    base = AutoModel.from_pretrained(config["base"])
    adapted = get_peft_model(base, LoraConfig(r=config["rank"], target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    return Classifier(adapted), AutoTokenizer.from_pretrained(config["base"])

@app.train()
def train(message, context):
    model, tokenizer = load(context.run_config)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict(), strict=False)
    rows = list(csv.DictReader(open(context.node_config["rows"])))[:10]
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([["negative", "neutral", "positive"].index(row["label"]) for row in rows])
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    torch.nn.functional.cross_entropy(model(**batch), labels).backward()
    optimizer.step()
    content = RecordDict({
        "arrays": ArrayRecord({n: p.detach() for n, p in trained.items()}),
        "metrics": MetricRecord({"num-examples": len(rows)}),
    })
    return Message(content, reply_to=message)
"""


def _write_rows(path: Path, bank: str) -> None:
    rows = synthetic_banks(0).train[bank].examples[:ROWS]
    lines = (f'"{row.text}",{LABELS[row.label]}' for row in rows)  # one label a text
    path.write_text("text,label\n" + "\n".join(lines) + "\n")


def _environment(more: dict[str, str] | None = None) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", **(more or {})}


def _command(module: str, *arguments: str, within: float = 120) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--json"],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=within,
    )
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)}:\n{done.stderr}")
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


@contextmanager
def _started(command: tuple[str, ...], log: Path, more: dict[str, str] | None = None) -> Iterator[None]:
    program = (sys.executable, *command) if command[0] == "-m" else command
    with log.open("wb") as file:
        process = subprocess.Popen(program, env=_environment(more), stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(done: Callable[[], bool], what: str, within: float = 180) -> None:
    until = time.monotonic() + within
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"waited {within:.0f} s for {what}")
        time.sleep(0.5)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
