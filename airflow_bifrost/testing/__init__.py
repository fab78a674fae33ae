"""A local Bifrost gateway, for offline tests of DAGs and for demos.

It is an HTTP server that answers as a gateway of version 1.4, 1.5 or 2 does: files, batches, lists with cursors, cancel, native
results, virtual keys, and each provider's IDs and statuses. A model that echoes its prompt answers the rows. A batch ends after
``batch_seconds``. It costs nothing and needs no network.

The public names are those of ``__all__``: ``LocalGateway``, ``Fault``, ``ProviderAnswer``, ``ProviderBehavior``,
``VirtualKey``, ``RecordedRequest``; and the pytest fixture ``bifrost_gateway``. Wherever a call is about one model
provider, the argument is called ``provider``.

In a test, with the fixture that this package registers with pytest::

    def test_my_dag(bifrost_gateway):               # AIRFLOW_CONN_BIFROST_DEFAULT is set
        dag.test()
        assert len(bifrost_gateway.batches) == 1    # paid for once

``@pytest.mark.bifrost_gateway(batch_seconds=0)`` passes arguments of ``LocalGateway`` to the fixture, and ``token`` to its
connection. Elsewhere::

    with LocalGateway(batch_seconds=2.0, version="1.5") as gateway:
        gateway.url, gateway.connection_json(token="sk-bf-mine")

As a process, which prints its URL on one line, and on stderr a shell command that exports the connection::

    python -m airflow_bifrost.testing --port 0 --batch-seconds 60 --state gateway.sqlite --version 1.5

What a row asks for
-------------------
The answer to a prompt is ``echo: <prompt>``. A token is four characters. A prompt (the last user message) may begin with

==================  ======================================================================================
``!say <text>``     the answer is ``<text>``
``!fail [code]``    the row fails, with this HTTP status (default 400)
``!flaky [code]``   the row fails (default 500) in the first batch with this prompt, and succeeds in any later one
``!expire``         the row does not run before the batch's window ends
``!missing``        no result file has the row, although it counts as completed
``!garble``         the row's result line is not JSON
==================  ======================================================================================

The clock
---------
The first tenth of ``batch_seconds`` is validation and the last tenth is finalizing. In between, the rows complete one after
the other. A cancelled batch is ``cancelling`` for a fifth of its seconds and keeps the rows that are complete. The whole
state is in the SQLite file and follows from the time of creation, so a killed server continues at the current time.

Faults
------
``gateway.inject(Fault(status=503, times=2))``: see ``Fault``. If a fault replaces an answer, the call has no effect. With
``applied=True`` the call takes effect, and only the answer is lost. ``Fault(call="batch_list", ...)`` matches only one
call of the API.

``gateway.inject(Fault(provider_answer=ProviderAnswer(status=429, body={"error": {"message": "slow down"}})))`` is an answer of
the provider behind the gateway, and ``ProviderAnswer(failure="close")`` a failure. The local gateway then answers as the
real one does for that provider, route and call. If the gateway itself refuses a call, because of its token or
its arguments, the call does not reach the provider, and the fault stays for the next call. If the real gateway's process
would end, the local gateway only closes the connection.

``gateway.behave("azure", ProviderBehavior(file_pending=2))``: files that are processed late, results that are named late,
faulty lists. See ``ProviderBehavior``.

``gateway.add_batch(...)`` adds a batch, ``gateway.set_batch(id, ...)`` overrides what it shows, ``gateway.requests`` are the
requests so far, ``gateway.restart(down_seconds=2)`` is an outage, and ``gateway.reset()`` is a clean start for the next test
of a shared gateway.

Control over HTTP
-----------------
For a gateway in another process. Bodies are JSON. An invalid call is answered with 400 and ``{"error": ...}``, and a call
of a web page, or with a host name that is not this machine's, with 403. Tokens in the requests are masked.

=========================================  ===============================================================
``POST /_local/faults``                    the fields of ``Fault``, ``provider_answer`` as an object; 204
``GET``, ``DELETE /_local/faults``         the faults that are due; forget them
``POST /_local/batches``                   the arguments of ``LocalGateway.add_batch``; ``{"id": ...}``
``GET /_local/batches``                    every batch, with ``provider``, ``rows``, ``idempotency_key``
``PATCH /_local/batches/{id}``             the members to override, as ``LocalGateway.set_batch``; 204
``PUT /_local/behavior/{provider}``        the fields of ``ProviderBehavior``; 204
``GET``, ``DELETE /_local/requests``       the requests so far, oldest first; forget them
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
