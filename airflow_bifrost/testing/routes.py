"""Maps a method and a raw path to a call. Like the gateway, it never decodes or normalizes the path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

_ROUTE = re.compile(
    r"(?P<prefix>/openai/v1|/openai/openai|/openai|/v1)/(?P<kind>batches|files)"
    r"(?:/(?P<id>[^/]+)(?:/(?P<verb>cancel|content|results))?)?"
)
_CALLS = {
    ("batches", False, None, "GET"): "batch_list",
    ("batches", False, None, "POST"): "batch_create",
    ("batches", True, None, "GET"): "batch_retrieve",
    ("batches", True, "cancel", "POST"): "batch_cancel",
    ("batches", True, "results", "GET"): "batch_results",
    ("files", False, None, "GET"): "file_list",
    ("files", False, None, "POST"): "file_upload",
    ("files", True, None, "GET"): "file_retrieve",
    ("files", True, None, "DELETE"): "file_delete",
    ("files", True, "content", "GET"): "file_content",
}
_PLAIN = {"/health": "health", "/api/version": "version"}
CALLS = (*_PLAIN.values(), *_CALLS.values())
"""The gateway's names of all calls."""


@dataclass(frozen=True, slots=True)
class Route:
    """A call that the gateway knows, by its own name for it (``request_type``)."""

    request_type: str
    native: bool = False
    segment: str = ""  # the raw id


def match(method: str, path: str) -> Route | None:
    """The call that a method and a raw path are; None: no route."""
    if path in _PLAIN:
        return Route(_PLAIN[path]) if method == "GET" else None
    found = _ROUTE.fullmatch(path)
    if found is None:
        return None
    request_type = _CALLS.get((found["kind"], found["id"] is not None, found["verb"], method))
    native = found["prefix"] == "/v1"
    if request_type is None or (request_type == "batch_results" and not native):
        return None
    return Route(request_type, native, found["id"] or "")


def redirect(method: str, path: str) -> str | None:
    """The path without its trailing slash, where that is a route."""
    bare = path[:-1]
    return bare if path.endswith("/") and match(method, bare) is not None else None


def raw_path(scope: Scope) -> str:
    """The target up to the query as it came, without the origin of an absolute one and without a fragment."""
    target: str = scope["raw_path"].decode("latin-1").partition("#")[0]
    for scheme in ("http://", "https://"):
        if target.startswith(scheme):
            return "/" + target.removeprefix(scheme).partition("/")[2]
    return target


def ends_the_gateway(path: str) -> bool:
    """Bytes in a path that are no UTF-8 end the gateway's process; here they cost the connection only."""
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return True
    return False
