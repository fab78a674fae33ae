"""What the gateway itself refuses before it asks a provider: invalid providers, inputs and cursors."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

from airflow_bifrost.testing.calls import Call
from airflow_bifrost.testing.errors import (
    GatewayError,
    no_batch_key,
    no_key,
    refused,
    twice,
    unknown_provider,
    unsupported,
    unusable_id,
)
from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.model import JsonObject
from airflow_bifrost.testing.providers import PROVIDERS, WITHOUT_BATCHES
from airflow_bifrost.testing.versions import V1_4, V1_5, V2, Version

# What the gateway's own keys of a provider are good for, where that is less than everything.
KEYS = ("none", "not_for_batches")
DEFAULT_KEYS = {"cohere": "not_for_batches"}

_FIRST_PAGE = 30  # what the gateway asks for if no usable limit is given
_PAGE_CAP = 100
_PROVIDER_PAGE = 20  # what a provider gives if it is not asked for a number


def check_input(body: JsonObject, version: Version) -> None:
    """Raise if a create has no input."""
    if not body.get("input_file_id") and not body.get("requests"):
        inputs = "input_file_id or requests" if version < V1_5 else "input_file_id, input_blob, or requests"
        raise GatewayError(f"either {inputs} is required for batch create request", routed=False)


def check_provider(provider: str, request_type: str, version: Version) -> None:
    """Raise if the gateway has no such provider. The gateway checks this before the caller's key."""
    if (provider in PROVIDERS and version >= PROVIDERS[provider].since) or provider in WITHOUT_BATCHES:
        return
    if request_type == "batch_create":
        raise GatewayError("provider not found for batch create request", routed=False)
    raise unknown_provider(provider, version).about(provider, request_type, version=version)


_PATH_SHAPING = re.compile(r"[/\\?#%\x00-\x1f\x7f]")


def check_id(call: Call, version: Version) -> None:
    """Raise if an ID would change the path at the provider. Gateways check this since 2.0."""
    segment = call.route.segment
    if version < V2 or not segment:
        return
    plain = unquote(segment)
    if plain in (".", "..") or _PATH_SHAPING.search(plain):
        raise unusable_id("batch_id" if call.route.request_type.startswith("batch") else "file_id", segment)


def check(call: Call, keys: Mapping[str, str], version: Version) -> None:
    """Raise if the call cannot be sent to its provider. The gateway checks this after the caller's key.

    :param keys: what the gateway's keys of a provider are good for: see ``KEYS``.
    """
    provider, request_type = call.provider, call.route.request_type
    if keys.get(provider) == "none":
        raise no_key(provider, request_type)
    if keys.get(provider) == "not_for_batches" and (request_type.startswith("batch") or request_type == "file_upload"):
        raise no_batch_key(provider, request_type, version)
    if provider in WITHOUT_BATCHES:
        raise unsupported(provider, request_type)
    if request_type == "batch_create":
        _check_create(provider, call.body)
    if request_type in ("batch_list", "file_list") and PROVIDERS[provider].cursors_advance and call.query.get("after"):
        read_cursor(call.query["after"], version)
    if request_type == "file_content" and provider == "gemini":
        raise refused(
            "Gemini Files API doesn't support direct content download. Use the file URI in your requests instead."
        )
    _check_storage(call)


_ONE_FILE = ("file_retrieve", "file_delete", "file_content")


def _check_storage(call: Call) -> None:
    """Raise if a call about files in an object store does not say in which bucket, or names none of its files."""
    provider, request_type = call.provider, call.route.request_type
    own = PROVIDERS[provider].own_file_id(call.route.segment) if request_type in _ONE_FILE else ""
    if provider == "bedrock":
        if request_type == "file_upload" and not call.form.get("storage_config[s3][bucket]"):
            raise refused(
                "s3_bucket is required for Bedrock file operations (provide in storage_config.s3 or extra_params)"
            )
        if request_type in _ONE_FILE and not own.startswith("s3://"):
            raise refused("invalid S3 URI format, expected s3://bucket/key")
    if provider == "vertex":
        given = {"file_upload": call.form, "file_list": call.query}.get(request_type)
        if given is not None and not given.get("storage_config[gcs][bucket]"):
            what = "FileUpload" if request_type == "file_upload" else "FileList"
            raise refused(f"gcs_bucket is required for Vertex {what} (provide in storage_config.gcs)")
        if request_type in _ONE_FILE and not own.startswith("gs://"):
            raise refused(f'invalid GCS URI "{own}": must start with gs://')


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
    if provider == "vertex":
        if not body.get("model"):
            raise refused("model is required for Vertex batch API")
        if not str(body.get("output_folder", {}).get("url", "")).startswith("gs://"):
            raise refused("output_folder.url (gs:// prefix) is required for Vertex batch API")


def cursor(last: str) -> str:
    """The cursor of the page after the one that ends with this id."""
    return base64.urlsafe_b64encode(json.dumps({"v": 1, "i": 0, "c": last}, separators=(",", ":")).encode()).decode()


def read_cursor(given: str, version: Version = V1_4) -> str:
    """The ID in a cursor of the gateway. Since 1.5, anything else counts as the provider's own ID. Before, it raises the gateway's refusal."""
    try:
        return _read_cursor(given)
    except GatewayError:
        if version < V1_5:
            raise
        return given


def _read_cursor(given: str) -> str:
    try:
        decoded = base64.b64decode(given.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad_cursor("failed to decode cursor: illegal base64 data at input byte 0") from None
    try:
        return str(parsed(decoded)["c"])
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
