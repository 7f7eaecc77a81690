"""`file:` URLs and paths, both ways, and what a file's name says of it."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from aero_core.errors import AeroError

_HEAD = 65536
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lzma", ".z")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]{1,16}){1,2}")
_CHECKSUM_NAME = re.compile(r"[0-9a-f]{64}(\..*)?")
# What Python's own table lacks and data files are made of. The system's table is left out: it
# differs from host to host, and so would the records.
_MEDIA_TYPES = {
    ".geojson": "application/geo+json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_COMPRESSED_TYPES = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}


def url_to_path(url: str, error: type[AeroError]) -> Path:
    """The absolute path that a `file:` URL names.

    Args:
        url: `file:///folder/name`, percent-encoded; a host may be left empty or be `localhost`.
        error: What to raise for any other URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise error(f"{url!r} is not a URL: {problem}", retryable=False) from None
    if parts.scheme.lower() != "file":
        raise error(f"{url!r} is not a file: URL", retryable=False)
    if parts.netloc.lower() not in ("", "localhost"):
        raise error(
            f"{url!r} names the host {parts.netloc!r}: files of this machine are file:///folder/name",
            retryable=False,
        )
    if "?" in url or "#" in url:
        raise error(f"{url!r} holds '?' or '#': write %3F or %23 in a file name", retryable=False)
    raw = unquote_to_bytes(parts.path)
    if b"\0" in raw:
        raise error(f"{url!r} holds a NUL byte: no file can be named so", retryable=False)
    if not raw.startswith(b"/"):
        raise error(f"{url!r} is not absolute: write file:///folder/name", retryable=False)
    return Path(os.fsdecode(raw))


def path_to_url(path: str | os.PathLike[str]) -> str:
    """The `file:` URL of a path."""
    return "file://" + quote_from_bytes(os.fsencode(Path(path).absolute()))


def suffix_of(name: str) -> str:
    """The suffix that copies of a file keep: `.csv`, or `.csv.gz` for compressed files.

    What follows a dot without being a suffix (`notes.of a meeting`) is left out.
    """
    if _CHECKSUM_NAME.fullmatch(name):
        suffix = name[64:]
    else:
        suffixes = PurePath(name).suffixes[-2:]
        compressed = suffixes[-1:] and suffixes[-1].lower() in _COMPRESSED
        suffix = "".join(suffixes if compressed else suffixes[-1:])
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def media_type_of(name: str) -> str | None:
    """The media type that a file's name tells, the same on every machine."""
    import mimetypes

    table = mimetypes.MimeTypes(filenames=())
    kind, compression = table.guess_type("file" + suffix_of(name))
    if compression is not None:
        return _COMPRESSED_TYPES.get(compression)
    return _MEDIA_TYPES.get(suffix_of(name).lower(), kind)


def sniff_encoding(path: Path, media_type: str | None) -> str | None:
    """The charset that a text file's first bytes show, or None."""
    import codecs

    textual = ("json", "xml", "csv", "yaml", "toml", "javascript")
    kind = media_type or ""
    if not kind.startswith("text/") and not any(word in kind for word in textual):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, len(head) < _HEAD)
    except UnicodeDecodeError:
        return None
    return "utf-8"
