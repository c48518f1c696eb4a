"""The personal part of one institution in one run, on its disk: own tensors after each round, then its model.

Everything here stays inside. The directory holds the own tensors of the last two rounds, so that a round that is
trained again after a crash starts from the same ones, and at the end the personal model and the record.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from client.personalisation.record import RECORD, PersonalRecord, read_record
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import DESCRIPTION, Manifest, write_manifest
from common.config.run import RunConfig
from common.errors import CheckpointError
from common.files import write_atomic, write_json
from common.protocol.adapter_codec import Tensors, encode

__all__ = ["PersonalPart"]

_KEPT_ROUNDS = 2


class PersonalPart:
    """The directory of one personal part.

    Args:
        directory: See `client.institution.paths.InstitutionPaths.personal`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def before(self, round_: int) -> Tensors:
        """Return the own tensors that round `round_` starts from: those after the last earlier one. Empty if none.

        Raises:
            CheckpointError: The file is damaged.
        """
        earlier = [path for path in self._rounds() if int(path.stem) < round_]
        if not earlier:
            return {}
        try:
            return {name: np.asarray(value, np.float32) for name, value in load(earlier[-1].read_bytes()).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{earlier[-1]}: damaged: restore it from a backup, or leave the run") from error

    def keep(self, round_: int, tensors: Tensors) -> None:
        """Write the own tensors after round `round_`, and delete those of rounds that cannot come again."""
        if not tensors:
            return
        write_atomic(self.directory / f"{round_:010d}.safetensors", encode(tensors), mode=0o600)
        for old in self._rounds()[:-_KEPT_ROUNDS]:
            old.unlink()

    def record(self) -> PersonalRecord | None:
        """Return the record. None if the institution has no personal part of this run.

        Raises:
            CheckpointError: The file is damaged.
        """
        return read_record(self.directory)

    def write(self, record: PersonalRecord) -> None:
        """Write the record."""
        write_json(self.directory / RECORD, record.to_json(), mode=0o600)

    def save_model(self, model: AdaptedModel, config: RunConfig, labels: tuple[str, ...], record: PersonalRecord,
                   epsilon: float | None) -> None:  # fmt: skip
        """Write the personal model as an adapter that `fedfin-institution predict` reads.

        An unnoised part is marked as unprotected, so that a base model that it is merged into is refused for a run.

        Args:
            model: Holds the personal model.
            labels: Labels in the order of the model's outputs.
            epsilon: Privacy loss of the institution over this run. None without privacy.
        """
        manifest = Manifest(
            base_model=config.model.base,
            pooling=config.model.pooling,
            max_tokens=config.model.max_tokens,
            tasks={config.task: labels},
            adapter=config.adapter,
            seed=config.seed,
        )
        noised = record.noised and epsilon is not None
        privacy = {"epsilon": epsilon, "delta": config.privacy.delta, "unit": config.privacy.unit} if noised else None
        facts = {
            "strategy": f"federated, personal part: {record.method}",
            "metrics": {},
            "data": {},
            "privacy": privacy,
        }
        card = {
            "Task": f"{config.task}: {', '.join(labels)}",
            "Personal part": f"{record.method}. This model belongs to one institution and stays inside it",
            "Privacy": f"epsilon {epsilon:.3f} at delta {config.privacy.delta:g}"
            if noised
            else "NOT PRIVATE: no noise",
        }
        description = write_manifest(manifest, model.base.digest, facts)
        model.save_pretrained(self.directory / "adapter", card, {DESCRIPTION: description})

    def _rounds(self) -> list[Path]:
        return sorted(self.directory.glob("[0-9]*.safetensors"))
