#!/usr/bin/env bash
# seqeval gives F1 = 1.000 to a model that misses every ORG entity, if tags have no B- or I- prefix.
#
# Packages: seqeval 1.2.2, scikit-learn 1.9.1, numpy 2.4.6.
# Behaviour: seqeval takes the first letter of a tag as its chunk mark. Tags without a prefix (the IO scheme: ORG, MONEY, LOC)
#   are cut after that letter. "ORG" and "OTHER" begin with O, so they count as "outside any entity": they vanish from
#   precision, recall and F1. Other types lose their first letter in the report (MONEY becomes ONEY). Types that begin with S
#   or E, such as SECURITY and EQUITY, are read as single-token or last-token marks, so an entity of two tokens counts twice.
#   The warning says "ORG seems not to be NE tag". It is printed for every tag alike and does not say that ORG is left out.
# Why it matters: ORG is the main entity type of financial text. A tagger exported with IO tags looks perfect, and two
#   institutions that compare F1 compare figures without their most frequent class.
# Seen: F1 1.0, report rows ['ONEY'], ORG entities [], EQUITY over two tokens counted as 2 entities, MONEY as 1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check seqeval==1.2.2 scikit-learn==1.9.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import sys
import warnings

from seqeval.metrics import classification_report, f1_score
from seqeval.metrics.sequence_labeling import get_entities

warnings.simplefilter("ignore")
gold = [["ORG", "O", "MONEY", "O"], ["O", "ORG", "ORG", "O"], ["ORG", "O", "O", "O"]]
missed = [[tag if tag != "ORG" else "O" for tag in tags] for tags in gold]
f1 = f1_score(gold, missed)
rows = [name for name in classification_report(gold, missed, output_dict=True) if not name.endswith("avg")]
org = get_entities(["O", "ORG", "ORG", "O"])
equity, money = get_entities(["EQUITY", "EQUITY", "O"]), get_entities(["MONEY", "MONEY", "O"])
print(f"F1 {f1}, report rows {rows}, ORG entities {org}, EQUITY over two tokens {len(equity)}, MONEY {len(money)}")
prefixed = [[tag if tag == "O" else f"I-{tag}" for tag in tags] for tags in gold]
control = f1_score(prefixed, [[tag if tag != "I-ORG" else "O" for tag in tags] for tags in prefixed])
print(f"the same tags with I- prefix: F1 {control}")
if not (f1 == 1.0 and rows == ["ONEY"] and org == [] and len(equity) == 2 and len(money) == 1 and control == 0.4):
    sys.exit("changed: seqeval no longer drops ORG tags without a prefix")
PY
"$work/venv/bin/python" "$work/check.py"
