"""Captions: the text beside a picture, in `<stem>.txt` or `<stem>.caption`, or in the `metadata.jsonl` of its folder."""

import json
from functools import lru_cache
from pathlib import Path, PurePosixPath

SUFFIXES = (".txt", ".caption")  # in the order in which they are looked for
LISTED = "metadata.jsonl"
KEYS = ("text", "caption")  # the keys of a line of `metadata.jsonl` that hold the caption, likewise


def find_caption(path: str | Path) -> tuple[str, tuple[str, ...]]:
    """Return the caption of a picture, "" if it has none, and remarks on what could not be read as it is written.

    Text is UTF-8, with or without a byte order mark, without white space around it. Bytes that are not UTF-8 are
    replaced, and a line of `metadata.jsonl` that is no JSON object is left out, each with a remark. Raises nothing: a
    caption never costs the picture.
    """
    path = Path(path)
    for suffix in SUFFIXES:
        beside = path.with_suffix(suffix)
        if beside != path and (text := _read(beside)) is not None:
            return _clean(text), _remarks(beside.name, text)
    listed = path.parent / LISTED
    try:
        found = listed.stat()
    except OSError:
        return "", ()
    captions, remarks = _listed(str(listed), found.st_mtime_ns, found.st_size)
    return captions.get(path.name, ""), remarks


def _read(path: Path) -> str | None:
    """Return the text of a regular file; None for anything else, a named pipe for one, and where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig", "replace") if path.is_file() else None
    except (OSError, ValueError):
        return None


def _clean(text: str) -> str:
    """Return text that any file can hold: without white space around it, NUL and lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode().strip()


def _remarks(name: str, text: str) -> tuple[str, ...]:
    return (f"caption {name} is not UTF-8, bytes replaced",) if "\ufffd" in text else ()


@lru_cache(maxsize=16)
def _listed(path: str, _mtime_ns: int, _size: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the captions of a `metadata.jsonl` by the names of the files in its folder, and remarks on it."""
    text = _read(Path(path))
    captions: dict[str, str] = {}
    wrong = 0
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            name = PurePosixPath(facts["file_name"])
        except (ValueError, KeyError, TypeError):
            wrong += 1
            continue
        caption = next((facts[key] for key in KEYS if isinstance(facts.get(key), str)), None)
        if caption is not None and len(name.parts) == 1:  # those of subfolders have a list of their own
            captions[name.name] = _clean(caption)
    remarks = _remarks(LISTED, text or "")
    return captions, (*remarks, f"{LISTED}: {wrong} lines without a file_name left out") if wrong else remarks
