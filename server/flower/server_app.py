"""Execute one run in Flower's ServerApp process, from its directory: the coordinator over a real network.

The process may be killed at any moment. The reconciler then starts another one for the same directory, which resumes at
the exact round (see `server.runs.reconciler`). Keys and run are in the hub's directory, which an environment variable
names. Flower stores neither.
"""

import contextlib
import functools
import time
from collections.abc import Mapping
from typing import Any

from flwr.serverapp import Grid

from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach_for_run, load_for_run
from common.adapters.travelling import complete, travelling, travelling_spec
from common.adapters.warm_up import needs_warm_up, warm_up
from common.base_models.provenance import refuse_private_base
from common.config.run import RunConfig
from common.errors import FedfinError, LedgerError, ModelError, QuorumError
from common.files import write_json
from common.flower.internals import refuse_repeated_pieces, shorten_pull_backoff
from common.journal.journal import Journal
from common.journal.line_format import Entry
from common.protocol.adapter_codec import Tensors
from common.report.records import RoundRecord
from server.flower.grid import GridTransport
from server.hub.audit_log import RUN_PURPOSE, anchor_run, file_sha256, run_ended
from server.hub.clocks import read_clocks
from server.hub.directory import HubDirectory
from server.hub.disk import await_room
from server.hub.public_data import read_public_texts, read_test_set
from server.hub.uploads import allow_uploads, end_uploads
from server.report.report import write_report
from server.results.artifacts import describe_protection, model_card, result, save_adapter, save_round
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint, coordinator
from server.rounds.admission import largest_reply
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Evaluation
from server.rounds.secure_exchange import largest_answer
from server.rounds.spool import Spool
from server.runs.records import Progress
from server.runs.run import FAILED, FINISHED, QUORUM, Run

__all__ = ["execute_run"]

_CALL_AFTER_S = 20.0
_FILES_BYTES = 16 * 2**20
"""Room in bytes for the small files of a run, such as history, logs and report."""
_KEPT = (
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/fedfin.json",
    "config.json",
    "history.json",
    "result.json",
)
"""Files of a finished run whose digests the hub's audit log keeps."""


def execute_run(grid: Grid, run: str, flower_run: str) -> None:
    """Execute the rounds of a run that are left, and record its ending. No ending is an exception.

    Args:
        grid: Flower's grid.
        run: Name of the run.
        flower_run: Flower's id of the run.

    Raises:
        FedfinError: There is no such run, or another process executes it.
    """
    opened = Run.open(HubDirectory.open(None), run)
    shorten_pull_backoff()
    refuse_repeated_pieces()
    with opened.executing(flower_run):
        if opened.ending() is not None:
            return
        try:
            _execute(grid, opened)
            ended, message = FINISHED, ""
        except QuorumError as error:
            ended, message = QUORUM, str(error)
        except FedfinError as error:
            ended, message = FAILED, str(error)
        _close(opened, ended, message)


def _execute(grid: Grid, run: Run) -> None:
    config, data = run.config()
    refuse_private_base(config.model.base)
    base = load_for_run(config, config.labels)
    if config.model.base_digest not in (None, base.digest):
        raise ModelError(
            f"base model {config.model.base}: it differs from the one that run {run.name} began with: restore that one"
        )
    adapted = attach_for_run(base, config)
    # With own heads there is no global model to evaluate.
    has_test = data is not None and config.personalisation.method != "head"
    evaluator = HubEvaluator(adapted, {"test": read_test_set(data, config)}) if data and has_test else None
    members = run.home.members()
    if checkpoint.exists(run.checkpoint):
        state = checkpoint.load(run.checkpoint)
    else:
        state = _first_state(run, config, adapted, read_public_texts(data, config) if needs_warm_up(adapted) else [])
    federation = FederationContext(
        run.home.keys(),
        {name: entry.keys for name, entry in members.items()},
        config,
        travelling_spec(adapted, config),
        {name: entry.approved_units for name, entry in members.items()},
        spool=functools.partial(_spool, run),
    )
    if config.aggregation.secure:
        reply_bytes = largest_answer(federation.spec, len(members))
    else:
        reply_bytes = largest_reply(federation.spec, config.aggregation.update_dtype)
    node_keys = {entry.request.node_key: name for name, entry in members.items()}
    transport = GridTransport(
        grid,
        connected=lambda: _connected(grid, node_keys),
        quorum=config.aggregation.needed,
        on_progress=_Progress(run, reply_bytes),
        call_after_s=_CALL_AFTER_S,
        clocks=functools.partial(read_clocks, run.home),
        spool=functools.partial(_spool, run),
    )
    with Journal.open(run.directory / "audit.jsonl", federation.keys, RUN_PURPOSE) as journal:
        state = coordinator.run(
            state,
            federation,
            transport,
            evaluate=evaluator or _no_evaluation,
            save=functools.partial(_save, run),
            audit=functools.partial(_audit, run, journal),
        )
    _finish(run, state, config, adapted, evaluator(state.adapter) if evaluator else None)


