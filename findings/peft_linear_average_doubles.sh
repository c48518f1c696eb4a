#!/usr/bin/env bash
# PEFT's "linear" average of a LoRA adapter with itself, weights .5 and .5, is twice the adapter.
#
# Packages: peft 0.21.2, transformers 5.23.0, torch 2.13.0 (CPU), accelerate 1.15.0, numpy 2.4.6.
# Behaviour: add_weighted_adapter(["a", "b"], [.5, .5], combination_type="linear") multiplies the factors A and B of each
#   adapter by sqrt(.5) and adds them factor by factor. The product then holds the cross terms B_a A_b and B_b A_a. With
#   a = b the merged update is 2.0 times the update of a. With two unrelated adapters it is 1.5 times as long as the mean and
#   points 41 degrees away from it. "ties" gives half of the adapter. "cat" gives the mean, and so does "svd" here.
# Why it matters: averaging adapters is the basis of exchanging them. Two institutions that merge equal adapters this way
#   double the update, and a merge of many (sum of weights 1) grows with their number: four copies give 4.0.
# Seen, length over the true mean: two copies: linear 2.000, cat 1.000, svd 1.000, ties 0.500. Four copies: linear 4.000.
#   Unrelated adapters: linear 1.54, cosine 0.76.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel

torch.manual_seed(0)
sizes = BertConfig(vocab_size=50, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
names = ["a", "b", "c", "d", "other"]


def config() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=4, target_modules=["query", "value"])


model = get_peft_model(BertModel(sizes), config(), adapter_name="a")
for name in names[1:]:
    model.add_adapter(name, config())
layers = [m for m in model.modules() if hasattr(m, "get_delta_weight")]
with torch.no_grad():
    for layer in layers:
        layer.lora_B["a"].weight.normal_()
        layer.lora_B["other"].weight.normal_()
        for name in ("b", "c", "d"):
            layer.lora_A[name].weight.copy_(layer.lora_A["a"].weight)
            layer.lora_B[name].weight.copy_(layer.lora_B["a"].weight)


def compare(members: list[str], kind: str) -> tuple[float, float]:
    merged = f"{kind}_{'_'.join(members)}"
    extra = {"density": 1.0} if kind == "ties" else {}
    model.add_weighted_adapter(members, [1 / len(members)] * len(members), merged, combination_type=kind, **extra)
    with torch.no_grad():
        got = torch.cat([layer.get_delta_weight(merged).flatten() for layer in layers])
        mean = torch.cat([sum(layer.get_delta_weight(m) for m in members).flatten() / len(members) for layer in layers])
    return (got.norm() / mean.norm()).item(), torch.cosine_similarity(got, mean, 0).item()


twice = {kind: compare(["a", "b"], kind)[0] for kind in ("linear", "cat", "svd", "ties")}
four = compare(["a", "b", "c", "d"], "linear")[0]
other, cosine = compare(["a", "other"], "linear")
print("two copies:", {kind: round(ratio, 3) for kind, ratio in twice.items()}, "four copies, linear:", round(four, 3))
print(f"unrelated adapters, linear: length {other:.2f} of the mean, cosine {cosine:.2f}")
expected = {"linear": 2.0, "cat": 1.0, "svd": 1.0, "ties": 0.5}
if any(abs(twice[k] - v) > 0.01 for k, v in expected.items()) or abs(four - 4) > 0.01 or not 1.2 < other < 1.6:
    sys.exit("changed: the linear combination is no longer twice the adapter")
PY
cd "$work" && "$work/venv/bin/python" -W ignore "$work/check.py"
