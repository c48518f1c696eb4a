"""Run or resume a simulated federation: rounds, baselines, statements, result and report."""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from client.budget.statement import statement
from client.institution.directory import InstitutionDirectory
from client.institution.say import Say
from client.personalisation.record import read_record
from common.adapters.travelling import complete, travelling
from common.errors import ConfigurationError
from common.events import Observer, tell_stage
from common.files import write_json
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import Charge, read_charges
from common.privacy.global_model import Share, noise_ratio, seen_in_global_models
from common.report.by_institution import mean_shares
from common.report.json_reader import read_json
from common.report.records import ResultRecord, RoundRecord
from common.report.statement_record import StatementRecord
from common.tasks import task
from server.report.report import write_report
from server.results.artifacts import describe_protection, model_card, result, save_adapter
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState
from simulation.baselines import compute_baselines
from simulation.config import Engine
from simulation.in_process import run_in_process
from simulation.workspace import Workspace

__all__ = ["Engine", "run_simulation", "write_statements"]


def run_simulation(
    workspace: Workspace, engine: Engine = "in-process", baselines: bool = False, observers: Sequence[Observer] = ()
) -> ResultRecord:
    """Run the rounds that are left and return its result.

    The state is saved after every round. If the process is killed, calling this again continues the run.

    Args:
        workspace: The run's directory and data.
        engine: "in-process" for plain calls, "flower" for Flower's simulation engine.
        baselines: Whether to compare with each institution alone, a bag of words and a majority guess.
        observers: Called during the run.

    Raises:
        ConfigurationError: Baselines of a model that predicts or writes text are asked for.
        CheckpointError: The saved state is damaged or belongs to another run.
        QuorumError: Too few institutions contributed to a round. The rounds before it are saved.
    """
    if baselines and not task(workspace.config.task).head.is_linear:
        raise ConfigurationError(
            "--baselines: a model that predicts or writes text is compared with itself before round 1, and the result "
            "holds that: leave it out"
        )
    saved = workspace.out / "checkpoint"
    state = checkpoint.load(saved) if checkpoint.exists(saved) else first_state(workspace, observers)
    evaluator = HubEvaluator(workspace.models.adapted, workspace.federation.test_by_institution)
    started = time.monotonic()
    undelivered = workspace.config.personalisation.method != "none" and not state.delivered
    if state.next_round <= workspace.config.rounds or undelivered:
        if engine == "flower":
            from simulation.flower import run_on_flower

            state = run_on_flower(workspace, state, evaluator, observers)
        else:
            state = run_in_process(workspace, state, evaluator, observers)
    return finish(workspace, state, evaluator, engine, baselines, observers, time.monotonic() - started)


def first_state(workspace: Workspace, observers: Sequence[Observer]) -> RunState:
    """Return the state before round 1. The initial adapter leaves the base model unchanged unless it was warmed up."""
    return RunState(
        run_id=workspace.run_id,
        config_digest=workspace.config.digest(),
        next_round=1,
        adapter=travelling(workspace.start(observers), workspace.models.adapted, workspace.config),
    )


def finish(
    workspace: Workspace,
    state: RunState,
    evaluator: HubEvaluator,
    engine: Engine,
    baselines: bool,
    observers: Sequence[Observer],
    seconds: float,
) -> ResultRecord:
    """Write adapter, statements, result and report, and return its result."""
    tell_stage(observers, "writing the adapter, the statements and the report")
    out, config, adapted = workspace.out, workspace.config, workspace.models.adapted
    # With own heads there is no global model: its figures would be those of an untrained head.
    final = evaluator(state.adapter).metrics if config.personalisation.method != "head" else {}
    before = evaluator(workspace.start())
    adapted.load(complete(state.adapter, adapted))
    statements = write_statements(workspace, state.history)
    epsilon = {name: made.epsilon_run for name, made in statements.items()}
    institutions = tuple(workspace.federation.train)
    fixed = workspace.simulation.institutions.noise == "fixed"  # protects nobody: no file may claim otherwise
    alone = {name: made.epsilon_run_alone for name, made in statements.items() if made.epsilon_run_alone is not None}
    protection = describe_protection(config, epsilon, fixed, alone)
    card = model_card(config, workspace.run_id, institutions, final, protection)
    save_adapter(out, config, adapted, card, final, {} if fixed else epsilon)
    path = out / "result.json"
    before_this = ResultRecord.from_json(str(path), read_json(path) or {})
    rows = (
        compute_baselines(workspace, evaluator, epsilon, functools.partial(tell_stage, observers)) if baselines else []
    )
    record = replace(
        result(
            out,
            config,
            state,
            adapted,
            final,
            epsilon,
            engine,
            tuple(rows) or before_this.baselines,
            personal_metrics(workspace),
        ),
        before_round_1=dict(before.metrics),
        seconds_this_command=round(seconds, 2),
        noise=workspace.simulation.institutions.noise,
        epsilon_global_model={name: made.epsilon_global_model for name, made in statements.items()},
        epsilon_alone=alone,
    )
    write_json(path, record.to_json())
    write_report(out)
    return record


