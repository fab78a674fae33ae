"""Virtual keys: who may call what, in the gateway's own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_bifrost.testing.errors import GatewayError

_PREFIX = "sk-bf-"


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A token that the gateway knows. ``providers`` None: all of them may be used."""

    token: str
    providers: tuple[str, ...] | None = None
    active: bool = True
    budget_exhausted: bool = False
    rate_limited: bool = False


class Governance:
    """Decides about each call by its headers and provider.

    :param keys: the virtual keys that exist; None: any token that looks like one (``sk-bf-...``) is taken for a good one.
    :param enforced: whether a call without a virtual key is refused.
    """

    def __init__(self, keys: Iterable[str | VirtualKey] | None, *, enforced: bool) -> None:
        self.enforced = enforced
        known = None if keys is None else [VirtualKey(key) if isinstance(key, str) else key for key in keys]
        self._keys = None if known is None else {key.token: key for key in known}

    def check(self, headers: Mapping[str, str], provider: str) -> None:
        """Raise the gateway's refusal, if it refuses."""
        token = presented_key(headers)
        key = self._find(token) if token else None
        if key is None:
            if self.enforced:
                raise GatewayError(
                    "virtual key is required. Provide a virtual key via the x-bf-vk header.",
                    status=401,
                    kind="virtual_key_required",
                )
            if token:
                raise GatewayError("Virtual key not found", status=403, kind="virtual_key_not_found")
            return
        if not key.active:
            raise GatewayError("Virtual key is inactive", status=403, kind="virtual_key_blocked")
        if key.providers is not None and provider not in key.providers:
            raise GatewayError(
                f"Provider '{provider}' is not allowed for this virtual key", status=403, kind="provider_blocked"
            )
        if key.rate_limited:
            raise GatewayError(
                "Rate limit check failed: rate limit violated for VK: request limit exceeded (9/3, resets every 1h)",
                status=429,
                kind="request_limited",
            )
        if key.budget_exhausted:
            raise GatewayError(
                "Budget exceeded: VK budget exceeded: 5.0000 >= 1.0000 dollars", status=402, kind="budget_exceeded"
            )

    def _find(self, token: str) -> VirtualKey | None:
        if self._keys is not None:
            return self._keys.get(token)
        return VirtualKey(token) if token.startswith(_PREFIX) else None


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The virtual key that a call presents, by the gateway's precedence; None if it presents none.

    Whatever stands in ``x-bf-vk`` is taken for one; elsewhere only a token with the prefix, in either case.
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
