"""Filings give their text, whatever markup they have, and the rest is counted."""

from collections import Counter
from pathlib import Path

import pytest

from common.data.corpora import read_corpus, read_split
from common.data.filings import is_markup, read_filing
from common.errors import DataError

INLINE = """<?xml version="1.0" encoding="{encoding}"?>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:ix="http://www.xbrl.org/2013/inlineXBRL"><head><title>x</title></head>
<body><div style="display:none"><ix:header><ix:hidden><ix:nonNumeric name="dei:A">hidden fact</ix:nonNumeric>
<ix:nonFraction name="b">7</ix:nonFraction></ix:hidden></ix:header></div>
<div/><p>Net sales of <ix:nonFraction name="us-gaap:Revenues">1,234</ix:nonFraction> rose
in Zürich.</p><script>var a = "no text";</script>
<p>Second&#160;paragraph<br/>goes on.<br/><br/>Third.</p>
<table><tr><td><div>Revenue</div></td><td>$ 1</td></tr><tr><td>Cost</td><td>2</td></tr></table>
<table><tr><td><p>Laid out</p><p>by a table.</p></td></tr></table>after it</body></html>"""
INLINE_TEXTS = (
    "Net sales of 1,234 rose in Zürich.",
    "Second paragraph goes on.",
    "Third.",
    "Revenue $ 1 Cost 2",
    "Laid out",
    "by a table.",
    "after it",
)

SUBMISSION = """<SEC-DOCUMENT>0000000000-25-000001.txt : 20250301
<SEC-HEADER>0000000000-25-000001.hdr.sgml : 20250301
ACCESSION NUMBER: 0000000000-25-000001
</SEC-HEADER>
<DOCUMENT>
<TYPE>10-K
<SEQUENCE>1
<FILENAME>a.htm
<TEXT>
<HTML><BODY><P>Risk &amp; return.<P>Not closed.</BODY></HTML>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-13
<TEXT>
<PAGE>
Plain text of
two lines, AT&amp;T.

<TABLE><CAPTION>
<S>   <C>
Sales    12
</TABLE>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>GRAPHIC
<FILENAME>a.jpg
<TEXT>
begin 644 a.jpg
M)))
end
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-101.INS
<TEXT>
<XBRL>
<?xml version="1.0"?><xbrl><a>facts that nobody reads as text</a></xbrl>
</XBRL>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>10-K/A
<TEXT>
<XBRL>
INLINE
</XBRL>
</TEXT>
</DOCUMENT>
</SEC-DOCUMENT>
"""


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_inline_xbrl_gives_the_visible_text_and_counts_hidden_facts(encoding: str) -> None:
    filing = read_filing(INLINE.format(encoding=encoding).encode(encoding))
    assert filing.paragraphs == INLINE_TEXTS
    assert filing.left_out == {"hidden facts of inline XBRL": 2}


@pytest.mark.parametrize(
    "attribute", ["hidden", 'hidden="hidden"', 'style="DISPLAY: none"', "style='visibility:hidden'"]
)
def test_passages_that_a_browser_hides_are_left_out_and_counted(attribute: str) -> None:
    filing = read_filing(
        f"<html><body><p {attribute}>Nobody sees these words.</p><p>Sales rose in May.</p></body></html>".encode()
    )
    assert filing.paragraphs == ("Sales rose in May.",)
    assert filing.left_out == {"hidden passages of HTML": 1}


def test_every_document_of_a_submission_is_read_and_data_is_counted() -> None:
    filing = read_filing(SUBMISSION.replace("INLINE", INLINE.format(encoding="utf-8")).encode())
    first = ("Risk & return.", "Not closed.", "Plain text of two lines, AT&T.", "Sales 12")
    assert filing.paragraphs == (*first, *INLINE_TEXTS)
    documents = "documents of a submission without text (data, pictures, archives)"
    assert filing.left_out == {documents: 2, "hidden facts of inline XBRL": 2}


def test_xml_gives_values_with_words_and_the_html_inside_them() -> None:
    data = (
        b'<?xml version="1.0"?><x:doc xmlns:x="http://a"><x:date>2025-03-01</x:date><x:note>Three words at'
        b" least <b>here</b>.</x:note><x:block>&lt;div&gt;&lt;p&gt;One.&lt;/p&gt;&lt;p&gt;Two.&lt;/p&gt;&lt;/div&gt;"
        b"</x:block></x:doc>"
    )
    filing = read_filing(data)
    assert filing.paragraphs == ("Three words at least here.", "One.", "Two.")
    assert filing.left_out == {"values of XML with fewer than 3 words": 1}