def personal_metrics(workspace: Workspace) -> dict[str, Mapping[str, float]]:
    """Return the metrics of each institution's personal model on its own test rows, from its directory."""
    found: dict[str, Mapping[str, float]] = {}
    for name in sorted(workspace.federation.train):
        paths = InstitutionDirectory(workspace.out / "institutions" / name)
        record = read_record(paths.personal(workspace.run_id))
        if record is not None and record.metrics_personal:
            found[name] = record.metrics_personal
    return found


def write_statements(workspace: Workspace, rounds: Sequence[RoundRecord]) -> dict[str, StatementRecord]:
    """Write `institutions/NAME/statement.json` for each institution, and return the statements by name.

    Args:
        rounds: The finished rounds, with the weight of each contributor.
    """
    statements: dict[str, StatementRecord] = {}
    kept: dict[str, tuple[Charge, ...]] = {}
    for name in sorted(workspace.federation.train):
        home = InstitutionDirectory(workspace.out / "institutions" / name)
        kept[name] = read_charges(home.ledger_path, home.keys().public)
    seen, shares = _in_global_models(workspace, rounds, kept), mean_shares(rounds)
    for name, charges in kept.items():
        limits = workspace.settings(name).limits
        home = InstitutionDirectory(workspace.out / "institutions" / name)
        say = Say(shares[name], len(shares)) if name in shares else None
        part = read_record(home.personal(workspace.run_id))
        made = statement(
            charges,
            name,
            workspace.run_id,
            limits.budget,
            say=say,
            part=part,
            prv=True,
            in_global_models=seen.get(name),
            limit_alone=limits.budget_alone,
        )
        write_json(home.directory / "statement.json", made.to_json())
        statements[name] = made
    return statements


def _in_global_models(
    workspace: Workspace, rounds: Sequence[RoundRecord], kept: Mapping[str, Sequence[Charge]]
) -> dict[str, list[DpSgdEvent]]:
    """Return each institution's mechanism with the noise of the institutions that were combined in each round.

    Nothing is known if the institutions do not train with plain SGD, whose steps alone are linear in the noise.
    """
    config = workspace.config
    if config.training.optimizer != "sgd" or config.privacy.mode == "none" or config.personalisation.keeps_tensors:
        return {}
    if config.aggregation.secure:  # the first figure counts the noise of others already
        return {}
    used = {
        (name, charge.reservation.use.round): charge
        for name, charges in kept.items()
        for charge in charges
        if charge.reservation.use.run_id == workspace.run_id
    }
    sizes = {name: workspace.settings(name).assumed_units for name in kept}
    found: dict[str, list[tuple[DpSgdEvent, float]]] = {name: [] for name in kept}
    for record in rounds:
        known = all((name, record.round) in used for name in record.weights)
        if not known or set(record.weights) != set(record.contributed):
            return {}  # a run of an earlier release
        charges = {name: used[name, record.round] for name in record.weights}
        shares = {
            name: Share(
                record.weights[name],
                charge.event.noise_multiplier * charge.reservation.use.clipping_norm,
                charge.event.sampling_probability * sizes[name],
            )
            for name, charge in charges.items()
        }
        for name, charge in charges.items():
            found[name].append((charge.event, noise_ratio(shares, name)))
    return {name: seen_in_global_models(own) for name, own in found.items()}
