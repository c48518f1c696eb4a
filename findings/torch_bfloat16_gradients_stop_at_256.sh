#!/usr/bin/env bash
# On a processor the bfloat16 gradients of an embedding row and of a LayerNorm bias stop growing at 256 uses.
#
# Packages: torch 2.13.0 (CPU), numpy 2.4.6.
# Behaviour: the backward passes of Embedding and LayerNorm (bias) add one token after another in bfloat16. From 256 on,
#   adding 1 no longer changes the sum. 3,840 uses with gradient 1 give 256 in place of 3,840 (float16: 2,048). The same
#   sums by index_add, scatter_add, sum, a matrix product, or through broadcasting are right, as those kernels add in
#   float32. So matrices train correctly and these two do not. Each thread has a LayerNorm sum of its own, so two threads
#   give 512: the gradient depends on the number of cores. It also depends on how rows are split into batches: 15 backward
#   passes of 256 uses give 3,840.
# Why it matters: new words (trained embedding rows), a padding or newline token, and the biases of an encoder in bfloat16 are
#   concerned as soon as a batch has more than some hundred tokens. Institutions that train on processors get gradients up
#   to 15 times too small, and others do not.
# Seen: embedding 256, LayerNorm bias 256 (one thread) and 512 (two threads). index_add, scatter_add, sum,
#   matmul and broadcast 3840. Embedding in 15 parts: 3840.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import torch
from torch.nn.functional import one_hot

USES, WIDTH = 3840, 8


def sums(dtype: torch.dtype) -> dict[str, float]:
    ids = torch.full((USES,), 3)
    ones = torch.ones(USES, WIDTH, dtype=dtype)
    torch.set_num_threads(1)
    embedding = torch.nn.Embedding(10, WIDTH, dtype=dtype)
    embedding(ids).backward(ones)
    parts = torch.nn.Embedding(10, WIDTH, dtype=dtype)
    for chunk in ids.split(256):
        parts(chunk).backward(torch.ones(len(chunk), WIDTH, dtype=dtype))
    biases = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        norm = torch.nn.LayerNorm(WIDTH, dtype=dtype)
        norm(torch.arange(WIDTH, dtype=dtype).expand(USES, WIDTH)).backward(ones)
        biases.append(norm.bias.grad)
    broadcast = torch.zeros(WIDTH, dtype=dtype, requires_grad=True)
    (broadcast + ones).backward(ones)
    zeros = torch.zeros(10, WIDTH, dtype=dtype)
    rows = {
        "embedding": embedding.weight.grad[3],
        "embedding in 15 parts": parts.weight.grad[3],
        "LayerNorm bias": biases[1],
        "LayerNorm, 2 threads": biases[0],
        "index_add": zeros.clone().index_add_(0, ids, ones)[3],
        "scatter_add": zeros.clone().scatter_add_(0, ids[:, None].expand(-1, WIDTH), ones)[3],
        "sum": ones.sum(0),
        "matmul": (one_hot(ids, 10).to(dtype).T @ ones)[3],
        "broadcast": broadcast.grad,
    }
    return {name: row[0].item() for name, row in rows.items()}


single, half = sums(torch.float32), sums(torch.bfloat16)
for name in single:
    print(f"{name:22} float32 {single[name]:.0f}, bfloat16 {half[name]:.0f}")
low = [name for name, value in half.items() if value != USES]
if set(single.values()) != {float(USES)} or [half[n] for n in low] != [256.0, 256.0, 512.0]:
    sys.exit("changed: other bfloat16 sums than before stop at 256")
PY
"$work/venv/bin/python" "$work/check.py"
