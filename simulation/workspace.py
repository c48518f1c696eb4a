"""The output directory of a simulated run: laid out once, reopened by `resume` and by Flower's worker processes.

Hub and institutions are those of a deployment, each in a directory of its own under `out`.
"""

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from client.agent.agent import Agent, LocalModel
from client.agent.models import readable_rows, reads_in_pieces
from client.dp.training import verify_training
from client.federation.local_round import PreparedData, plan_training
from client.inspection.look import look_at_rows
from client.institution.config import InstitutionConfig
from client.institution.paths import InstitutionPaths
from client.personalisation.methods import method_of
from common.adapters.feature_cache import FeatureCache
from common.adapters.travelling import travelling_spec
from common.adapters.warm_up import needs_warm_up, warm_up
from common.base_models.resolve import pinned
from common.config.run import RunConfig
from common.data.corpora import general_text, public_texts
from common.data.datasets import select_labels
from common.errors import CheckpointError, ConfigurationError, ModelError
from common.events import Observer
from common.files import write_atomic, write_json
from common.identity.keys import PrivateKeys
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import Tensors, decode, encode
from common.protocol.envelope import PublicKeys
from common.tasks import task
from common.versions import package_versions
from server.rounds.assignments import FederationContext
from simulation.checks import check_run, institution_settings
from simulation.config import SimulationConfig, load_simulation
from simulation.loading import federation_of
from simulation.models import Models
from simulation.partition import Federation
from simulation.run_directory import read_note, refuse_used

