"""Keeps web pages away from the control surface: a page that a developer visits may send requests to the developer's own machine."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

WITH_BODY = ("POST", "PUT", "PATCH")
STRUCK = "***"
_SECRET_HEADERS = ("authorization", "x-api-key", "x-bf-vk", "x-goog-api-key", "api-key", "cookie")


def refusal(method: str, headers: Mapping[str, str], bound_to: str) -> tuple[int, str] | None:
    """Why a control call is refused, as status and reason; None: it may be carried out.

    :param headers: with lower-case names.
    :param bound_to: the host name or address that the server listens on.
    """
    host = headers.get("host", "")
    if not _is_own(host, bound_to):
        return 403, f"the Host {host!r} is not a name of this machine: use its address"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return 403, f"web pages of another origin ({origin}) may not control this gateway"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return 403, "web pages of another site may not control this gateway"
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method in WITH_BODY and kind != "application/json":
        return 400, "the body must be JSON, with the content type application/json"
    return None


def without_secrets(texts: Mapping[str, str], headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Texts and headers of a request, with the tokens in its headers masked in both."""
    secrets = {word for name in _SECRET_HEADERS for word in headers.get(name, "").split() if len(word) > len("bearer")}

    def struck(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, STRUCK)
        return text

    return {name: struck(text) for name, text in texts.items()}, {
        name: STRUCK if name in _SECRET_HEADERS else struck(text) for name, text in headers.items()
    }


def _is_own(host: str, bound_to: str) -> bool:
    """Whether a Host is an address, a name without a dot, or the name that the server is bound to. A web page's host name that resolves to
    this machine (DNS rebinding) does not match."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if not name or "." not in name or name == bound_to.lower() or name.endswith(".localhost"):
        return bool(name)
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
