"""How much one batch may hold: the provider's limits, and the gateway's limit on a request."""

from __future__ import annotations

from dataclasses import replace

from airflow_bifrost import providers
from airflow_bifrost.providers.base import Limits

GATEWAY_BYTES = 100 * 2**20  # the default of the gateway's `client.max_request_body_size_mb` is 100
# Bytes of a request in addition to the rows: the form's other fields, or the other members of a create.
FORM_ROOM = 64 * 2**10


def limits_of(provider: str, gateway_bytes: int = GATEWAY_BYTES) -> Limits:
    """The limits of a provider behind a gateway.

    :param gateway_bytes: the largest request body that the gateway accepts. It closes the connection on a larger one, which looks like an
        outage, so no part gets larger than this, minus some bytes for the rest of the request. For larger parts, raise
        ``client.max_request_body_size_mb`` in the gateway's configuration, and give its new value here, in bytes.
    :raises ValueError: ``gateway_bytes`` leaves no room for rows.
    """
    if gateway_bytes <= FORM_ROOM:
        raise ValueError(
            f"gateway_bytes is {gateway_bytes:,}, and the form around the rows takes up to {FORM_ROOM:,} bytes"
        )
    limits = providers.get(provider).limits
    own = limits.bytes - FORM_ROOM if limits.inline else limits.bytes
    return replace(limits, bytes=min(own, gateway_bytes - FORM_ROOM))
