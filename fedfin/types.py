"""The classes of results and of their parts, for annotations: `def chosen(result: FineTuningResult) -> Predictor`."""

from typing import TYPE_CHECKING

from common.lazy import lazy_names

if TYPE_CHECKING:
    from client.budget.verified_ledger import LedgerRun, RunStatement
    from client.budget.verified_ledger import VerifiedLedger as Ledger
    from client.finetune.domain import AdaptationResult, TextMeasures
    from client.finetune.result import FineTuningResult, PrivacyGuarantee, TrainingSummary
    from client.inference.predictor import Label, Predictor
    from common.evaluation.task_metrics import Metrics
    from common.privacy.accounting import DpSgdEvent, PrivacyLimit
    from common.privacy.charges import Charge
    from common.report.records import AuditResult, Baseline, RoundRecord
    from simulation.result import SimulationResult

__all__ = [
    "AdaptationResult",
    "AuditResult",
    "Baseline",
    "Charge",
    "DpSgdEvent",
    "FineTuningResult",
    "Label",
    "Ledger",
    "LedgerRun",
    "Metrics",
    "Predictor",
    "PrivacyGuarantee",
    "PrivacyLimit",
    "RoundRecord",
    "RunStatement",
    "SimulationResult",
    "TextMeasures",
    "TrainingSummary",
]

_PLACES = {
    "AdaptationResult": "client.finetune.domain:AdaptationResult",
    "AuditResult": "common.report.records:AuditResult",
    "Baseline": "common.report.records:Baseline",
    "Charge": "common.privacy.charges:Charge",
    "DpSgdEvent": "common.privacy.accounting:DpSgdEvent",
    "FineTuningResult": "client.finetune.result:FineTuningResult",
    "Label": "client.inference.predictor:Label",
    "Ledger": "client.budget.verified_ledger:VerifiedLedger",
    "LedgerRun": "client.budget.verified_ledger:LedgerRun",
    "Metrics": "common.evaluation.task_metrics:Metrics",
    "Predictor": "client.inference.predictor:Predictor",
    "PrivacyGuarantee": "client.finetune.result:PrivacyGuarantee",
    "PrivacyLimit": "common.privacy.accounting:PrivacyLimit",
    "RoundRecord": "common.report.records:RoundRecord",
    "RunStatement": "client.budget.verified_ledger:RunStatement",
    "SimulationResult": "simulation.result:SimulationResult",
    "TextMeasures": "client.finetune.domain:TextMeasures",
    "TrainingSummary": "client.finetune.result:TrainingSummary",
}

__getattr__, __dir__ = lazy_names(__name__, _PLACES)
