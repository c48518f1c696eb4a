"""Finish a job: save the adapter with its card, and write the result."""

import json
import resource
import time
from collections.abc import Mapping
from typing import Any

import torch

from client.finetune.options.defaults import BaseFacts, usual_settings
from client.finetune.result import FineTuningResult, PrivacyGuarantee
from client.finetune.strategies.encoder_watch import watch_encoder
from client.finetune.strategies.quality import lost_probes
from client.finetune.strategies.session import Session
from common.adapters.manifest import write_manifest
from common.base_models.architecture import hidden_size
from common.data.corpora import general_text
from common.files import write_atomic
from common.versions import package_versions

__all__ = ["finish"]


def finish(
    session: Session,
    metrics: Mapping[str, Any],
    train_metrics: Mapping[str, float],
    privacy: PrivacyGuarantee | None = None,
) -> FineTuningResult:
    """Save the trained adapter and the result, then delete the state of the training.

    Args:
        session: The opened job, with the trained model.
        metrics: Metrics on the test rows, and other measurements of the strategy.
        train_metrics: The record of the training, from `client.finetune.strategies.scaffold`.
        privacy: None if the rows are not protected.
    """
    job, model = session.job, session.model
    watched = watch_encoder(model, general_text(), job.probes)
    result = FineTuningResult(
        adapter=job.out / "adapter",
        base_model=session.manifest.base_model,
        strategy=job.strategy,
        tasks=tuple(session.manifest.tasks),
        method=session.settings.adapter.method,
        settings=_settings(session),
        train_metrics=dict(train_metrics),
        measured=dict(metrics),
        trainable_parameters=model.parameters_trained,
        total_parameters=model.parameters_total,
        parameter_efficiency=model.parameters_trained / model.parameters_total,
        seconds=round(time.monotonic() - session.started, 2),
        peak_memory_bytes=_peak_memory(model.base.device),
        privacy=privacy,
        encoder=watched,
        warnings=tuple(lost_probes(watched)),
    )
    facts = {
        "strategy": job.strategy,
        "metrics": result.measured,
        "data": session.fingerprints(),
        "privacy": None if privacy is None else privacy.to_json(),
    }
    manifest = write_manifest(session.manifest, model.base.digest, facts)
    model.save_pretrained(result.adapter, _card(session, result), {"fedfin.json": manifest})
    write_atomic(job.out / "result.json", (json.dumps(result.to_json(), indent=2) + "\n").encode(), 0o600)
    session.state.unlink(missing_ok=True)
    return result


def _settings(session: Session) -> dict[str, Any]:
    """Return every setting that the result depends on, with the rows, the device and the versions."""
    base, config = session.model.base, session.resolved.base_config
    tasks = [part.data.task for part in session.parts]
    return {
        **session.settings.to_record(),
        **usual_settings(session.settings, tasks, BaseFacts(hidden_size(config), base.max_tokens)),
        "pooling": session.manifest.pooling,
        "seed": session.job.seed,
        "selection_metric": session.metric,
        "device": base.device,
        "base_digest": base.digest,
        "data": session.fingerprints(),
        "rows": {part.data.task.name: part.sizes() for part in session.parts},
        "labels": {p.data.task.name: len(p.train.labels) for p in session.parts if p.data.task.head.labels_texts},
        "inspection": session.inspection,
        "versions": package_versions(),
    }


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _card(session: Session, result: FineTuningResult) -> dict[str, str]:
    labels = {name: ", ".join(each) for name, each in session.manifest.tasks.items()}
    privacy = result.privacy
    return {
        "Task": "; ".join(f"{name}: {each}" if each else name for name, each in labels.items()),
        "Trained by": f"fedfin, alone, strategy {result.strategy}, method {result.method}",
        "On the test rows": _format(result.measured),
        "Data fingerprint": ", ".join(f"{value[:16]} (keyed)" for value in session.fingerprints().values()),
        "Privacy": "none: trained without differential privacy"
        if privacy is None
        else f"epsilon {privacy.epsilon:.3f} at delta {privacy.delta:g} for one record added or removed (PLD)"
        + "".join(f"; not covered: {reason}" for reason in privacy.does_not_cover),
    }


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format(inner)}" for name, inner in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