@pytest.mark.parametrize("tag", ["font size=2", "b", "ix:nonNumeric name=a", "div"])
def test_tags_that_are_never_closed_lose_no_text(tag: str) -> None:
    page = "<html><body>" + f"<{tag}>one more passage of text<br><br>\n" * 3000
    if tag.startswith(("font", "b")):
        assert len(read_filing(page.encode()).paragraphs) == 3000
    else:  # rather an error than a part of the text
        with pytest.raises(ValueError, match="nested too deeply"):
            read_filing(page.encode())


def test_entities_of_other_files_and_of_its_own_are_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret of another file")
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha ha ha"}">' for n in range(9))
    other = f'<!ENTITY other SYSTEM "file://{tmp_path}/secret.txt">'
    declared = f'<?xml version="1.0"?><!DOCTYPE a [{bomb}{other}]>'
    filing = read_filing(f"{declared}<a><b>three words here &other;</b></a>".encode())
    assert filing.paragraphs == ("three words here &other;",)
    with pytest.raises(ValueError, match="not well-formed"):  # libxml2 refuses the amplification
        read_filing(f"{declared}<a><b>three words here &e8;</b></a>".encode())


def test_markup_is_told_from_text() -> None:
    assert all(map(is_markup, (SUBMISSION, INLINE, "<!DOCTYPE html>\n<html>", "  <p>a</p>")))
    assert not any(map(is_markup, ("Profit < 5 % of sales", "<unknown> speaker: hello", "", "# Title")))


def test_a_folder_of_filings_is_read_and_the_rest_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.htm").write_text(INLINE.format(encoding="utf-8"))
    (tmp_path / "b.txt").write_text(SUBMISSION)
    (tmp_path / "c.txt").write_text("Plain text.\n\nPlain text.")
    (tmp_path / "0000000000-25-000001").write_text("<html><body><p>No suffix.</p></body></html>")
    (tmp_path / "rows.csv").write_text("text\nA row.\n \n")
    (tmp_path / "codes.csv").write_text("code,name\n1,x\n")
    (tmp_path / "empty.txt").write_text("")
    for number in range(3):
        (tmp_path / f"{number}.pdf").write_bytes(b"%PDF")
    (tmp_path / "LICENSE").write_text("a licence")
    texts = read_corpus(tmp_path)
    assert {*INLINE_TEXTS, "Risk & return.", "Plain text.", "No suffix.", "A row."} <= set(texts)
    assert "a licence" not in texts
    for said in (
        "3 files named *.pdf",
        "1 files without a suffix in their name",
        "1 tables without a column of texts",
        "1 empty files",
        "1 rows without a text",
        "2 hidden facts of inline XBRL",
        "1 repeated texts",
    ):
        assert said in caplog.text
    train, _ = read_split(tmp_path, None, None, 0.2)
    assert train.left_out["files named *.pdf"] == 3


def test_a_folder_without_text_and_a_file_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match="the folder holds no text"):
        read_corpus(tmp_path / "sub")
    (tmp_path / "a.html").write_text("<div>" * 3000 + "text")
    with pytest.raises(DataError, match="its markup cannot be read"):
        read_corpus(tmp_path / "a.html")
    assert read_filing(b"").paragraphs == ()
    assert read_filing(b"<html></html>").left_out == Counter()


def test_a_named_character_of_the_dtd_is_read_and_other_entities_are_not_expanded() -> None:
    page = """<?xml version="1.0"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd" [
<!ENTITY name SYSTEM "file:///etc/hostname">]>
<html xmlns="http://www.w3.org/1999/xhtml"><body><p>Profit&nbsp;rose &mdash; says &name; here.</p>
<table><tr><td>a&nbsp;b</td><td>1 &amp;lt; 2</td></tr></table></body></html>"""
    assert read_filing(page.encode()).paragraphs == ("Profit rose — says &name; here.", "a b 1 &lt; 2")


def test_hypertext_in_the_values_of_xml_is_read_from_character_data() -> None:
    content = "<r><note><![CDATA[<p>First paragraph.</p><p>Second paragraph.</p>]]></note><date>2024-01-01</date></r>"
    filing = read_filing(f'<?xml version="1.0"?>{content}'.encode())
    assert filing.paragraphs == ("First paragraph.", "Second paragraph.")
