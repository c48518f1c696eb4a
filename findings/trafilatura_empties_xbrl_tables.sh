#!/usr/bin/env bash
# trafilatura returns the tables of an inline XBRL report with every tagged number missing, and keeps the row labels.
#
# Packages: trafilatura 2.3.1, lxml 6.1.3 (inscriptis 2.7.6 as control).
# Behaviour: In inline XBRL each figure of a statement is wrapped in <ix:nonFraction>. In running text trafilatura keeps the
#   content of such elements. In a table cell it drops it: the row label stays and the cell is empty. No warning is given,
#   and favor_recall and include_formatting make no difference. The same table without the ix: elements comes out complete,
#   and inscriptis reads both.
# Why it matters: annual reports to the SEC, and in Europe under ESEF, are inline XBRL. A corpus made with trafilatura (the
#   usual extractor for language-model pretraining) has balance sheets of labels without figures. Prose looks right, so a
#   sample read by eye does not show it.
# Seen: "| Total assets |  |  | " (tagged), "| Total assets | 98,765 | 91,402 | " (plain). Figures kept in prose: 1 of 1, in
#   tables: 0 of 6 tagged, 6 of 6 plain, 6 of 6 with inscriptis.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check trafilatura==2.3.1 lxml==6.1.3 lxml_html_clean==0.4.6 inscriptis==2.7.6
cat > "$work/check.py" <<'PY'
import re
import sys

import inscriptis
import trafilatura

FIGURES = {
    "Total assets": ("98,765", "91,402"),
    "Loans to customers": ("54,321", "50,118"),
    "Deposits": ("71,003", "69,994"),
}


def fact(value: str, number: int) -> str:
    return (
        f'<ix:nonFraction contextRef="c1" unitRef="eur" decimals="-6" scale="6" name="ex:F{number}" '
        f'format="ixt:num-dot-decimal" id="f{number}">{value}</ix:nonFraction>'
    )


rows = "".join(
    f"<tr><td>{label}</td>" + "".join(f"<td>{fact(v, 10 * i + j)}</td>" for j, v in enumerate(values)) + "</tr>"
    for i, (label, values) in enumerate(FIGURES.items())
)
tagged = f"""<html xmlns="http://www.w3.org/1999/xhtml" xmlns:ix="http://www.xbrl.org/2013/inlineXBRL"
 xmlns:ixt="http://www.xbrl.org/inlineXBRL/transformation/2020-02-12" xmlns:ex="http://example.com/2026">
<head><title>Example Bank, annual report</title></head><body><h1>Balance sheet</h1>
<p>Net interest income rose to {fact("4,711", 99)} million euro, since the bank lent more to households and paid less for
its funding than in the year before. The supervisory board approved these statements in March.</p>
<table><tr><td>Million euro</td><td>This year</td><td>Last year</td></tr>{rows}</table>
<p>The notes that follow are an integral part of these consolidated statements, and were audited together with them.</p>
</body></html>"""
plain = re.sub(r"</?ix:[^>]*>", "", tagged)
cells = [value for values in FIGURES.values() for value in values]


def kept(text: str) -> int:
    return sum(value in text for value in cells)


from_tagged = trafilatura.extract(tagged) or ""
from_plain = trafilatura.extract(plain) or ""
recall = trafilatura.extract(tagged, favor_recall=True, include_formatting=True) or ""
control = inscriptis.get_text(tagged)
for name, text in (("tagged", from_tagged), ("plain", from_plain)):
    print(f"{name}: " + next(line for line in text.splitlines() if "Total assets" in line))
print(
    f"prose figure kept: {'4,711' in from_tagged}; table figures kept: tagged {kept(from_tagged)} of 6, with favor_recall "
    f"{kept(recall)}, plain {kept(from_plain)}, inscriptis {kept(control)}"
)
labels = all(label in from_tagged for label in FIGURES)
if not (
    labels
    and "4,711" in from_tagged
    and kept(from_tagged) == kept(recall) == 0
    and kept(from_plain) == kept(control) == 6
):
    sys.exit("changed: trafilatura no longer empties the tagged cells of a table")
PY
"$work/venv/bin/python" "$work/check.py"
