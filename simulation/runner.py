"""Run or resume a simulated federation, from a configuration to the files a person reads."""

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from common.errors import ConfigurationError
from common.files import write_json
from common.tasks import task
from server.report.report import write_report
from server.results.artifacts import model_card, result, save_adapter
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState
from simulation.baselines import compute_baselines
from simulation.in_process import run_in_process
from simulation.rounds import RoundObserver
from simulation.statements import write_statements
from simulation.workspace import Workspace

__all__ = ["Engine", "run_simulation"]

Engine = Literal["in-process", "flower"]


def run_simulation(
    workspace: Workspace, engine: Engine = "in-process", baselines: bool = False, progress: RoundObserver | None = None
) -> dict[str, Any]:
    """Take the run from wherever its directory says it is to its end; returns what `result.json` holds.

    The state is saved after every round, so a process killed at any moment is continued by calling this again.
    """
    progress = progress or RoundObserver()
    if baselines and task(workspace.config.task).head.is_language_modelling:
        raise ConfigurationError(
            "--baselines: a language model is compared with itself before round 1, which the result holds: leave it out"
        )
    saved = workspace.out / "checkpoint"
    state = checkpoint.load(saved) if checkpoint.exists(saved) else first_state(workspace, progress)
    evaluator = HubEvaluator(workspace.adapted, workspace.federation.test_by_institution)
    started = time.monotonic()
    if state.next_round <= workspace.config.rounds:
        if engine == "flower":
            from simulation.flower import run_on_flower

            state = run_on_flower(workspace, state, evaluator, progress)
        else:
            state = run_in_process(workspace, state, evaluator, progress)
    return finish(workspace, state, evaluator, engine, baselines, progress, time.monotonic() - started)


def first_state(workspace: Workspace, progress: RoundObserver) -> RunState:
    """Round 1 has not begun: the initial adapter changes nothing about the base model, unless it was warmed up."""
    return RunState(
        run_id=workspace.run_id,
        config_digest=workspace.config.digest(),
        next_round=1,
        adapter=workspace.start(functools.partial(progress.steps, "the hub, on public text,")),
    )


def finish(
    workspace: Workspace,
    state: RunState,
    evaluator: HubEvaluator,
    engine: Engine,
    baselines: bool,
    progress: RoundObserver,
    seconds: float,
) -> dict[str, Any]:
    """Write what the run leaves: adapter, history, statements, result, report."""
    progress.stage("writing the adapter, the statements and the report")
    out, config, adapted = workspace.out, workspace.config, workspace.adapted
    final, before = evaluator(state.adapter), evaluator(workspace.start())
    adapted.load(state.adapter)
    statements = write_statements(workspace)
    epsilon = {name: statement["epsilon_run"] for name, statement in statements.items()}
    institutions = tuple(workspace.federation.train)
    card = model_card(config, workspace.run_id, institutions, final.metrics, _protection(workspace, epsilon))
    fixed = workspace.simulation.institutions.noise == "fixed"  # protects nobody, and no later step may think so
    save_adapter(out, config, adapted, card, final.metrics, {} if fixed else epsilon)
    rows = compute_baselines(workspace, evaluator, epsilon, progress.stage) if baselines else []
    previous = json.loads((out / "result.json").read_text()) if (out / "result.json").exists() else {}
    found = result(out, config, state, adapted, final.metrics, epsilon, engine) | {
        "before_round_1": dict(before.metrics),
        "seconds_this_command": round(seconds, 2),
        "noise": workspace.simulation.institutions.noise,
        "baselines": [asdict(row) for row in rows] or previous.get("baselines", []),
    }
    write_json(out / "result.json", found)
    write_report(out)
    return found


def _protection(workspace: Workspace, epsilon: Mapping[str, float | None]) -> str:
    spent = [value for value in epsilon.values() if value is not None]
    privacy = workspace.config.privacy
    if not spent:
        return "none: trained without differential privacy"
    if workspace.simulation.institutions.noise == "fixed":
        return "none: the noise came from a fixed seed"
    figure = f"epsilon {max(spent):.3f} at delta {privacy.delta:g}"
    return f"{figure} for one {privacy.unit}, the most of any institution (PLD)"
