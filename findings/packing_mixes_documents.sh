#!/usr/bin/env bash
# Packed training rows keep documents apart in Llama, and let one document read the other in gpt-oss, OPT, Falcon and Mamba.
#
# Packages: transformers 5.23.0, trl 1.16.0, datasets 5.2.0, torch 2.13.0 (CPU), accelerate 1.15.0, numpy 2.4.6.
# Behaviour: TRL packs several documents into one row, and its collator sends position ids that start again at 0 and no
#   attention mask. transformers 5 then builds a mask by document, but only if the model code hands the position ids to
#   create_causal_mask. Llama, Qwen 3, Gemma 2 and Mistral do, and a document has exactly the output that it has alone.
#   gpt-oss, OPT, BLOOM, Falcon, Mamba 2 and Jamba do not: the second document attends to the first, without an error.
#   LFM2 (and Qwen 3.5, Granite hybrid) refuse such a batch with a clear error if causal_conv1d is not installed.
# Why it matters: one customer's text is context for another's, the model learns from pairs that do not exist, and a privacy
#   unit of one document no longer holds. The loss looks as healthy as in Llama.
# Seen, largest change of the second document's logits if another document stands before it (logits of size 1.7): llama,
#   qwen3, gemma2, mistral 0.0000. gpt_oss 8.4, opt 5.7, bloom 6.0, falcon 6.3, mamba2 5.3, jamba 6.7. lfm2: ValueError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 trl==1.16.0 datasets==5.2.0 accelerate==1.15.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

transformers.logging.set_verbosity_error()
size = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
families = {
    "llama": {},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "mistral": {},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_head": 2, "n_layer": 2},
    "falcon": {},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "block_multiple_of": 8},
}
torch.manual_seed(3)
first, other, second = torch.randint(3, 64, (3, 20)).tolist()
collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)


def pack(*documents: list[int]) -> dict:
    row = {"input_ids": sum(documents, []), "labels": sum(documents, []), "seq_lengths": [len(d) for d in documents]}
    return {key: value for key, value in collate([row]).items() if key != "labels"}


print("the collator sends", sorted(pack(first, second)))
change = {}
for name, extra in families.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**size, **extra})).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    try:
        with torch.no_grad():
            one, two = (model(**pack(d, second), use_cache=False).logits[0, 20:] for d in (first, other))
        change[name] = (one - two).abs().max().item()
        print(f"{name:8} {change[name]:.4f}", flush=True)
    except ValueError as error:
        change[name] = None
        print(f"{name:8} ValueError: {str(error)[:80]}", flush=True)
apart, refused = ("llama", "qwen3", "gemma2", "mistral"), ("lfm2",)
mixed = [name for name in families if name not in (*apart, *refused)]
if not (all(change[n] < 1e-3 for n in apart) and all((change[n] or 0) > 0.1 for n in mixed) and change["lfm2"] is None):
    sys.exit("changed: other model families than before mix the documents of a packed row")
PY
cd "$work" && "$work/venv/bin/python" -W ignore "$work/check.py"
