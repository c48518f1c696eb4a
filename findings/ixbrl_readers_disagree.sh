#!/usr/bin/env bash
# Three readers of inline XBRL give three different contents for one cover page: ticked boxes, words and empty facts.
#
# Packages: ixbrl-parse 0.11.0, ixbrlparse 0.12.0 (with word2number 1.1), py-xbrl 3.0.3, lxml 6.1.3.
# Behaviour: 1. A ticked box (U+2612, the sign on nearly every 10-K cover page) under ixt-sec:boolballotbox is False in
#   ixbrl-parse, and "true" in py-xbrl. ixbrlparse leaves the sign as text.
#   2. "one million two hundred thousand" under ixt-sec:numwordsen is 1201200 in ixbrlparse and 1200000 in py-xbrl. The
#   cause is word2number, which multiplies "hundred thousand" wrongly after "million".
#   3. A fact with xsi:nil="true" (reported as having no value) is 0 in ixbrlparse and 0.0 in ixbrl-parse.
#   None of the three cases raises or warns.
# Why it matters: cover-page flags and figures from filings become labels and targets for fine-tuning. "Shell company: yes"
#   turns into no, and "not disclosed" becomes a disclosed zero, and the result depends on the reader.
# Seen: box: False / true. Words: 1201200 / 1200000. Nil: 0 (ixbrlparse), 0.0 (ixbrl-parse).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  ixbrl-parse==0.11.0 ixbrlparse==0.12.0 word2number==1.1 py-xbrl==3.0.3 lxml==6.1.3
cat > "$work/check.py" <<'PY'
import io
import sys
import warnings

warnings.simplefilter("ignore")
from ixbrl_parse.ixbrl import parse
from ixbrlparse import IXBRL
from lxml import etree
from xbrl.transformations import normalize

SEC = "http://www.sec.gov/inlineXBRL/transformation/2015-08-31"
WORDS = "one million two hundred thousand"
DOCUMENT = f"""<html xmlns="http://www.w3.org/1999/xhtml" xmlns:ix="http://www.xbrl.org/2013/inlineXBRL"
 xmlns:xbrli="http://www.xbrl.org/2003/instance" xmlns:iso4217="http://www.xbrl.org/2003/iso4217" xmlns:ixt-sec="{SEC}"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:ex="http://example.com/2026"><head><title>10-K</title></head><body>
<div style="display:none"><ix:header><ix:resources><xbrli:context id="c1"><xbrli:entity>
<xbrli:identifier scheme="http://www.sec.gov/CIK">0000000001</xbrli:identifier></xbrli:entity><xbrli:period>
<xbrli:startDate>2025-01-01</xbrli:startDate><xbrli:endDate>2025-12-31</xbrli:endDate></xbrli:period></xbrli:context>
<xbrli:unit id="usd"><xbrli:measure>iso4217:USD</xbrli:measure></xbrli:unit></ix:resources></ix:header></div>
<p>Shell company: yes <ix:nonNumeric contextRef="c1" name="ex:Shell" format="ixt-sec:boolballotbox" id="f1">\u2612</ix:nonNumeric></p>
<p>Shares: <ix:nonFraction contextRef="c1" unitRef="usd" decimals="0" name="ex:Shares" format="ixt-sec:numwordsen"
 id="f2">{WORDS}</ix:nonFraction></p>
<p>Fine: <ix:nonFraction contextRef="c1" unitRef="usd" name="ex:Fine" xsi:nil="true" id="f3"/></p></body></html>"""

second = IXBRL(io.StringIO(DOCUMENT))
numbers = {fact.name: fact.value for fact in second.numeric}
texts = {fact.name: fact.value for fact in second.nonnumeric}
first = {}
for value in parse(etree.ElementTree(etree.fromstring(DOCUMENT.encode()))).values.values():
    if value.name.localname in ("Shell", "Fine"):
        first[value.name.localname] = value.to_value().get_value()
third_box, third_words = normalize(SEC, "boolballotbox", "\u2612"), normalize(SEC, "numwordsen", WORDS)
print(f"ticked box: ixbrl-parse {first['Shell']}, py-xbrl {third_box}, ixbrlparse {texts['Shell']!r}")
print(f"{WORDS!r}: ixbrlparse {numbers['Shares']}, py-xbrl {third_words}")
print(f"nil fact: ixbrlparse {numbers['Fine']!r}, ixbrl-parse {first['Fine']!r}")
if not (first["Shell"] is False and third_box == "true"):
    sys.exit("changed: the ticked box no longer differs between ixbrl-parse and py-xbrl")
if not (numbers["Shares"] == 1201200 and third_words == "1200000"):
    sys.exit("changed: the number in words no longer differs between ixbrlparse and py-xbrl")
if not (numbers["Fine"] == 0 and first["Fine"] == 0):
    sys.exit("changed: a nil fact is no longer read as zero")
PY
"$work/venv/bin/python" "$work/check.py"
