"""Virtual keys: who may call what, in the gateway's own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from airflow_bifrost.testing.errors import GatewayError
from airflow_bifrost.testing.providers import CONFIGURED, check_names
from airflow_bifrost.testing.versions import V1_4, V1_5, V2, Version

_PREFIX = "sk-bf-"
_REFUSALS: dict[str, tuple[int, str]] = {
    "virtual_key_required": (401, "virtual key is required. Provide a virtual key via the x-bf-vk header."),
    "virtual_key_not_found": (403, "Virtual key not found"),
    "access_not_found": (401, "virtual key not found. The provided virtual key does not exist or has been revoked."),
    "virtual_key_blocked": (403, "Virtual key is inactive"),
    "access_blocked": (403, "Virtual key is inactive"),
    "provider_blocked": (403, "Provider '{}' is not allowed for this virtual key"),
    "model_blocked": (403, "This virtual key must allow all models of '{}' to upload a file"),
    "request_limited": (
        429,
        "Rate limit check failed: rate limit violated for {}: {}request limit exceeded (9/3, resets every 1h){}",
    ),
    "token_limited": (
        429,
        "Rate limit check failed: rate limit violated for {}: {}token limit exceeded (9/3, resets every 1h){}",
    ),
    "budget_exceeded": (402, "Budget exceeded: {} budget exceeded: 5.0000 >= 1.0000 dollars"),
}


_EXHAUSTED = {"budget": "budget_exceeded", "requests": "request_limited", "tokens": "token_limited"}


def refusal(kind: str, what: str = "VK", version: Version = V1_4) -> GatewayError:
    """The governance's refusal of this kind, in the words of the version. The kind becomes the top-level ``type``.

    :param what: whose it is: the provider's, or the whole virtual key's.
    """
    if kind == "virtual_key_not_found" and version >= V1_5:
        status, message = _REFUSALS["access_not_found"]
        kind = kind if version < V2 else "access_not_found"
    elif kind == "virtual_key_blocked" and version >= V2:
        kind = "access_blocked"
        status, message = _REFUSALS[kind]
    else:
        status, message = _REFUSALS[kind]
    brackets = ("", "") if version < V1_5 else ("[", "]")
    return GatewayError(message.format(what, *brackets), status=status, kind=kind, routed=False)


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A token that the gateway knows.

    :param providers: those that it may use; None: all of them.
    :param models: the models that it may use; None: all of them. Since version 2, a key that may not use all cannot upload a file to
        OpenAI or Azure. Nothing else in the local gateway compares models.
    :param exhausted: what it has used up: ``budget``, ``requests`` or ``tokens``.
    :param exhausted_at: the provider to which the limit applies; None: it applies to the whole key.
    """

    token: str
    providers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    active: bool = True
    exhausted: str | None = None
    exhausted_at: str | None = None

    def __post_init__(self) -> None:
        if self.exhausted is not None and self.exhausted not in _EXHAUSTED:
            raise ValueError(f"exhausted is one of {', '.join(_EXHAUSTED)}, not {self.exhausted!r}")
        check_names("a provider", self.providers or (), CONFIGURED)
        check_names("a provider", [self.exhausted_at] if self.exhausted_at else (), CONFIGURED)


class Governance:
    """Decides about each call by its headers and provider.

    :param keys: the virtual keys that exist; None: any token that looks like one (``sk-bf-...``) is accepted.
    :param enforced: whether a call without a virtual key is refused.
    :param version: the version of the gateway, whose words it uses.
    """

    def __init__(self, keys: Iterable[str | VirtualKey] | None, *, enforced: bool, version: Version = V1_4) -> None:
        self.enforced = enforced
        self._version = version
        known = None if keys is None else [VirtualKey(key) if isinstance(key, str) else key for key in keys]
        self._keys = None if known is None else {key.token: key for key in known}

    def check(self, headers: Mapping[str, str], provider: str, request_type: str = "") -> None:
        """Raise the gateway's refusal, if it refuses."""
        token = presented_key(headers)
        key = self._find(token) if token else None
        if key is None:
            self._refuse_unknown(token)
            return
        if not key.active:
            raise refusal("virtual_key_blocked", version=self._version)
        if key.providers is not None and provider not in key.providers:
            raise refusal("provider_blocked", provider, self._version)
        narrow = key.models is not None and self._version >= V2
        if narrow and request_type == "file_upload" and provider in ("openai", "azure"):
            raise refusal("model_blocked", provider, self._version)
        if key.exhausted is not None and key.exhausted_at in (None, provider):
            raise refusal(_EXHAUSTED[key.exhausted], key.exhausted_at or "VK", self._version)

    def _refuse_unknown(self, token: str | None) -> None:
        if token and (not self.enforced or self._version >= V1_5):
            raise refusal("virtual_key_not_found", version=self._version)
        if self.enforced:
            raise refusal("virtual_key_required", version=self._version)

    def revoke(self, token: str) -> None:
        """Refuse a token from now on.

        :raises KeyError: it is not one of the virtual keys.
        """
        known = self._keys or {}
        known[token] = replace(known[token], active=False)

    def _find(self, token: str) -> VirtualKey | None:
        if self._keys is not None:
            return self._keys.get(token)
        return VirtualKey(token) if token.startswith(_PREFIX) else None


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The virtual key that a call presents, by the gateway's precedence; None if it presents none.

    Any value of ``x-bf-vk`` counts as one. In other headers, only a token with the prefix does, in upper or lower case.
    """
    explicit = headers.get("x-bf-vk")
    if explicit:
        return explicit
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    candidates = (
        headers.get("x-api-key", ""),
        headers.get("x-goog-api-key", ""),
        bearer.strip() if scheme.lower() == "bearer" else "",
    )
    return next((token for token in candidates if token.lower().startswith(_PREFIX)), None)
