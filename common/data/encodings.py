"""The encoding of a text file: UTF-8, UTF-16 with a byte order mark, or Windows-1252 if nothing contradicts it."""

import codecs
import re

__all__ = ["UTF16", "encoding_of"]

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte-order marks of UTF-16."""

_NOT_WINDOWS_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d\xff]")
"""Bytes that no Western text in Windows-1252 holds: control characters, undefined ones, and the letter y-diaeresis."""
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}")


def encoding_of(data: bytes) -> str | None:
    """Return the name of the encoding of a text, or None if it is not one of the known ones.

    Bytes that are not UTF-8 count as Windows-1252 (which contains Latin-1) if all of them are characters of Western
    text there, and if none of them is valid UTF-8. So a damaged UTF-8 file is not taken for Windows-1252.

    >>> encoding_of("Müller".encode()), encoding_of("Müller".encode("latin-1")), encoding_of(b"\\xff\\xfe\\xfd")
    ('utf-8-sig', 'cp1252', None)
    """
    if data.startswith(UTF16) and _decodes(data, "utf-16"):
        return "utf-16"
    if _decodes(data, "utf-8"):
        return "utf-8-sig"
    return None if _NOT_WINDOWS_TEXT.search(data) or _UTF8_SEQUENCE.search(data) else "cp1252"


def _decodes(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True
