"""Finds a token in bytes, in the forms in which a careless program would store it. Pure, but for reading files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote


class Sighting(NamedTuple):
    """A place that has a token, and the form in which it stands there."""

    where: str
    form: str


def forms(token: str) -> dict[str, bytes]:
    """The forms of a token by their name."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in token)
    found = {
        "plain": token.encode(),
        "reversed": token[::-1].encode(),
        "hexadecimal": token.encode().hex().encode(),
        "escaped": escaped.encode(),
        "without its end": token[: len(token) - 8].encode(),
        "URL-encoded": quote(token, safe="").replace("-", "%2D").encode(),
        "JSON": json.dumps(token)[1:-1].encode(),
    }
    for shift in range(3):  # base64 of a longer text that has the token at any place
        coded = base64.b64encode(b"\0" * shift + token.encode())
        found[f"base64, shifted by {shift}"] = coded[(4 if shift else 0) : len(coded) - 4]
    return found


def sightings(where: str, content: bytes, tokens: list[str]) -> Iterator[Sighting]:
    """The tokens in some bytes; each place is named once."""
    for token in tokens:
        for name, form in forms(token).items():
            if (place := content.find(form)) >= 0:
                before = content[max(0, place - 200) : place].decode(errors="replace")
                yield Sighting(where, f"{name}, after {before!r}")
                break


def in_files(folder: Path, tokens: list[str]) -> Iterator[Sighting]:
    """The tokens in the files below a folder, and in the names of the files."""
    for path in sorted(folder.rglob("*")):
        yield from sightings(f"the name {path}", str(path).encode(), tokens)
        if path.is_file() and not path.is_symlink():
            yield from sightings(str(path), path.read_bytes(), tokens)
