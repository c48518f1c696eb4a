#!/usr/bin/env bash
# Trainer with gradient_accumulation_steps=4 makes gradients four times too large for every head except causal LM.
#
# Packages: transformers 5.23.0, accelerate 1.15.0, torch 2.13.0 (CPU), numpy 2.4.6.
# Behaviour: one step of plain SGD on 16 rows must be the same as one batch of 16 or as 4 batches of 4. For causal language
#   models it is. For classification of texts and tokens, regression, masked language modelling and T5 the step is about
#   4 times as long. Trainer does not divide the loss if forward() takes **kwargs, in the belief that the head divides by
#   num_items_in_batch, and these heads do not. The logged training loss is 4 times too high as well. Nothing is said.
# Why it matters: accumulation is how a large batch fits on a small device. Adam hides the factor in part. SGD, gradient
#   clipping (max_grad_norm 1.0 by default) and any federated scheme that sends gradients or compares losses do not.
# Seen, length of the step with 4 x 4 over 1 x 16: text 4.000, token 4.87, regression 4.000, masked LM 4.08, T5 3.94, causal
#   LM 1.000. Logged loss of the text head: 1.098 and 4.393.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
ids = torch.randint(3, 60, (16, 12))
tags = torch.randint(0, 3, (16, 12))
tags[:8, 3:] = -100
rows = {"text": torch.randint(0, 3, (16,)), "token": tags, "regression": torch.randn(16)}
rows.update({name: tags for name in ("masked LM", "T5", "causal LM")})
size = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
still = {**size, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
models = {
    "text": lambda: BertForSequenceClassification(BertConfig(num_labels=3, **still)),
    "token": lambda: BertForTokenClassification(BertConfig(num_labels=3, **still)),
    "regression": lambda: BertForSequenceClassification(BertConfig(num_labels=1, **still)),
    "masked LM": lambda: BertForMaskedLM(BertConfig(**still)),
    "T5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=60,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
            pad_token_id=0,
            decoder_start_token_id=0,
        )
    ),
    "causal LM": lambda: LlamaForCausalLM(LlamaConfig(pad_token_id=0, **size)),
}


def step(name: str, batch: int, accumulate: int) -> tuple[float, float]:
    torch.manual_seed(1)
    model = models[name]()
    before = [p.detach().clone() for p in model.parameters()]
    arguments = TrainingArguments(
        "out",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        max_steps=1,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
    )
    data = [
        {"input_ids": i, "attention_mask": torch.ones_like(i), "labels": y}
        for i, y in zip(ids, rows[name], strict=True)
    ]
    loss = Trainer(model=model, args=arguments, train_dataset=data).train().training_loss
    moved = [(p.detach() - q).flatten() for p, q in zip(model.parameters(), before, strict=True)]
    return torch.cat(moved).norm().item(), loss


ratios = {}
for name in models:
    (whole, loss), (parts, loss_of_parts) = step(name, 16, 1), step(name, 4, 4)
    ratios[name] = parts / whole
    print(f"{name:10} step ratio {ratios[name]:.3f}, logged loss {loss:.3f} and {loss_of_parts:.3f}", flush=True)
wrong = [name for name, ratio in ratios.items() if not 3 < ratio < 6]
if wrong != ["causal LM"] or abs(ratios["causal LM"] - 1) > 0.01 or abs(ratios["text"] - 4) > 0.01:
    sys.exit("changed: accumulated steps are no longer four times too large")
PY
cd "$work" && "$work/venv/bin/python" -W ignore "$work/check.py" | grep -v "^{"
