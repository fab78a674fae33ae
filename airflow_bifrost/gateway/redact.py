"""Quotes text from the gateway or a provider: on one line, shortened, with anything like a key masked. Pure.

Providers quote keys in their errors, and the gateway passes them on. A false positive hides a word of a message, and a miss leaks a key. But
IDs of batches and ordinary prose must stay readable.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import lru_cache
from urllib.parse import quote as url_quote

STRUCK = "***"
MAX_QUOTE = 300  # characters of the gateway's words that an error repeats
MIN_TOKEN = 6  # characters; a shorter "token" would mask half of the message
LONG_PREFIX = 32  # this many characters of a token are masked even without the rest

_CHAR = r"""[^\s"'`,;&<>(){}\[\]]"""
_VALUE = rf"{_CHAR}+"
_LABEL = (
    r"(?:api|access|account|encryption|master|private|secret|shared|signing|subscription|virtual)(?:[-_ ]?access)?[-_ ]?key(?:[-_ ]?id)?"
    r"|(?:access|auth|id|refresh|security|session)[-_ ]?token"
    r"|secret|password|passwd|pwd|authorization|credentials?|signature|\bsig"
)
_SCHEME = r"(?:bearer|basic)\s+"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", STRUCK),
        (r"(?<=://)[^/\s@]+@", STRUCK + "@"),  # user and password in a URL
        # api-key: ..., "api_key": "...", Incorrect API key provided: ..., Invalid API key '...'
        (
            rf"(?i)({_LABEL})([\"'`]?(?:\s+(?:provided|given|is|was))?\s*[=:]\s*[\"'`]?|\s+[\"'`])(?:{_SCHEME})?{_VALUE}",
            rf"\1\2{STRUCK}",
        ),
        (rf"(?i)((?:\bkey|_key|token)=[\"'`]?){_VALUE}", rf"\1{STRUCK}"),  # ?key=...
        # "key:" and "token:" also occur in prose: only a long word with a digit that is not an ID is masked
        (
            rf"(?i)(\b(?:key|token)[\"'`]?:\s*[\"'`]?)(?!(?:msg)?batch|file|row|req)(?={_CHAR}*\d)(?={_CHAR}{{16}}){_VALUE}",
            rf"\1{STRUCK}",
        ),
        (
            rf"(?i)(\b{_SCHEME})(?!(?:api|auth\w*|credentials?|header|http|is|or|plan|realm|scheme|support|tier|tokens?|was)\b){_VALUE}",
            rf"\1{STRUCK}",
        ),
        (r"(?i)(?<![a-z0-9])sk-[\w\-.*]{6,}", STRUCK),  # OpenAI, Anthropic, OpenRouter, the gateway's virtual keys
        (r"(?<![A-Za-z0-9])(?:[rps]k_(?:live|test)_|gsk_|hf_|gh[opsu]_|r8_|pplx-|nvapi-|xai-)[\w\-*]{8,}", STRUCK),
        (r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9*]{8,}", STRUCK),  # AWS
        (r"(?<![A-Za-z0-9])(?:AIza|ya29\.|GOCSPX-)[\w\-.*]{8,}", STRUCK),  # Google
        (r"(?<![A-Za-z0-9])eyJ[\w\-]{6,}\.[\w\-.*]{6,}", STRUCK),  # JWT; without a dot it may be a cursor or an id
    )
)


def quote(text: str, limit: int = MAX_QUOTE, *, token: str | None = None) -> str:
    """``text`` in a form that may be shown.

    :param limit: characters, not counting the ellipsis.
    :param token: the connection's token, masked whatever it looks like.
    """
    text = text[: 4 * limit]  # first, because some rules look ahead and a body may have megabytes
    text = masked(" ".join(printable(without_token(text, token)).split()))
    return text if len(text) <= limit else text[:limit] + "…"


def masked(text: str) -> str:
    """``text`` with anything like a key masked."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def printable(text: str) -> str:
    """``text`` with a space for each character that could forge a line of a log or color it."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def without_token(text: str, token: str | None) -> str:
    """``text`` with the token masked: as it is, cut after half of it, or encoded for a URL, in JSON's escapes, in base64 or in hex."""
    if not token or len(token) < MIN_TOKEN:
        return text
    for begin, rest in _forms(token):
        first, *others = text.split(begin)
        if others:
            text = first + "".join(STRUCK + part[_in_common(part, rest) :] for part in others)
    return text


def _in_common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@lru_cache(maxsize=16)
def _forms(token: str) -> tuple[tuple[str, str], ...]:
    """The forms of a token, each as a beginning that is long enough to recognize it, and the rest."""
    raw = token.encode()
    forms = [token, json.dumps(token)[1:-1], url_quote(token, safe=""), raw.hex(), raw.hex().upper()]
    for shift in range(
        3
    ):  # base64 of a text that has the token at any place: without the characters that its neighbors change
        encoded = b64encode(bytes(shift) + raw).decode().rstrip("=")
        core = encoded[shift + 1 if shift else 0 : None if (shift + len(raw)) % 3 == 0 else -1]
        forms += [core, core.translate(str.maketrans("+/", "-_"))]
    lengths = {form: min(max(MIN_TOKEN, (len(form) + 1) // 2), LONG_PREFIX) for form in forms}
    for digits in ("04x", "04X"):  # each character escaped, as JSON may have it
        escaped = "".join(f"\\u{ord(char):{digits}}" for char in token)
        lengths[escaped] = 6 * MIN_TOKEN
    return tuple((form[:length], form[length:]) for form, length in lengths.items())