def _spool(run: Run) -> Spool[Any]:
    """Return the place for the messages of an exchange, on the disk of the run."""
    return Spool(run.directory, functools.partial(await_room, run.directory))


def _first_state(run: Run, config: RunConfig, adapted: AdaptedModel, public: list[str]) -> RunState:
    """Return and save the state before round 1: the initial adapter, warmed up on `public` text if the head is new.

    It is saved because the sums of a second warm-up could differ in their last bits, and then the assignment would.
    """
    adapted.load(adapted.initial())
    if public:
        warm_up(adapted, public, max_batch_tokens=config.training.max_batch_tokens, seed=config.seed)
    start = travelling(adapted.export(), adapted, config)
    state = RunState(run_id=run.name, config_digest=config.digest(), next_round=1, adapter=start)
    checkpoint.save(state, run.checkpoint)
    return state


def _connected(grid: Grid, node_keys: Mapping[str, str]) -> dict[str, int]:
    """Return the node ids of the connected institutions by name, from the node keys that they enrolled with."""
    nodes: Any = grid.get_nodes()  # not in the interface, but in both grids
    named = ((node_keys.get(node.public_key.decode()), node.node_id) for node in nodes)
    return {name: node_id for name, node_id in named if name is not None}


def _no_evaluation(_: Tensors) -> Evaluation | None:
    return None


def _save(run: Run, state: RunState) -> None:
    """Save a round. The checkpoint is written beside the one before, with the moments of the server optimiser."""
    await_room(run.directory, 4 * len(state.encoded) + _FILES_BYTES)
    save_round(run.directory, state)


def _audit(run: Run, journal: Journal, kind: str, body: dict[str, Any]) -> None:
    """Append to the run's own log, and anchor that log in the hub's."""
    await_room(run.directory, _FILES_BYTES)
    journal.append(kind, body)
    anchor_run(run.home, run.name, journal.entries)


class _Progress:
    """Shows the round under way to operators, and tells the gateway what an institution may send in it."""

    def __init__(self, run: Run, reply_bytes: int) -> None:
        self._run, self._reply_bytes, self._round = run, reply_bytes, 0

    def __call__(self, round_: int, answered: tuple[str, ...], waiting: tuple[str, ...]) -> None:
        value = Progress(round=round_, answered=answered, waiting=waiting, time=time.time())
        # A full disk must not end the round.
        with contextlib.suppress(OSError):
            if round_ != self._round:
                allow_uploads(self._run.home, self._run.name, round_, self._reply_bytes)
                self._round = round_
            write_json(self._run.directory / "progress.json", value.to_json())


def _finish(run: Run, state: RunState, config: RunConfig, adapted: AdaptedModel, final: Evaluation | None) -> None:
    """Write adapter, result and report."""
    adapted.load(complete(state.adapter, adapted))
    await_room(run.directory, 4 * len(state.encoded) + _FILES_BYTES)
    epsilon = _largest_by_institution(state.history)
    metrics = final.metrics if final else {}
    contributors = sorted({name for record in state.history for name in record.contributed})
    card = model_card(config, run.name, contributors, metrics, describe_protection(config, epsilon))
    save_adapter(run.directory, config, adapted, card, metrics, epsilon)
    record = result(run.directory, config, state, adapted, metrics, epsilon, "deployed")
    write_json(run.directory / "result.json", record.to_json())
    write_report(run.directory)


def _largest_by_institution(history: tuple[RoundRecord, ...]) -> dict[str, float]:
    """Return the epsilon that each institution stated last, which is its own figure for this run so far."""
    stated: dict[str, float] = {}
    for record in history:
        stated |= record.epsilon
    return stated


def _close(run: Run, ended: str, message: str) -> None:
    """Record the ending, first in the hub's audit log: a run has ended if that log says so."""
    path = run.directory / "audit.jsonl"
    entries: tuple[Entry, ...] = ()
    try:
        if path.exists():
            with Journal.open(path, run.home.keys(), RUN_PURPOSE) as journal:
                entries = journal.entries
    except LedgerError as error:
        ended, message = FAILED, str(error)
    kept = (run.directory / name for name in _KEPT) if ended == FINISHED else ()
    files = {str(path.relative_to(run.directory)): file_sha256(path) for path in kept if path.is_file()}
    run_ended(run.home, run.name, ended, entries, files)
    (run.directory / "progress.json").unlink(missing_ok=True)
    end_uploads(run.home, run.name)
    run.end(ended, message)
