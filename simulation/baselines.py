"""Train the models that the federation is compared with: each bank alone, and simple models on the same data.

These trainings belong to the simulation, which sees all data. A real bank would pay for such a training from its own
budget, so each bank alone is trained with exactly the privacy of the federated run.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from client.dp.noise import FixedNoise, SystemNoise
from client.dp.training import train
from client.federation.local_round import plan_training
from common.adapters.feature_cache import FeatureCache
from common.data.datasets import Dataset, Example
from common.evaluation.metrics import ConfusionMatrix
from common.protocol.adapter_codec import Tensors
from common.report.records import Baseline
from common.tasks import task
from server.results.evaluation import HubEvaluator
from server.rounds.aggregation import OptimizerState, optimizer_of_round
from server.rounds.coordinator import Evaluation
from simulation.partition import Federation
from simulation.workspace import Workspace

__all__ = ["alone", "bag_of_words", "compute_baselines", "majority"]


def _row(name: str, predicted: list[int], test: Dataset, note: str) -> Baseline:
    counts = ConfusionMatrix.of([e.label for e in test.examples if isinstance(e, Example)], predicted, len(test.labels))
    return Baseline(name=name, accuracy=counts.accuracy, weighted_f1=counts.weighted_f1, note=note)


def majority(federation: Federation) -> Baseline:
    """Return the model that always answers the most frequent label of the training rows."""
    test = federation.test
    labels = Counter(e.label for d in federation.train.values() for e in d.examples if isinstance(e, Example))
    return _row(
        "majority guess", [labels.most_common(1)[0][0]] * len(test), test, "knows only which label is commonest"
    )


def bag_of_words(federation: Federation) -> Baseline:
    """Train TF-IDF (words and pairs) and logistic regression on the rows of all banks, without privacy.

    Its regularisation is chosen by cross-validation, so that the comparison is fair.
    """
    rows = [e for _, d in sorted(federation.train.items()) for e in d.examples if isinstance(e, Example)]
    model = GridSearchCV(
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": [0.1, 0.3, 1.0, 3.0, 10.0]},
        cv=3,
    )
    model.fit([e.text for e in rows], [e.label for e in rows])
    test = federation.test
    predicted = [int(label) for label in model.predict([e.text for e in test.examples if isinstance(e, Example)])]
    return _row("bag of words", predicted, test, "all rows pooled in one place, no privacy")


def alone(workspace: Workspace, evaluator: Callable[[Tensors], Evaluation], name: str) -> Baseline:
    """Train one bank as a federation of its own: its rows, with the rounds, noise, clip and hub optimiser of the run.

    Args:
        workspace: The run.
        evaluator: Evaluates an adapter on the test set.
        name: The bank.
    """
    agent, config = workspace.institution(name), workspace.config
    local = agent.prepare(config)
    if config.aggregation.secure:  # alone it adds the whole noise itself
        config = replace(config, aggregation=replace(config.aggregation, secure=False, honest=None, threshold=None))
    num_units = local.data.units(config.privacy.unit)
    noise = (
        FixedNoise(f"alone|{name}|{config.seed}".encode().ljust(32)[:32])
        if agent.institution.noise == "fixed"
        else SystemNoise()
    )
    adapter, memory, cache = local.adapted.initial(), OptimizerState(), FeatureCache()
    for number in range(1, config.rounds + 1):
        local.adapted.load(adapter)
        plan = plan_training(config, agent.institution, num_units, number)
        train(local.adapted, local.data.tokens, plan, noise if plan.dp else None, cache=cache)
        optimizer = optimizer_of_round(config.aggregation, number, config.rounds)
        adapter, memory = optimizer.step(adapter, local.adapted.export(), memory)
    evaluation = evaluator(adapter)
    metrics, own = evaluation.metrics, dict(evaluation.by_institution.get(name, {}))
    note = f"{len(local.data.tokens)} rows, same rounds and noise"
    return Baseline(
        name=f"{name} alone", accuracy=metrics["accuracy"], weighted_f1=metrics["weighted_f1"], note=note, own=own
    )


def compute_baselines(
    workspace: Workspace,
    evaluator: HubEvaluator,
    epsilon: Mapping[str, float | None],
    on_done: Callable[[str], None] | None = None,
) -> list[Baseline]:
    """Return majority guess, bag of words, the base model before round 1, and each bank alone.

    A token task has neither majority guess nor bag of words.

    Args:
        workspace: The run.
        evaluator: Evaluates an adapter on the test set.
        epsilon: Of each institution in the federation, which is that of the bank alone.
        on_done: Called with the name of each bank when its training has ended.
    """
    rows: list[Baseline] = []
    if task(workspace.config.task).head.labels_texts:
        rows += [majority(workspace.federation), bag_of_words(workspace.federation)]
    untrained = evaluator(workspace.models.adapted.initial()).metrics
    rows.append(
        Baseline(
            name="base model, head untrained",
            accuracy=untrained["accuracy"],
            weighted_f1=untrained["weighted_f1"],
            note="before round 1",
        )
    )
    for name in sorted(workspace.federation.train):
        row = alone(workspace, evaluator, name)
        rows.append(replace(row, epsilon=epsilon.get(name)))
        if on_done is not None:
            on_done(name)
    return rows
