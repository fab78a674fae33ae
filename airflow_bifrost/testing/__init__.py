"""A local Bifrost gateway: offline tests of DAGs, demos, and this package's own tests.

It is a real HTTP server that speaks the wire of gateway version 1.4.19: files, batches, lists with cursors, cancel,
native results, virtual keys, and each provider's ids and words for a status. It runs the rows that it is given with a
model that echoes them, and finishes a batch by the clock. It costs nothing and needs no network.

In a test, with the fixture that this package registers with pytest::

    def test_my_dag(bifrost_gateway):               # AIRFLOW_CONN_BIFROST_DEFAULT is set
        dag.test()
        assert len(bifrost_gateway.batches) == 1    # paid for once

``@pytest.mark.bifrost_gateway(batch_seconds=0)`` gives arguments of ``LocalGateway`` to the fixture, and ``token`` to its
connection. Elsewhere::

    with LocalGateway(batch_seconds=2.0) as gateway:
        gateway.url, gateway.connection_json(token="sk-bf-mine")

As a process, which prints its URL on one line, and on stderr a shell's export of the connection::

    python -m airflow_bifrost.testing --port 0 --batch-seconds 60 --state gateway.sqlite

What a row asks for
-------------------
The answer to a prompt is ``echo: <prompt>``. A token is four characters. A prompt (the last user message) may begin with

==================  ======================================================================================
``!say <text>``     the answer is ``<text>``
``!fail [code]``    the row fails, with this HTTP status (default 400)
``!flaky [code]``   it fails (default 500) in the first batch with this prompt, and succeeds in any later one
``!expire``         the row is not run before the batch's window ends
``!missing``        the row stands in no result file, although it counts as completed
``!garble``         its result line is no JSON
==================  ======================================================================================

The clock
---------
A tenth of ``batch_seconds`` is validation, the last tenth is finalizing; in between, row after row is done. A cancelled
batch is ``cancelling`` for a fifth of its seconds and keeps the rows that were done. Everything that can be seen is in
the SQLite file and follows from the time of creation, so a killed server continues as if it had been there.

What goes wrong on request
--------------------------
``gateway.inject(Fault(status=503, times=2))`` and the like: see ``Fault``. A fault that replaces an answer keeps the
call from taking effect; with ``applied=True`` it takes effect and only the answer is lost.

``gateway.inject(Fault(provider_answer=ProviderAnswer(status=429, body={"error": {"message": "slow down"}})))`` lets the provider
behind the gateway answer so, and ``ProviderAnswer(failure="close")`` lets it fail: the gateway makes of it what the real
one makes of it for that provider, route and call. A call that the gateway refuses by itself, because of its token or
its arguments, does not get there, and the fault waits for the next. Where the real gateway's process ends, here only the
connection does.

``gateway.add_batch(...)`` puts a batch straight into the state, ``gateway.set_batch(id, ...)`` overrides what it shows,
``gateway.requests`` is what was asked, ``gateway.restart(down_seconds=2)`` is an outage, and ``gateway.reset()`` is a
clean start for the next test of a shared gateway.

The same over HTTP
------------------
For a gateway in another process. Bodies are JSON; mistakes are answered with 400 and ``{"error": ...}``.

=========================================  ===============================================================
``POST /_local/faults``                    the fields of ``Fault``, ``provider`` as an object; 204
``GET``, ``DELETE /_local/faults``         the faults that are due; forget them
``POST /_local/batches``                   the arguments of ``LocalGateway.add_batch``; ``{"id": ...}``
``GET /_local/batches``                    every batch, with ``provider``, ``rows``, ``idempotency_key``
``PATCH /_local/batches/{id}``             wire fields to override, as ``LocalGateway.set_batch``; 204
``GET``, ``DELETE /_local/requests``       what was asked, oldest first; forget it
=========================================  ===============================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_bifrost.testing.behavior import ProviderBehavior
    from airflow_bifrost.testing.faults import Fault
    from airflow_bifrost.testing.governance import VirtualKey
    from airflow_bifrost.testing.local_gateway import LocalGateway
    from airflow_bifrost.testing.provider_answers import ProviderAnswer
    from airflow_bifrost.testing.recorder import RecordedRequest

__all__ = ["Fault", "LocalGateway", "ProviderAnswer", "ProviderBehavior", "RecordedRequest", "VirtualKey"]

_HOMES = {
    "Fault": "faults",
    "LocalGateway": "local_gateway",
    "RecordedRequest": "recorder",
    "ProviderAnswer": "provider_answers",
    "ProviderBehavior": "behavior",
    "VirtualKey": "governance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
