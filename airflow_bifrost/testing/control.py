"""The control surface over HTTP, for processes that have no ``LocalGateway`` at hand. Documented in the package."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_bifrost.testing.behavior import ProviderBehavior
from airflow_bifrost.testing.browser import refusal, without_secrets
from airflow_bifrost.testing.faults import Fault, FaultPlan
from airflow_bifrost.testing.gateway import Gateway
from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.provider_answers import ProviderAnswer
from airflow_bifrost.testing.recorder import RecordedRequest, Recorder


async def answer(
    request: Request, path: str, gateway: Gateway, faults: FaultPlan, recorder: Recorder, *, host: str
) -> Response:
    """Perform a control call. An invalid call is answered with a 400 that says what is wrong, and one of a web page with a 403.

    :param host: the name or address that the server is bound to.
    """
    if refused := refusal(request.method, request.headers, host):
        status, reason = refused
        return JSONResponse({"error": reason}, status)
    try:
        return await _answer(request, path.removeprefix("/_local"), gateway, faults, recorder)
    except (ValueError, TypeError, LookupError) as error:
        return JSONResponse({"error": str(error)}, 400)


async def _answer(request: Request, path: str, gateway: Gateway, faults: FaultPlan, recorder: Recorder) -> Response:
    call = f"{request.method} {path}"
    if call == "POST /faults":
        faults.add(_fault(**await _object(request)))
        return Response(status_code=204)
    if call == "GET /faults":
        return JSONResponse([dataclasses.asdict(fault) for fault in faults.pending()])
    if call == "DELETE /faults":
        faults.clear()
        return Response(status_code=204)
    if call == "POST /batches":
        fields = await _object(request)
        return JSONResponse({"id": await asyncio.to_thread(gateway.by_hand.add_batch, **fields)})
    if call == "GET /batches":
        return JSONResponse(await asyncio.to_thread(gateway.by_hand.describe))
    if request.method == "PATCH" and path.startswith("/batches/"):
        await asyncio.to_thread(gateway.by_hand.set_batch, path.removeprefix("/batches/"), **await _object(request))
        return Response(status_code=204)
    if request.method == "PUT" and path.startswith("/behavior/"):
        gateway.behaviors.set(path.removeprefix("/behavior/"), ProviderBehavior.read(await _object(request)))
        return Response(status_code=204)
    if call == "GET /requests":
        return JSONResponse([_shown(record) for record in recorder.all()])
    if call == "DELETE /requests":
        recorder.clear()
        return Response(status_code=204)
    return JSONResponse({"error": f"no such control call: {call}"}, 404)


def _fault(provider_answer: dict[str, Any] | None = None, **fields: Any) -> Fault:
    return Fault(provider_answer=None if provider_answer is None else ProviderAnswer(**provider_answer), **fields)


async def _object(request: Request) -> dict[str, Any]:
    value = parsed(await request.body())
    if not isinstance(value, dict):
        raise TypeError("the body must be a JSON object")
    return value


def _shown(record: RecordedRequest) -> dict[str, Any]:
    texts = {"path": record.path, "query": record.query, "body": record.body.decode(errors="replace")}
    texts, headers = without_secrets(texts, record.headers)
    return {**dataclasses.asdict(record), **texts, "headers": headers}
