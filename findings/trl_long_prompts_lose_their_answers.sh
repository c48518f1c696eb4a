#!/usr/bin/env bash
# TRL's SFTTrainer silently drops each row whose prompt fills max_length, and trains on nothing if packing is on.
#
# Packages: trl 1.16.0, transformers 5.23.0, datasets 5.2.0, torch 2.13.0 (CPU), accelerate 1.15.0, numpy 2.4.6.
# Behaviour: prompt and completion are joined and cut at max_length (1,024 by default) from the end, so the completion goes
#   first. Without packing, rows that have no completion token left are removed, and rows whose prompt just fits keep the
#   first words of the answer. A progress bar names the step. No line says how many rows went. With packing=True nothing is
#   removed: the rows stay, all their labels are -100, and each step has loss 0 and gradient 0. The run ends with success.
# Why it matters: summaries of annual reports and earnings calls have exactly this form, a prompt of thousands of tokens and
#   a short answer. The longest documents vanish, or the model comes back unchanged. Set
#   max_length, cut the prompts, or set truncation_mode="keep_end".
# Seen: without packing 6 rows of 10 left, 4 answers complete (21 labels, two rows with 9). Packing, long rows only: labels
#   [0, 0, 0, 0], losses [0.0, 0.0], weights unchanged.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0 accelerate==1.15.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import datasets
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

transformers.logging.set_verbosity_error()
datasets.disable_progress_bars()
vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(100))])}
core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
answer = " ".join(f"w{n}" for n in range(20))


def rows(prompt_tokens: int, count: int) -> list[dict]:
    prompt = " ".join(f"w{n % 100}" for n in range(prompt_tokens))
    return [{"prompt": prompt + " ", "completion": answer}] * count


def train(data: list[dict], packing: bool):
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    before = [p.detach().clone() for p in model.parameters()]
    arguments = SFTConfig(
        "out",
        packing=packing,
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
    )
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(data), processing_class=tokenizer)
    trainer.train()
    labels = [sum(label != -100 for label in row["labels"]) for row in trainer.train_dataset]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    same = all(torch.equal(p.detach(), q) for p, q in zip(model.parameters(), before, strict=True))
    return labels, losses, same


short, near, long = rows(200, 4), rows(1015, 2), rows(5000, 4)
labels, _, _ = train(short + near + long, packing=False)
complete = sum(count >= 20 for count in labels)
print(f"result: without packing {len(labels)} rows of 10 left, {complete} answers complete, labels by row {labels}")
packed_labels, losses, same = train(long, packing=True)
print(f"result: packing, long rows only: labels by row {packed_labels}, losses {losses}, weights unchanged: {same}")
if not (len(labels) == 6 and complete == 4 and sum(packed_labels) == 0 and losses == [0.0, 0.0]):
    sys.exit("changed: rows with a long prompt no longer lose their answers silently")
PY
cd "$work" && "$work/venv/bin/python" -W ignore "$work/check.py" 2> "$work/err" | grep "^result\|^changed" || { tail -5 "$work/err"; exit 1; }
