#!/usr/bin/env bash
# lxml returns only the first part of a page with many unclosed tags, without an error.
#
# Packages: lxml 6.1.3 (beautifulsoup4 4.15.0 as control).
# Behaviour: libxml2 stops at a depth of 256 elements, or of 2,048 with huge_tree=True. Everything after that point is missing
#   from the tree. lxml raises nothing, although recover mode is meant for faulty HTML. Only parser.error_log holds an entry of
#   type ERR_RESOURCE_LIMIT. BeautifulSoup(page, "lxml"), which takes the parser's events and no tree, loses nothing.
# Why it matters: filings of the 1990s and 2000s on EDGAR have <font> tags that are never closed, one for each paragraph. Each
#   opens one level, so a corpus made with lxml ends each such filing after some pages, and no count shows it.
# Seen: of 3,000 paragraphs lxml keeps 254, with huge_tree 2,046, BeautifulSoup 3,000.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check lxml==6.1.3 beautifulsoup4==4.15.0
cat > "$work/check.py" <<'PY'
import sys

import bs4
import lxml.etree
import lxml.html

PARAGRAPHS = 3000
page = "<html><body>" + "".join(f"<font size=2>paragraph {n}.<br><br>\n" for n in range(PARAGRAPHS)) + "</body></html>"


def kept(text: str) -> int:
    return text.count("paragraph ")


usual, huge = lxml.html.HTMLParser(), lxml.html.HTMLParser(huge_tree=True)
with_usual = kept(lxml.html.document_fromstring(page, parser=usual).text_content())
with_huge = kept(lxml.html.document_fromstring(page, parser=huge).text_content())
soup = kept(bs4.BeautifulSoup(page, "lxml").get_text())
logged = [error.type == lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in huge.error_log]
print(
    f"paragraphs kept of {PARAGRAPHS:,}: lxml {with_usual:,}, with huge_tree {with_huge:,}, BeautifulSoup {soup:,}; "
    f"in the error log: {any(logged)}"
)
if not (with_usual < PARAGRAPHS and with_huge < PARAGRAPHS and soup == PARAGRAPHS and any(logged)):
    sys.exit("changed: lxml no longer drops text after unclosed tags")
PY
"$work/venv/bin/python" "$work/check.py"
