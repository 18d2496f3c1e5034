"""Lists of paths: text files with one path a line."""

import codecs
import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..errors import UsageError
from .regular_files import kind_of_file

SUFFIXES = (".txt", ".lst", ".list")
MARKS = (  # byte order marks, the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_list(file: Path) -> list[Path]:
    """Return the paths of a list, those that are relative below the list's own folder.

    UTF-8, or UTF-16 and UTF-32 by their byte order mark. Empty lines, and lines that begin with #, are passed over. A
    path may stand in quotes, begin with ~ or be a file:// address, unless a file of just that name is there. Raises
    `UsageError` with the remedy for what cannot be read, and for a list without a path.
    """
    found = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(file)), 1):
        line = line.strip()
        if "\0" in line:
            raise UsageError(
                f"the list {file} holds a NUL character in line {number}: expected one path a line, in UTF-8; write it "
                "with line ends (find … -print, not -print0)"
            )
        if line and not line.startswith("#"):
            found.append(_path(line, file, number))
    if not found:
        raise UsageError(f"the list {file} names no image: expected one path a line")
    return found


def _text(file: Path) -> str:
    try:
        if kind := kind_of_file(file):
            raise UsageError(f"the list {file} is {kind}, expected a regular file: write the paths to a file first")
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {file}: {error}") from error
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remedy = "save it as UTF-8" + (
            f", for example by iconv -f latin1 -t utf-8 {file}" if encoding == "utf-8" else ""
        )
        raise UsageError(
            f"cannot read the list {file}: line {line} is no {encoding.upper()} ({error.reason}); {remedy}"
        ) from error


def _path(line: str, file: Path, number: int) -> Path:
    """Return the path that a line stands for."""
    quoted = len(line) > 2 and line[0] == line[-1] and line[0] in "\"'"
    if (quoted or line.startswith(("~", "file:"))) and not os.path.lexists(file.parent / line):
        line = line[1:-1] if quoted else line
        if line.startswith("file:"):
            line = _of_address(line, file, number)
        line = os.path.expanduser(line)
    return file.parent / line


def _of_address(address: str, file: Path, number: int) -> str:
    """Return the path of a file:// address. Raises `UsageError` for one on another machine."""
    try:
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"on the machine {parts.netloc}")
        return url2pathname(parts.path)
    except ValueError as error:
        raise UsageError(
            f"the list {file}, line {number}: {address} is no file of this machine ({error}); give a plain path"
        ) from error
