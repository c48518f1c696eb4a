"""Run a simulation on Flower's engine: Ray workers act as the institutions, and sealed bytes travel as messages.

A worker serves any institution, so every message reopens its institution from its directory. Only the base model stays
loaded in a worker. Ledger and outbox are on disk, as in a deployed institution. Sessions of secure aggregation travel
with Flower's context of the node (`simulation.carried`).
"""

import functools
import gc
import importlib.util
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from common.errors import ConfigurationError, FedfinError
from common.events import Observer
from common.flower.records import RelayError, from_record, to_error, to_record
from server.flower.grid import GridTransport
from server.flower.replies import start_inline
from server.results.evaluation import HubEvaluator
from server.rounds.checkpoint import RunState
from simulation.carried import carried
from simulation.in_process import coordinate
from simulation.workspace import Workspace

__all__ = ["run_on_flower"]


@functools.lru_cache(maxsize=1)
def _reopen(out: str, threads: int) -> Workspace:
    torch.set_num_threads(threads)
    return Workspace.reopen(Path(out))


@functools.lru_cache(maxsize=64)
def _institution_name(out: str, partition: int) -> str:
    return sorted(path.name for path in (Path(out) / "institutions").iterdir())[partition]


def client_app(out: Path, threads: int) -> ClientApp:
    """Return an app whose node `partition-id` is the institution at that position in the sorted list of names."""
    app = ClientApp()
    directory = str(out)

    @app.query()  # type: ignore[untyped-decorator]
    def name(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        return Message(to_record(_institution_name(directory, partition).encode()), reply_to=message)

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        institution = _institution_name(directory, partition)
        try:
            agent = _reopen(directory, threads).institution(institution)
            with carried(agent.secure, context.state):
                return Message(to_record(agent.handle(from_record(message.content))), reply_to=message)
        except FedfinError:
            # Flower would send the text of the exception to the hub.
            return Message(to_error(RelayError.FAILED), reply_to=message)

    return app


def nodes_by_name(grid: Grid, nodes: int) -> dict[str, int]:
    """Ask every node for the name of its institution, once all nodes are connected."""
    while len(ids := list(grid.get_node_ids())) < nodes:
        time.sleep(0.05)
    questions = [Message(to_record(b""), dst_node_id=node, message_type="query") for node in ids]
    replies = grid.send_and_receive(questions)
    return {from_record(r.content).decode(): r.metadata.src_node_id for r in replies if not r.has_error()}


def run_on_flower(
    workspace: Workspace, state: RunState, evaluator: HubEvaluator, observers: Sequence[Observer]
) -> RunState:
    """Run the remaining rounds on Flower's engine. With fixed noise the adapter equals that of the in-process run.

    Raises:
        ConfigurationError: Ray is not installed.
        QuorumError: Too few institutions contributed to a round. The state is saved.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            "Flower's simulation engine: ray is not installed: pip install 'fedfin[simulation]', or leave out --engine"
        )
    from flwr.simulation import run_simulation

    # By default Ray gives its workers a low priority, but the run waits for them.
    os.environ.setdefault("RAY_worker_niceness", "0")
    threads = torch.get_num_threads()
    ended: list[RunState | FedfinError] = []
    server = ServerApp()
    nodes = len(workspace.federation.train)

    @server.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, _context: Context) -> None:
        try:
            node_ids = nodes_by_name(grid, nodes)
            transport = GridTransport(grid, lambda: node_ids, workspace.config.aggregation.needed, start=start_inline)
            ended.append(coordinate(workspace, state, transport, evaluator, observers))
        except FedfinError as error:
            ended.append(error)

    workers = max(1, (os.cpu_count() or 1) // threads)
    backend = {
        "init_args": {"num_cpus": workers * threads, "include_dashboard": False, "log_to_driver": False},
        "client_resources": {"num_cpus": threads, "num_gpus": 0.0},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(server, client_app(workspace.out, threads), num_supernodes=nodes, backend_config=backend)
        gc.collect()  # Ray leaves files open, and their warnings belong to it, not to the code that runs later
    if not ended:
        raise FedfinError(f"{workspace.out}: Flower's engine stopped before the run ended: continue with `resume`")
    if isinstance(ended[0], FedfinError):
        raise ended[0]
    return ended[0]
