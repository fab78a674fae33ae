"""The ASGI application: routing on the raw path, faults, errors, and answers as the gateway writes them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from airflow_bifrost.testing import arguments, calls, control, routes
from airflow_bifrost.testing.batches import UnreadablePage
from airflow_bifrost.testing.calls import Call
from airflow_bifrost.testing.errors import GatewayError, models, routing
from airflow_bifrost.testing.faults import Fault, FaultPlan
from airflow_bifrost.testing.files import plain_name
from airflow_bifrost.testing.gateway import Gateway
from airflow_bifrost.testing.governance import Governance, presented_key
from airflow_bifrost.testing.model import JsonObject
from airflow_bifrost.testing.provider_answers import (
    GatewayEnds,
    ProviderAnswer,
    ProviderAnswered,
    ReadableAnswer,
    received,
)
from airflow_bifrost.testing.recorder import RecordedRequest, Recorder
from airflow_bifrost.testing.store import File
from airflow_bifrost.testing.typical import typical_error
from airflow_bifrost.testing.versions import V1_5, V2, Version

_CHUNK = 1 << 18  # bytes of a download that are read at once
_WEB_PAGE = "<!doctype html><html><head><title>Bifrost</title></head><body><div id='root'></div></body></html>"
_GARBAGE = b"\x00\x01\x02 this is not JSON"
_BODILESS = (204, 304)  # statuses that have no body in HTTP
_CORS = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE, PATCH, OPTIONS, HEAD",
    "access-control-allow-headers": "Content-Type, Authorization, X-Requested-With, X-Stainless-Timeout, X-Api-Key",
    "access-control-max-age": "86400",
}


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class App:
    """Answers HTTP.

    :param keys: what the gateway's keys of a provider are good for, where that is less than everything.
    :param max_body_bytes: larger requests are refused, as the gateway's ``max_request_body_size_mb`` does.
    :param host: the name or address that the server is bound to.
    """

    def __init__(
        self,
        gateway: Gateway,
        governance: Governance,
        faults: FaultPlan,
        recorder: Recorder,
        keys: Mapping[str, str],
        max_body_bytes: int,
        host: str,
    ) -> None:
        self.gateway = gateway
        self.governance = governance
        self.faults = faults
        self.recorder = recorder
        self.keys = keys
        self.max_body_bytes = max_body_bytes
        self.host = host
        self.version = gateway.version
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(scope, receive)
        except Dropped:
            scope["state"]["transport"].abort()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path, method = routes.raw_path(scope), scope["method"]
        if path.startswith("/_local/"):
            return await control.answer(
                Request(scope, receive), path, self.gateway, self.faults, self.recorder, host=self.host
            )
        request = Request(scope, self._recorded(scope, receive, path))
        if int(request.headers.get("content-length", 0)) > self.max_body_bytes:
            return Response("Error when parsing request", 400, {"connection": "close"}, "text/plain")
        route = routes.match(method, path)
        call = None if route is None else await calls.read(request, route, path, self.version)
        fault = self.faults.take(
            method, path, call.provider if call else None, call=route.request_type if route else None
        )
        if fault is None:
            return await self._real(method, path, request, call)
        return await self._faulty(fault, method, path, request, call)

    def _recorded(self, scope: Scope, receive: Receive, path: str) -> Receive:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        record = RecordedRequest(
            scope["method"], path, scope["query_string"].decode("latin-1"), headers, b"", time.time()
        )
        self.recorder.add(record)

        async def recording() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                record.add_body(message.get("body", b""))
            return message

        return recording

    async def _faulty(self, fault: Fault, method: str, path: str, request: Request, call: Call | None) -> Response:
        real = None
        if fault.applied or not fault.replaces_answer:
            real = await self._real(method, path, request, call)
        elif call is None or call.route.request_type not in calls.WITH_BODY:
            async for _ in request.stream():  # who fails has mostly read the request
                pass
        await self._wait(fault.delay)
        if fault.drop:
            raise Dropped
        if real is not None and not fault.replaces_answer:
            return real
        headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
        content: Any = fault.body
        if fault.garbage:
            content = _GARBAGE
        elif content is None and fault.status and fault.status not in _BODILESS:
            content = _typical(fault.status, call, self.version).body(self.version)
        if not isinstance(content, str | bytes | None):
            content = json.dumps(content)
        return Response(content, fault.status or 200, headers, fault.content_type)

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than the server runs."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self.stopping.wait(), seconds)
            except TimeoutError:
                return

    async def _real(self, method: str, path: str, request: Request, call: Call | None) -> Response:
        if call is None:
            return _no_route(method, path, request)
        if routes.ends_the_gateway(path):
            raise Dropped
        try:
            return await self._carry_out(call)
        except GatewayError as error:
            status = error.status_code(native=call.route.native, version=self.version)
            return _json(error.body(self.version), status)
        except UnreadablePage:
            return Response(_GARBAGE, 200, media_type="application/json")
        except GatewayEnds:  # here, it costs the connection only
            raise Dropped from None
        except ReadableAnswer as mistake:
            self.faults.note_misuse(f"{method} {path}: {mistake}")
            return _json({"error": {"message": str(mistake)}}, 400)  # a status that no client repeats

    async def _carry_out(self, call: Call) -> Response:
        request_type = call.route.request_type
        if request_type == "health":
            return _json({"components": {"db_pings": "ok"}, "status": "ok"})
        if request_type == "version":
            return _json(self.version.release)
        if call.refusal is not None:
            raise call.refusal
        if request_type == "batch_create":
            arguments.check_input(call.body, self.version)
        arguments.check_id(call, self.version)
        arguments.check_provider(call.provider, request_type, self.version)
        model = call.body.get("model")
        try:
            self.governance.check(call.headers, call.provider, request_type)
            arguments.check(call, self.keys, self.version)
            body = await self._outcome(call)
        except GatewayError as error:
            raise error.about(call.provider, request_type, model, self.version) from error
        if isinstance(body, File):
            return self._download(body)
        if isinstance(body, ProviderAnswer):
            return Response(body.text, headers={"content-type": body.content_type or "text/plain; charset=utf-8"})
        about: JsonObject = {"request_type": request_type, "provider": call.provider}
        if self.version >= V1_5:
            about |= {"routing_info": routing(call.provider, request_type, model), **models(model, self.version)}
        if self.version >= V2:
            about |= {"upstream_latency": 0, "provider_response_headers": {"content-type": "application/json"}}
        about |= {"latency": 0, "chunk_index": 0}
        unreadable = body.pop("parse_errors", None)
        return _json({**body, "extra_fields": about if unreadable is None else {**about, "parse_errors": unreadable}})

    async def _outcome(self, call: Call) -> JsonObject | File | ProviderAnswer:
        """What the provider says to the call, which is its fault if one is due."""
        fault = self.faults.take(call.method, call.path, call.provider, call=call.route.request_type, at_provider=True)
        if fault is None or fault.provider_answer is None:
            try:
                return await self._effect(call)
            except ProviderAnswered as instead:
                return received(call.provider, call.route.request_type, instead.answer, self.version)
        if fault.applied:
            with suppress(GatewayError, ProviderAnswered):
                await self._effect(call)
        await self._wait(fault.delay)
        return received(call.provider, call.route.request_type, fault.provider_answer, self.version)

    async def _effect(self, call: Call) -> JsonObject | File:
        gateway, provider, route = self.gateway, call.provider, call.route
        native, segment, caller = route.native, route.segment, presented_key(call.headers)
        if route.request_type == "batch_retrieve":
            return gateway.batches.retrieve(provider, segment, native=native, caller=caller)
        if route.request_type == "batch_list":
            return gateway.batches.list(provider, call.query, native=native, caller=caller)
        if route.request_type == "batch_cancel":
            return gateway.batches.cancel(provider, segment, native=native, caller=caller)
        return await asyncio.to_thread(self._slow(call))

    def _slow(self, call: Call) -> Callable[[], JsonObject | File]:
        """The calls that read or write whole files."""
        gateway, provider, route = self.gateway, call.provider, call.route
        native, segment, caller = route.native, route.segment, presented_key(call.headers)
        if route.request_type == "batch_create":
            key = call.headers.get("x-bf-eh-idempotency-key")
            return lambda: gateway.batches.create(
                provider, call.body, native=native, idempotency_key=key, caller=caller
            )
        if route.request_type == "batch_results":
            return lambda: gateway.batches.native_results(provider, segment, caller)
        if route.request_type == "file_list":
            return lambda: gateway.files.list(provider, call.query, native=native)
        if route.request_type == "file_retrieve":
            return lambda: gateway.files.retrieve(provider, segment, native=native)
        if route.request_type == "file_content":
            return lambda: gateway.files.content(provider, segment)
        if route.request_type == "file_delete":
            return lambda: gateway.files.delete(provider, segment, native=native)
        upload = call.upload
        assert upload is not None
        return lambda: gateway.files.upload(
            provider, call.form, plain_name(upload.filename), upload.file, native=native
        )

    def _download(self, file: File) -> Response:
        assert file.blob is not None
        headers = {"content-length": str(file.bytes)}
        content = self.gateway.store.open_blob(file.blob)  # before the answer begins: then it may be deleted
        return StreamingResponse(self._chunks(content), 200, headers, "application/octet-stream")

    def _chunks(self, content: BinaryIO) -> Iterator[bytes]:
        with content:
            while chunk := content.read(_CHUNK):
                yield chunk


def _no_route(method: str, path: str, request: Request) -> Response:
    if method == "OPTIONS":
        origin = request.headers.get("origin", "")
        return Response(None, 200, {**_CORS, "access-control-allow-origin": origin, "vary": "Origin"})
    bare = routes.redirect(method, path)
    if bare is not None:
        query = request.scope["query_string"].decode("latin-1")
        location = f"http://{request.headers.get('host', '')}{bare}{'?' + query if query else ''}"
        return Response(None, 301 if method == "GET" else 308, {"location": location})
    if method == "GET":
        return Response(_WEB_PAGE, 200, {"cache-control": "no-cache"}, "text/html")
    allowed = ["GET", "OPTIONS", *(other for other in ("DELETE", "POST") if routes.match(other, path) is not None)]
    return Response("Method Not Allowed", 405, {"allow": ", ".join(sorted(allowed))}, "text/plain")


def _typical(status: int, call: Call | None, version: Version) -> GatewayError:
    if call is None:
        return typical_error(status, version=version)
    request_type = call.route.request_type
    error = typical_error(status, call.provider, request_type, version)
    return error.about(call.provider, request_type, version=version)


def _json(body: Any, status: int = 200) -> Response:
    content = None if status in _BODILESS else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(content, status, media_type="application/json")
