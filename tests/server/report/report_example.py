"""A made-up but realistic output directory for the report's tests. Run as a script it writes one to look at."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from common.canonical import canonical

BANKS = {"retail_bank": 0.86, "commodities_desk": 0.71, "credit_fund": 0.79, "fx_desk": 0.76}
COVERS = ["every adapter sent to the hub in this run, and everything computed from them"]
DOES_NOT_COVER = [
    "the choice of hyperparameters, where it was made on private rows",
    "several records of one person: the unit is one record, not one customer",
    "the hub's test set, which is taken to be public",
    "the hub's choice of institutions: it sees whom it asks, so no amplification is claimed from it",
]
CONFIG: dict[str, Any] = {
    "name": "four banks",
    "seed": 7,
    "rounds": 6,
    "task": "sentiment_analysis",
    "labels": ["negative", "neutral", "positive"],
    "model": {"base": "minilm", "pooling": "mean", "max_tokens": 64, "dtype": "float32"},
    "adapter": {"rank": 8, "alpha": 16.0, "target_modules": "all-linear", "layers": "last:2", "trained_factors": "B"},
    "training": {"local_steps": 20, "sampling_rate": 0.125, "learning_rate": 0.01, "optimizer": "adam"},
    "privacy": {"mode": "target", "target_epsilon": 8.0, "clipping_norm": 1.0, "delta": 1e-4},
    "aggregation": {
        "weighting": "declared_units",
        "server_optimizer": "none",
        "institutions_per_round": None,
        "quorum": 2,
    },
}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _round(k: int, banks: dict[str, float], refuse: bool) -> dict[str, Any]:
    names = list(banks)
    absent = (
        {names[1]: "declined:budget"} if refuse and k >= 5 else {names[3]: "failed:silent"} if refuse and k == 2 else {}
    )
    gain = 1 - 0.55 ** (k + 1)
    inner = {
        n: {"accuracy": 0.38 + (v - 0.38) * gain, "weighted_f1": 0.36 + (v - 0.38) * gain} for n, v in banks.items()
    }
    here = [n for n in names if n not in absent]
    whole = {key: sum(m[key] for m in inner.values()) / len(inner) for key in ("accuracy", "weighted_f1")}
    spent = {n: 8.0 * ((k if n != names[1] or not refuse else min(k, 4)) / 6) ** 0.5 * (1 - 0.013 * i)
             for i, n in enumerate(names)}  # fmt: skip
    for name in absent:
        del spent[name]
    return {
        "round": k,
        "asked": names,
        "contributed": here,
        "outcomes": {n: absent.get(n, "contributed") for n in names},
        "metrics": {**whole, "macro_f1": whole["weighted_f1"] - 0.03},
        "by_institution": inner,
        "epsilon": spent,
        "bytes_up": 131_684 * len(here),
        "bytes_down": 133_020 * len(names),
        "seconds": 24.1 + 0.3 * k,
        "adapter_digest": f"{k:x}" * 64,
    }


def write_example(
    out: Path, *, noise: str = "system", refuse: bool = True, rename: dict[str, str] | None = None, equal: bool = False
) -> Path:
    """Write the files that a finished simulation leaves. `equal` gives all institutions the same epsilon."""
    banks = {(rename or {}).get(name, name): value for name, value in BANKS.items()}
    history = [_round(k, banks, refuse) for k in range(1, 7)]
    if equal:
        for record in history:
            record["epsilon"] = dict.fromkeys(banks, record["epsilon"][next(iter(banks))])
    spent = {name: max(record["epsilon"].get(name, 0.0) for record in history) for name in banks}
    rows = [
        ("majority guess", 0.412, 0.24, None, "knows only which label is commonest"),
        (
            "bag of words, all rows pooled",
            0.704,
            0.699,
            None,
            "TF-IDF + logistic regression; no privacy, shares the text",
        ),
        ("base model, head untrained", 0.31, 0.148, None, "before round 1"),
        *((f"{n} alone", v - 0.19, v - 0.2, spent[n], "same steps and noise") for n, v in banks.items()),
    ]
    _write(out / "result.json", {
        "name": "four banks", "task": "sentiment_analysis", **history[-1]["metrics"], "rounds": 6, "epsilon": spent,
        "delta": 1e-4, "bytes_up": sum(r["bytes_up"] for r in history),
        "bytes_down": sum(r["bytes_down"] for r in history),
        "seconds": 151.2, "adapter": str(out / "adapter"), "adapter_digest": "6" * 64, "noise": noise, "unit": "record",
        "labels": CONFIG["labels"], "adjacency": "add-or-remove-one", "engine": "in-process",
        "parameters_trained": 32_643, "parameters_total": 22_745_859,
        "baselines": [dict(zip(("name", "accuracy", "weighted_f1", "epsilon", "note"), r, strict=True)) for r in rows],
    })  # fmt: skip
    _write(out / "history.json", history)
    _write(out / "config.json", CONFIG)
    _write(out / "versions.json", {"python": "3.11.9", "torch": "2.9.0", "opacus": "1.6.0", "peft": "0.21.2"})
    _write(out / "run.json", {"run_id": "four-banks-0123456789ab", "source": "/home/someone/private/four.toml"})
    _write(out / "data.json", {"names": {}, "notes": []})
    (out / "config.toml").write_text(
        '[run]\nname = "four banks"\nseed = 7\nrounds = 6\n\n[task]\nname = "sentiment_analysis"\n'
    )
    for index, name in enumerate(banks):
        _write(out / "institutions" / f"bank-{index}" / "statement.json", {
            "institution": name, "unit": "record", "adjacency": "add-or-remove-one", "sampler": "Poisson",
            "noise_multiplier": 0.7214, "clipping_norm": 1.0, "sampling_probability": 0.125, "steps": 120,
            "delta": 1e-4,
            "epsilon_run": spent[name], "epsilon_cumulative": spent[name] + (0.8 if index == 2 else 0),
            "epsilon_prv": spent[name] - 0.004, "max_epsilon": 10.0, "accountant": "PLD, dp-accounting 0.6.0",
            "covers": COVERS, "does_not_cover": DOES_NOT_COVER, "ledger_entries": 12,
            "epsilon_rdp": spent[name] + 0.9, "data_fingerprints": ["9f2c44aa01be"], "gaussian_mu": 1.7813,
            "attack": [{"false_positive_rate": 0.01, "true_positive_rate": 0.27064}],
            "groups": [{"units": 2, "epsilon": 19.651, "delta": 1e-4}],
            "adversaries": [{"name": "the hub", "sees": "every adapter", "epsilon_run": spent[name],
                             "epsilon_all_runs": "infinity"}],
            "noise_source": "operating system" if noise == "system" else "fixed seed: NOT PRIVATE",
        })  # fmt: skip
    return out


def write_audit(out: Path, **changes: Any) -> None:
    """The files that an audit of the example leaves beside it."""
    digest = hashlib.sha256(canonical(json.loads((out / "config.json").read_text()))).hexdigest()
    found = {
        "claimed_epsilon": 2.0, "lower_bound": 0.553, "confidence": 0.95, "delta": 1e-5, "unit": "record",
        "canaries": 500, "guesses": 250, "right_guesses": 156, "largest_possible_bound": 4.67, "noise_multiplier": 3.4,
        "claimed_noise_multiplier": 3.4, "planted": False, "clipping_norm": 0.5, "sampling_probability": 0.25,
        "steps": 40, "steps_attacked": 40, "failed": [], "config_digest": digest,
        "checks": [
            {"name": "noise scale", "quantity": "standard deviation of the noise, over sigma C", "measured": 1.002,
             "stated": 1.0, "p_value": 0.7, "passed": True},
            {"name": "sensitivity", "quantity": "largest change by one record more or less, over C", "measured": 0.999,
             "stated": 1.0, "p_value": None, "passed": True},
        ],
        "inversion": {"rank": 8, "sentences": 10, "tokens": 50, "plain": 50, "clipped": 50, "private": 0,
                      "chance": 0.0016, "place": 0.49, "example": ["profit <warning>", "profit <w>", "outer"]},
    }  # fmt: skip
    _write(out / "audit.json", found | changes)


if __name__ == "__main__":
    write_example(Path(sys.argv[1]), noise=sys.argv[2])
