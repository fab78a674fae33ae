"""Reads a request into a call: its provider from where that route takes it, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from airflow_bifrost.testing.errors import GatewayError, bad_request, invalid_json, unparsable_upload
from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.routes import Route
from airflow_bifrost.testing.versions import V1_4, V1_5, Version

WITH_BODY = frozenset({"batch_create", "batch_cancel", "file_upload"})  # calls whose body is read


@dataclass(slots=True)
class Call:
    """One call of the gateway's API."""

    route: Route
    method: str
    path: str  # raw
    headers: dict[str, str]
    query: dict[str, str]
    provider: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    upload: UploadFile | None = None
    refusal: GatewayError | None = None  # what is wrong with the request itself


async def read(request: Request, route: Route, path: str, version: Version = V1_4) -> Call:
    """Read a request. If it is invalid, ``refusal`` says why, because a fault may take precedence."""
    query = dict(parse_qsl(request.scope["query_string"].decode("latin-1")))
    call = Call(route, request.method, path, dict(request.headers), query)
    named = ""
    try:
        if route.request_type == "batch_create":
            call.body = await _json(request, version)
            named = _created_for(call, version)
        elif route.request_type == "batch_cancel":
            named = str((await _json(request, version)).get("provider") or "") if not route.native else ""
        elif route.request_type == "file_upload":
            await _read_upload(request, call, version)
            named = call.form.get("provider", "") if not route.native else call.headers.get("x-model-provider", "")
    except GatewayError as error:
        call.refusal = error
    call.provider = _provider(call, named, version)
    return call


def _provider(call: Call, named: str, version: Version) -> str:
    route = call.route
    if route.native and route.request_type == "file_list":
        provider = call.query.get("x-model-provider") or call.headers.get("x-model-provider", "")
        if not provider and version >= V1_5:
            provider = call.query.get("provider", "")
        if not provider:
            call.refusal = bad_request("x-model-provider query parameter or x-model-provider header is required")
        return provider
    in_query = route.request_type not in ("batch_create", "file_upload") or (
        route.native and route.request_type == "file_upload"
    )
    provider = named or (call.query.get("provider", "") if in_query else "")
    if provider or (route.native and route.request_type == "batch_create"):
        return provider
    if route.native:
        call.refusal = call.refusal or bad_request("provider query parameter is required")
        return ""
    return "azure" if "AzureOpenAI" in call.headers.get("user-agent", "") else "openai"


def _created_for(call: Call, version: Version) -> str:
    body = call.body
    if call.route.native:
        provider, _, model = str(body.get("model") or "").partition("/")
        if version >= V1_5 and not model:
            return _named_elsewhere(call)
        if not model:
            raise bad_request("model should be in provider/model format or provider must be specified")
        body["model"] = model
        return provider
    return str(body.get("provider") or "")


def _named_elsewhere(call: Call) -> str:
    provider = call.query.get("provider") or call.headers.get("x-model-provider", "")
    if not provider:
        raise bad_request("provider query parameter or x-model-provider header is required when model is not specified")
    return provider


async def _json(request: Request, version: Version) -> dict[str, Any]:
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        body = parsed(raw)
    except ValueError as error:
        position = getattr(error, "pos", 0)
        raise invalid_json(f'"Syntax error at index {position}: {error}"', len(raw), version) from error
    if not isinstance(body, dict):
        raise invalid_json("Mismatch type object with value array", len(raw), version)
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise invalid_json("Mismatch type string with value number", len(raw), version)
    if version >= V1_5 and not isinstance(body.get("output_folder", {}), dict):
        raise invalid_json("Mismatch type schemas.BatchOutputFolder with value string", len(raw), version)
    return body


async def _read_upload(request: Request, call: Call, version: Version) -> None:
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data") or "boundary=" not in kind:
        raise unparsable_upload("request Content-Type has bad boundary or is not multipart/form-data", version)
    try:
        form = await request.form()
    except MultiPartException as error:
        raise unparsable_upload(error.message, version) from error
    call.form = {name: value for name, value in form.items() if isinstance(value, str)}
    file = form.get("file")
    call.upload = file if isinstance(file, UploadFile) else None
    if not call.form.get("purpose"):
        raise unparsable_upload("purpose field is required", version)
    if call.upload is None:
        raise unparsable_upload("file field is required", version)
    if not call.upload.size:
        provider = call.form.get("provider", "openai")
        refusal = GatewayError("file content is required for file upload request", routed=False)
        raise refusal.about(provider, "file_upload", version=version)
