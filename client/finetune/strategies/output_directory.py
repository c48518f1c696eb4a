"""The output directory of a job. It belongs to the job that began it.

It holds `job.json` (the job's identity), `state.pt` (during training), `adapter/` and `result.json`. If the job has no
institution, it also holds `keys/` and `ledger.jsonl`.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from client.finetune.job import FineTuningJob
from client.finetune.options.resolve import ResolvedJob
from client.institution.directory import InstitutionDirectory
from client.tracking.kinds import RECORDS
from common.canonical import canonical
from common.data.datasets import Dataset
from common.errors import CheckpointError, ConfigurationError
from common.files import write_atomic
from common.identity.keys import PrivateKeys

__all__ = ["claim", "identity_of", "keys_of", "refuse_another", "refuse_foreign"]

ALONE = "alone"
"""Name in the keys of a directory that belongs to no institution."""


def keys_of(job: FineTuningJob) -> PrivateKeys:
    """Return the keys of the institution, or those of the output directory."""
    if job.institution is not None:
        home = InstitutionDirectory(job.institution)
        home.settings()  # says that there is no institution, if there is none
        return home.keys()
    directory = job.out / "keys"
    return PrivateKeys.load(directory) if directory.exists() else PrivateKeys.generate(ALONE)


def identity_of(resolved: ResolvedJob, keys: PrivateKeys) -> str:
    """Return a digest of everything that the result depends on, keyed like the fingerprints of the rows."""
    job, key = resolved.job, keys.fingerprint_key()
    data = [[d.task.name, d.train.fingerprint(key), d.test.fingerprint(key)] for d in job.data]
    if job.previous is not None:
        old = job.previous
        data.append([str(old.adapter), old.train.fingerprint(key) if old.train else "", old.test.fingerprint(key)])
    values = {
        "strategy": job.strategy,
        "data": data,
        "model": resolved.manifest.to_record(),
        "settings": resolved.settings.to_record(),
        "privacy": None if job.privacy is None else asdict(job.privacy),
    }
    if further := job.further_inputs:
        values["further"] = {
            name: value.fingerprint(key) if isinstance(value, Dataset) else value for name, value in further.items()
        }
    return hashlib.sha256(canonical(values)).hexdigest()


def refuse_another(out: Path, identity: str) -> None:
    """Refuse an output directory that another job began, or that holds other files."""
    path = out / "job.json"
    try:
        known = json.loads(path.read_text())["identity"] if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: damaged: choose another output directory") from None
    if known is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: it is not an empty directory: choose another output directory")
    if known is not None and known != identity:
        raise CheckpointError(
            f"{out}: it holds another training (other settings or data): choose another output directory"
        )


def refuse_foreign(out: Path, own: Collection[str]) -> None:
    """Refuse a directory that holds other files than those that a strategy of several steps writes.

    Args:
        out: The output directory.
        own: Names that the strategy writes, beside the records of the training.
    """
    if out.exists() and (not out.is_dir() or _names(out) - {*own, *RECORDS}):
        raise ConfigurationError(f"{out}: it holds other files: choose another output directory")


def _names(out: Path) -> set[str]:
    """Return the names in the directory, without drafts of an interrupted job."""
    return {path.name for path in out.iterdir() if not path.name.startswith(".")}


def claim(out: Path, identity: str, keys: PrivateKeys) -> None:
    """Begin the directory. From here on it belongs to this job."""
    try:
        if keys.name == ALONE and not (out / "keys").exists():
            keys.save(out / "keys")
        if not (out / "job.json").exists():
            write_atomic(out / "job.json", (json.dumps({"identity": identity}) + "\n").encode())
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror}): choose another directory") from None
