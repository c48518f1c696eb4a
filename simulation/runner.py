"""Run or resume a simulated federation: rounds, baselines, statements, result and report."""

import functools
import time
from dataclasses import replace
from typing import Literal

from client.budget.statement import statement
from client.institution.directory import InstitutionDirectory
from common.errors import ConfigurationError
from common.files import write_json
from common.privacy.ledger import read_charges
from common.report.json_reader import read_json
from common.report.records import ResultRecord
from common.report.statement_record import StatementRecord
from common.tasks import task
from server.report.report import write_report
from server.results.artifacts import describe_protection, model_card, result, save_adapter
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState
from simulation.baselines import compute_baselines
from simulation.in_process import RoundObserver, run_in_process
from simulation.workspace import Workspace

__all__ = ["Engine", "run_simulation", "write_statements"]

Engine = Literal["in-process", "flower"]


def run_simulation(
    workspace: Workspace, engine: Engine = "in-process", baselines: bool = False, observer: RoundObserver | None = None
) -> ResultRecord:
    """Run the rounds that are left and return its result.

    The state is saved after every round. If the process is killed, calling this again continues the run.

    Args:
        workspace: The run's directory and data.
        engine: "in-process" for plain calls, "flower" for Flower's simulation engine.
        baselines: Whether to compare with each institution alone, a bag of words and a majority guess.
        observer: Called during the run.

    Raises:
        ConfigurationError: Baselines of a language model are asked for.
        CheckpointError: The saved state is damaged or belongs to another run.
        QuorumError: Too few institutions contributed to a round. The rounds before it are saved.
    """
    observer = observer or RoundObserver()
    if baselines and task(workspace.config.task).head.is_language_modelling:
        raise ConfigurationError(
            "--baselines: a language model is compared with itself before round 1, and the result holds that: "
            "leave it out"
        )
    saved = workspace.out / "checkpoint"
    state = checkpoint.load(saved) if checkpoint.exists(saved) else first_state(workspace, observer)
    evaluator = HubEvaluator(workspace.adapted, workspace.federation.test_by_institution)
    started = time.monotonic()
    if state.next_round <= workspace.config.rounds:
        if engine == "flower":
            from simulation.flower import run_on_flower

            state = run_on_flower(workspace, state, evaluator, observer)
        else:
            state = run_in_process(workspace, state, evaluator, observer)
    return finish(workspace, state, evaluator, engine, baselines, observer, time.monotonic() - started)


def first_state(workspace: Workspace, observer: RoundObserver) -> RunState:
    """Return the state before round 1. The initial adapter leaves the base model unchanged unless it was warmed up."""
    return RunState(
        run_id=workspace.run_id,
        config_digest=workspace.config.digest(),
        next_round=1,
        adapter=workspace.start(functools.partial(observer.steps, "the hub, on public text,")),
    )


def finish(
    workspace: Workspace,
    state: RunState,
    evaluator: HubEvaluator,
    engine: Engine,
    baselines: bool,
    observer: RoundObserver,
    seconds: float,
) -> ResultRecord:
    """Write adapter, statements, result and report, and return its result."""
    observer.stage("writing the adapter, the statements and the report")
    out, config, adapted = workspace.out, workspace.config, workspace.adapted
    final, before = evaluator(state.adapter), evaluator(workspace.start())
    adapted.load(state.adapter)
    statements = write_statements(workspace)
    epsilon = {name: made.epsilon_run for name, made in statements.items()}
    institutions = tuple(workspace.federation.train)
    fixed = workspace.simulation.institutions.noise == "fixed"  # protects nobody: no file may claim otherwise
    protection = describe_protection(config, epsilon, fixed)
    card = model_card(config, workspace.run_id, institutions, final.metrics, protection)
    save_adapter(out, config, adapted, card, final.metrics, {} if fixed else epsilon)
    path = out / "result.json"
    before_this = ResultRecord.from_json(str(path), read_json(path) or {})
    rows = compute_baselines(workspace, evaluator, epsilon, observer.stage) if baselines else []
    record = replace(
        result(out, config, state, adapted, final.metrics, epsilon, engine),
        before_round_1=dict(before.metrics),
        seconds_this_command=round(seconds, 2),
        noise=workspace.simulation.institutions.noise,
        baselines=tuple(rows) or before_this.baselines,
    )
    write_json(path, record.to_json())
    write_report(out)
    return record


def write_statements(workspace: Workspace) -> dict[str, StatementRecord]:
    """Write `institutions/NAME/statement.json` for each institution, and return the statements by name."""
    statements: dict[str, StatementRecord] = {}
    for name in sorted(workspace.federation.train):
        home = InstitutionDirectory(workspace.out / "institutions" / name)
        charges = read_charges(home.ledger_path, home.keys().public)
        limit = workspace.settings(name).limits.budget
        statements[name] = statement(charges, name, workspace.run_id, limit, prv=True)
        write_json(home.directory / "statement.json", statements[name].to_json())
    return statements
