"""Reads the gateway's native results: one JSON object of any size, entry by entry. Pure."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from airflow_bifrost.results.lines import TooLong, float_or_text

MEMBER = "results"
MAX_VALUE = 2**26  # characters of one row's result
MAX_DIGITS = 4300  # of a number; Python refuses to read a longer integer

OnMember = Callable[[Any, Any], None]

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[-+.0-9eE]+\Z")
_LONGEST_WORD = len("-Infinity")
_decoder = json.JSONDecoder(parse_constant=str, parse_float=float_or_text)  # as parse_untidy


def entries(chunks: Iterable[bytes], on_member: OnMember | None = None) -> Iterator[Any]:
    """The entries of ``results``, as JSON types. Memory holds one entry and one chunk, and one other member of the object at a time.

    :param chunks: the answer's bytes, split anywhere.
    :param on_member: called with the name and the value of each other member when it is read.
    :raises ValueError: the answer is not a JSON object, or ends early.
    :raises TooLong: a value is longer than any result of a row.
    """
    text = _Text(chunks)
    text.expect("{")
    if text.skip("}"):
        return
    while True:
        name = text.value()
        text.expect(":")
        if name == MEMBER:
            yield from _list(text)
        else:
            value = text.value()
            if on_member is not None:
                on_member(name, value)
        if not text.skip(","):
            break
    text.expect("}")


def _list(text: _Text) -> Iterator[Any]:
    if not text.skip("["):
        if text.value() is not None:
            raise ValueError(f"{MEMBER} is not a list")
        return
    if text.skip("]"):
        return
    yield text.value()
    while text.skip(","):
        yield text.value()
    text.expect("]")


class _Text:
    """The unread rest of a text that arrives in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(codecs.iterdecode(chunks, "utf-8", "replace"))
        self._text = ""
        self._at = 0

    def value(self) -> Any:
        """The next JSON value. If only part of it has arrived, read more until it is complete."""
        self._peek()
        while True:
            number = _NUMBER.match(self._text, self._at)
            if number and len(number[0]) > MAX_DIGITS:
                raise ValueError(f"a number has more than {MAX_DIGITS} digits")
            if number and self._more(1):
                continue  # the number may continue in the next chunk
            try:
                value, self._at = _decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_wrong(error):
                    raise ValueError("it is not JSON") from None
                held = len(self._text) - self._at
                if held > MAX_VALUE:
                    begin = self._text[self._at :][:4096].encode(errors="replace")
                    raise TooLong("value", begin, f"{MAX_VALUE:,} characters") from None
                if not self._more(min(held, MAX_VALUE + 1 - held)):
                    raise ValueError("it ends early") from None
            except RecursionError:
                raise ValueError("nested too deep") from None
            else:
                return value

    def _is_wrong(self, error: json.JSONDecodeError) -> bool:
        """Whether the text is wrong, not just incomplete. If it is incomplete, the error is at its end, or in its last string or word."""
        is_incomplete = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _LONGEST_WORD
        return not is_incomplete

    def skip(self, sign: str) -> bool:
        """Whether ``sign`` comes next. If so, skip it."""
        if self._peek() != sign:
            return False
        self._at += 1
        return True

    def expect(self, sign: str) -> None:
        if not self.skip(sign):
            raise ValueError(f"it is not a JSON object, or ends early: {sign!r} expected")

    def _peek(self) -> str:
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(1):
                return ""

    def _more(self, least: int) -> bool:
        """Read at least this many more characters, so that a large value is not parsed again for each small chunk."""
        pieces, length = [], 0
        for piece in self._chunks:
            pieces.append(piece)
            length += len(piece)
            if length >= least:
                break
        if pieces:
            self._text, self._at = "".join([self._text[self._at :], *pieces]), 0
        return length > 0
