"""What the gateway itself refuses before it asks a provider: invalid providers, inputs and cursors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace

from airflow_bifrost.testing.calls import Call
from airflow_bifrost.testing.errors import (
    GatewayError,
    no_batch_key,
    no_key,
    refused,
    twice,
    unknown_provider,
    unsupported,
)
from airflow_bifrost.testing.model import JsonObject
from airflow_bifrost.testing.providers import PROVIDERS, WITHOUT_BATCHES

# What the gateway's own keys of a provider are good for, where that is less than everything.
KEYS = ("none", "not_for_batches")
DEFAULT_KEYS = {"cohere": "not_for_batches"}

_FIRST_PAGE = 30  # what the gateway asks for if no usable limit is given
_PAGE_CAP = 100
_PROVIDER_PAGE = 20  # what a provider gives if it is not asked for a number


def check_input(body: JsonObject) -> None:
    """Raise if a create has no input."""
    if not body.get("input_file_id") and not body.get("requests"):
        raise GatewayError("either input_file_id or requests is required for batch create request")


def check_provider(provider: str, request_type: str) -> None:
    """Raise if the gateway has no such provider. The gateway checks this before the caller's key."""
    if provider in PROVIDERS or provider in WITHOUT_BATCHES:
        return
    if request_type == "batch_create":
        raise GatewayError("provider not found for batch create request")
    raise unknown_provider().about(provider, request_type)


def check(call: Call, keys: Mapping[str, str]) -> None:
    """Raise if the call cannot be sent to its provider. The gateway checks this after the caller's key.

    :param keys: what the gateway's keys of a provider are good for: see ``KEYS``.
    """
    provider, request_type = call.provider, call.route.request_type
    if keys.get(provider) == "none":
        raise no_key(provider, request_type)
    if keys.get(provider) == "not_for_batches" and (request_type.startswith("batch") or request_type == "file_upload"):
        raise no_batch_key(provider, request_type)
    if provider in WITHOUT_BATCHES:
        raise unsupported(provider, request_type)
    if request_type == "batch_create":
        _check_create(provider, call.body)
    if request_type in ("batch_list", "file_list") and PROVIDERS[provider].cursors_advance and call.query.get("after"):
        read_cursor(call.query["after"])
    if request_type == "file_content" and provider == "gemini":
        raise refused(
            "Gemini Files API doesn't support direct content download. Use the file URI in your requests instead."
        )
    if request_type == "file_upload" and provider == "bedrock" and not call.form.get("storage_config[s3][bucket]"):
        raise refused(
            "s3_bucket is required for Bedrock file operations (provide in storage_config.s3 or extra_params)"
        )


def _check_create(provider: str, body: JsonObject) -> None:
    api = PROVIDERS[provider]
    if api.needs_endpoint and not body.get("endpoint"):
        raise refused(f"endpoint is required for {api.label} batch API")
    if provider == "anthropic" and not body.get("requests"):
        raise refused("requests array is required for Anthropic batch API")
    if provider == "bedrock":
        if not body.get("model"):
            raise refused("model is required for Bedrock batch API")
        for name in ("role_arn", "output_s3_uri"):
            if not body.get(name):
                raise refused(f"{name} is required for Bedrock batch API (provide in extra_params)")


def cursor(last: str) -> str:
    """The cursor of the page after the one that ends with this id."""
    return base64.urlsafe_b64encode(json.dumps({"v": 1, "i": 0, "c": last}, separators=(",", ":")).encode()).decode()


def read_cursor(given: str) -> str:
    """The ID in a cursor of the gateway. Anything else raises the gateway's refusal."""
    try:
        decoded = base64.b64decode(given.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad_cursor("failed to decode cursor: illegal base64 data at input byte 0") from None
    try:
        return str(json.loads(decoded)["c"])
    except (ValueError, KeyError, TypeError):
        first = decoded[:1].decode(errors="replace")
        raise _bad_cursor(
            f"failed to unmarshal cursor: invalid character '{first}' looking for beginning of value"
        ) from None


def page_limit(query: Mapping[str, str]) -> int:
    """How many entries a page of a list has at most."""
    try:
        limit = int(query.get("limit", _FIRST_PAGE))
    except ValueError:
        return _FIRST_PAGE
    return min(limit, _PAGE_CAP) if limit > 0 else _PROVIDER_PAGE


def _bad_cursor(cause: str) -> GatewayError:
    return replace(twice("invalid pagination cursor", error=cause), is_bifrost_error=True)
