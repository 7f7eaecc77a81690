"""What content is: media type, charset and suffix, by header first, then by the bytes."""

from __future__ import annotations

import codecs
import mimetypes
import re
from collections.abc import Mapping
from email.message import Message
from urllib.parse import unquote, urlsplit

from attrs import frozen

#: Only Python's own table: the same answer on every machine.
_TYPES = mimetypes.MimeTypes()
for _suffix, _type in {
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".nc": "application/netcdf",
    ".parquet": "application/vnd.apache.parquet",
    ".rds": "application/octet-stream",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}.items():
    _TYPES.add_type(_type, _suffix)

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_GZIP = frozenset({"application/gzip", "application/x-gzip"})
_PREFERRED = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/octet-stream": "",
    "application/xml": ".xml",
    "image/jpeg": ".jpg",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/xml": ".xml",
}
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_VAGUE = frozenset({"application/octet-stream", "binary/octet-stream", "application/x-download"})
_TEXTUAL = re.compile(r"text/.*|.*[/+](json|xml|javascript|x-ndjson|yaml|csv)")
#: Two letters or digits and a letter at least: `.2` of `v1.2` is no suffix.
_SUFFIX = re.compile(r"\.(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{1,10}")
_PACKED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})
#: Programs that answer, not kinds of answers.
_PROGRAMS = frozenset({".asp", ".aspx", ".ashx", ".cgi", ".do", ".jsp", ".php"})
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (b"CDF\x01", "application/netcdf"),
    (b"CDF\x02", "application/netcdf"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@frozen
class Description:
    """What is known of content besides its bytes."""

    media_type: str
    encoding: str | None
    suffix: str


def describe(headers: Mapping[str, str], url: str, answered: str, head: bytes) -> Description:
    """Tell what an answer's content is.

    Args:
        headers: The answer's.
        url: What was asked for.
        answered: Where redirects ended.
        head: The first bytes.
    """
    declared = _declared(headers)
    named = _named(headers, url, answered)
    told = _TYPE.fullmatch(declared) and declared not in _VAGUE
    media_type = declared if told else _guess(named, head)
    encoding = None
    if _TEXTUAL.fullmatch(media_type):
        encoding = _known(_told_charset(headers)) or _charset(head)
    return Description(media_type, encoding, named or _suffix_of(media_type))


def is_packed(headers: Mapping[str, str], url: str, answered: str) -> bool:
    """Whether a file is compressed by itself, by its name or type; arguments as `describe` takes them."""
    return _named(headers, url, answered).lower().endswith((".gz", ".tgz")) or _declared(headers) in _GZIP


def _declared(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _told_charset(headers: Mapping[str, str]) -> str | None:
    header = Message()
    header["Content-Type"] = headers.get("Content-Type", "")
    try:
        return header.get_content_charset()
    except (LookupError, ValueError, TypeError):
        # Python stumbles over parameters in senseless pieces.
        return None


def _named(headers: Mapping[str, str], url: str, answered: str) -> str:
    proposed = _disposition_suffix(headers.get("Content-Disposition", ""))
    return _path_suffix(url) or proposed or _path_suffix(answered)


def _path_suffix(url: str) -> str:
    """The suffix in a URL's path; empty where there is none that tells anything."""
    suffix = _suffix_in(unquote(urlsplit(url).path))
    return "" if suffix.lower() in _PROGRAMS else suffix


def _disposition_suffix(text: str) -> str:
    """The suffix of the name that a server proposes: nothing else of it is ever used."""
    if not text or len(text) > 4096:
        return ""
    header = Message()
    header["Content-Disposition"] = text
    try:
        return _suffix_in(header.get_filename() or "")
    except (LookupError, ValueError, TypeError):
        return ""


def _suffix_in(path: str) -> str:
    name = re.split(r"[/\\]", path)[-1]
    stem, dot, last = name.rpartition(".")
    suffix = dot + last
    if not stem or not _SUFFIX.fullmatch(suffix):
        return ""
    if suffix.lower() in _PACKED_SUFFIXES:
        before = "." + stem.rpartition(".")[2]
        if "." in stem.lstrip(".") and _SUFFIX.fullmatch(before):
            return before + suffix
    return suffix


def _suffix_of(media_type: str) -> str:
    if media_type in _PREFERRED:
        return _PREFERRED[media_type]
    return _TYPES.guess_extension(media_type) or ""


def _guess(suffix: str, head: bytes) -> str:
    by_bytes = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    by_name, packed = _TYPES.guess_type("x" + suffix)
    by_name = _PACKED.get(packed, "application/octet-stream") if packed else by_name
    # Spreadsheets and many others are zip archives: there the name knows more.
    if by_bytes is not None and by_bytes != "application/zip":
        return by_bytes
    if by_name or by_bytes:
        return by_name or by_bytes or ""
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "text/html"
    if start.startswith(b"<?xml"):
        return "application/xml"
    return "text/plain" if head and _charset(head) else "application/octet-stream"


def _known(charset: str | None) -> str | None:
    try:
        # Python knows codecs that are no charsets (`hex`): `encode` refuses them.
        return codecs.lookup(charset).name if charset and not "".encode(charset)[:0] else None
    except (LookupError, ValueError):
        return None


def _charset(head: bytes) -> str | None:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\x00" in head:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    return "utf-8"