__all__ = ["Workspace"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The directory of one run, and its configuration and rows."""

    out: Path
    simulation: SimulationConfig
    run_id: str
    federation: Federation

    @property
    def config(self) -> RunConfig:
        """The part of the configuration that the hub signs into every assignment."""
        return self.simulation.run

    @classmethod
    def create(cls, source: Path, out: Path, changes: Sequence[str] = ()) -> "Workspace":
        """Read and validate everything that a configuration names, then lay the directory out.

        Raises:
            ConfigurationError, DataError, ModelError: before anything is written.
        """
        refuse_used(out)
        simulation = load_simulation(source, changes=changes)
        return cls.begin(simulation, federation_of(simulation), out)

    @classmethod
    def begin(cls, simulation: SimulationConfig, federation: Federation, out: Path) -> "Workspace":
        """Validate the run over rows that were read, then lay its new directory out.

        Raises:
            ConfigurationError, DataError, ModelError: Before anything is written.
        """
        refuse_used(out)
        workspace = cls._with(simulation, federation, out)
        workspace._lay_out()
        return workspace

    @classmethod
    def over(cls, simulation: SimulationConfig, federation: Federation, out: Path) -> "Workspace":
        """Return the run over data sets in memory: a new directory, or the one that an equal call began.

        Raises:
            ConfigurationError, DataError, ModelError: Before anything is written.
            CheckpointError: `out` holds another run, or one over other data.
        """
        workspace = cls._with(simulation, federation, out)
        if not (out / "run.json").exists():
            return cls.begin(simulation, federation, out)
        run_id, _, data = read_note(out)
        if (run_id, data) != (workspace.run_id, workspace.data_digest()):
            raise CheckpointError(f"{out}: it holds another run (other settings or data): choose another directory")
        return workspace

    def _lay_out(self) -> None:
        """Validate the run, then write its directory."""
        self._check()
        self.models.base  # noqa: B018 - an absent base model must be known before anything is written
        self._check_gradients()
        out, source = self.out, self.simulation.source
        write_atomic(out / "config.toml", self.simulation.text.encode())
        write_json(out / "versions.json", package_versions())
        write_json(out / "config.json", json.loads(self.config.to_json()))
        write_json(out / "data.json", {"names": dict(self.federation.names), "notes": list(self.federation.notes)})
        PrivateKeys.generate("hub").save(out / "hub")
        for name in self.federation.train:
            directory = out / "institutions" / name
            keys = PrivateKeys.generate(name)
            keys.save(directory / "keys")
            PrivacyLedger.open(directory / "ledger.jsonl", keys).close()
            write_json(directory / "settings.json", asdict(self.settings(name)))
        self._look_at_rows()
        # Written last: a directory with run.json is a complete one.
        place = None if source is None else str(source.resolve())
        write_json(out / "run.json", {"run_id": self.run_id, "source": place, "data": self.data_digest()})

    def _look_at_rows(self) -> None:
        """Look at the rows of each institution once, for its own directory. The hub's files show nothing of it."""
        tokenizer = None if reads_in_pieces(self.config) else self.models.base.tokenizer
        for name, rows in self.federation.train.items():
            found = look_at_rows(({name: rows},), log, tokenizer, self.config.model.max_tokens)
            if found is not None:
                write_json(InstitutionPaths(self.out / "institutions" / name).inspection_path, found, 0o600)

    @classmethod
    def reopen(cls, out: Path) -> "Workspace":
        """Open a directory that `create` laid out, for `resume` or in a worker process.

        Raises:
            CheckpointError: it is not a run's directory, or the data has changed since.
        """
        _, source, data = read_note(out)
        if source is None:
            raise CheckpointError(
                f"{out}: its rows were given from Python and are in no file: call fedfin.simulate with them again"
            )
        simulation = load_simulation(out / "config.toml", relative_to=source.parent)
        workspace = cls._with(simulation, federation_of(simulation), out)
        if workspace.data_digest() != data:
            raise CheckpointError(f"{out}: the data has changed since this run began: start a new run")
        return workspace

    @classmethod
    def _with(cls, simulation: SimulationConfig, federation: Federation, out: Path) -> "Workspace":
        # Labels of the data and digest of the base model become part of the signed configuration.
        run = replace(simulation.run, labels=federation.test.labels, model=pinned(simulation.run.model))
        simulation = replace(simulation, run=run)
        return cls(out.resolve(), simulation, f"{simulation.run.name}-{simulation.run.digest()[:12]}", federation)

    def _check(self) -> None:
        """Plan the training of every institution, and read the public text, before any file is written."""
        if task(self.config.task).head.is_language_modelling:
            self._public_texts()
        check_run(self.simulation, self.federation)
        for name, dataset in self.federation.train.items():
            plan_training(self.config, self.settings(name), dataset.units(self.config.privacy.unit))

    def _check_gradients(self) -> None:
        """Refuse a model that cannot be trained privately, or have the personal part, before any ledger is charged."""
        try:
            method_of(self.config.personalisation).check(self.models.adapted)
        except ModelError as error:
            raise ConfigurationError(str(error)) from error
        if self.config.privacy.mode == "none":
            return
        name, dataset = next(iter(self.federation.train.items()))
        plan = plan_training(self.config, self.settings(name), dataset.units(self.config.privacy.unit))
        verify_training(self.models.adapted, plan)

    def data_digest(self) -> str:
        """Return a fingerprint of all training rows, which one process sees in a simulation."""
        return "-".join(d.fingerprint(b"simulation")[:8] for _, d in sorted(self.federation.train.items()))

    def settings(self, name: str) -> InstitutionConfig:
        """The settings of one simulated institution, from the configuration's [institutions]."""
        return institution_settings(self.simulation, self.federation, name)

    @functools.cached_property
    def models(self) -> Models:
        """The models, which all institutions of this process share."""
        return Models(self.config, self.federation)

    def start(self, observers: Sequence[Observer] = ()) -> Tensors:
        """Return the adapter before round 1, computed once and saved.

        If the base model lacks a language-model head, a new one is warmed up on public text.

        Args:
            observers: Called after each step of the warm-up.
        """
        kept = self.out / "start.safetensors"
        if kept.exists():
            return decode(kept.read_bytes(), self.models.adapted.spec)
        self.models.adapted.load(self.models.adapted.initial())
        if needs_warm_up(self.models.adapted):
            warm_up(
                self.models.adapted,
                self._public_texts(),
                max_batch_tokens=self.config.training.max_batch_tokens,
                seed=self.config.seed,
                observers=observers,
            )
        start = self.models.adapted.export()
        write_atomic(kept, encode(start))
        return start

    def _public_texts(self) -> list[str]:
        data = self.simulation.data
        if data is None:
            return general_text()
        return public_texts(data.public, data.public_texts, self.config.seed)

    def institution(self, name: str) -> Agent:
        """Open one institution: keys, ledger and outbox from its directory, rows from the federation."""
        directory = self.out / "institutions" / name
        keys = PrivateKeys.load(directory / "keys")
        dataset, test = self.federation.train[name], self.federation.test_by_institution.get(name)

        @functools.cache
        def local() -> LocalModel:
            labels, model = self.models.labels(name), self.models.of(name)
            rows = select_labels(dataset, labels) if labels else dataset
            tokens = model.encode_dataset(readable_rows(rows, model, self.config))
            data = PreparedData(tokens, dataset.fingerprint(keys.fingerprint_key()), FeatureCache())
            own_test = select_labels(test, labels) if test is not None and labels else test
            return LocalModel(model, data, self.models.base.digest, labels, own_test)

        def prepare(config: RunConfig) -> LocalModel:
            if config.digest() != self.config.digest():
                raise ConfigurationError("the assignment's configuration is not this run's")
            return local()

        # A simulated officer approves all institutions of the run.
        return Agent(
            directory, self.settings(name), keys, self.hub_keys.public, prepare, peers=lambda: self.public_keys
        )

    @functools.cached_property
    def hub_keys(self) -> PrivateKeys:
        return PrivateKeys.load(self.out / "hub")

    @functools.cached_property
    def public_keys(self) -> dict[str, PublicKeys]:
        """The public keys of all institutions by name."""
        return {
            name: PublicKeys.load(self.out / "institutions" / name / "keys" / "public.json")
            for name in sorted(self.federation.train)
        }

    def hub(self) -> FederationContext:
        """Return the hub's keys, the institutions' public keys, the run, and the tensors that travel."""
        return FederationContext(
            keys=self.hub_keys,
            institutions=self.public_keys,
            config=self.config,
            spec=travelling_spec(self.models.adapted, self.config),
            head_names=self.models.adapted.head_names(),
        )
