#!/usr/bin/env bash
# Opacus says that it ignores drop_last, and then takes every row in every step.
#
# Packages: opacus 1.6.0, torch 2.13.0 (CPU), numpy 2.4.6, scipy 1.17.1.
# Behaviour: make_private replaces the data loader by Poisson sampling with rate 1 / len(loader), not batch / rows. Without
#   drop_last 100 rows in batches of 64 give rate .5 and not .64. With drop_last=True the loader counts 1 batch, so the rate
#   is 1.0: each step sees all 100 rows. The warning says "Ignoring drop_last as it is not compatible with DPDataLoader".
#   The accountant uses the same rate, so epsilon is not wrong. It is far larger than for the batch that was asked for.
# Why it matters: small institutions have few batches an epoch, and drop_last is common in scripts. Sampling gives no
#   amplification any more, batches are larger than memory was planned for, and runs at two institutions with equal settings
#   differ in rate by up to 2. Compute the rate from rows and batch size, and sample yourself.
# Seen: 100 rows, batch 64: rate 0.5, with drop_last 1.0, batches [100, 100, ...]. 1,000 rows, batch 512: the same. Epsilon of
#   100 steps at sigma 2 and delta 1e-5: 20.5 at rate .64, 35.1 at rate 1.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 opacus==1.6.0 numpy==2.4.6 scipy==1.17.1
cat > "$work/check.py" <<'PY'
import logging
import sys
import warnings

import torch
from opacus import PrivacyEngine
from opacus.accountants import RDPAccountant
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def private(rows: int, batch: int, drop_last: bool):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(TensorDataset(torch.zeros(rows, 1)), batch_size=batch, drop_last=drop_last)
    _, _, sampled = PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=2.0, max_grad_norm=1.0
    )
    return sampled.sample_rate, [len(part[0]) for _ in range(4) for part in sampled]


def epsilon(rate: float) -> float:
    accountant = RDPAccountant()
    accountant.history = [(2.0, rate, 100)]
    return accountant.get_epsilon(1e-5)


seen = {}
for rows, batch in ((100, 64), (1000, 512)):
    for drop_last in (False, True):
        rate, sizes = private(rows, batch, drop_last)
        seen[rows, drop_last] = rate, sizes
        print(
            f"{rows} rows, batch {batch}, drop_last {drop_last}: rate {rate} (asked {batch / rows}), batches {sizes[:4]}"
        )
print(f"epsilon of 100 steps, sigma 2: rate .64 {epsilon(0.64):.1f}, rate 1.0 {epsilon(1.0):.1f}")
full = all(seen[rows, True][0] == 1.0 and set(seen[rows, True][1]) == {rows} for rows in (100, 1000))
if not (full and seen[100, False][0] == 0.5 and epsilon(1.0) > 1.3 * epsilon(0.64)):
    sys.exit("changed: drop_last no longer makes Opacus take every row")
PY
"$work/venv/bin/python" "$work/check.py"
