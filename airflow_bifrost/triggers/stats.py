"""The metrics ``bifrost.*`` about waits, sent through Airflow's own metrics; each has the tag ``connection``."""

from __future__ import annotations

from datetime import timedelta

from airflow_bifrost._compat import stats
from airflow_bifrost.waiting.meter import Meter


class AirflowMeter(Meter):
    """
    ==============================  =======  ==================================================================================
    ``bifrost.waiting``             gauge    triggers that wait in this process
    ``bifrost.polls``               counter  requests; tags ``kind`` (``batch``, ``list``) and ``result`` (``ok``, or the error's class)
    ``bifrost.requests_saved``      counter  polls that were answered by a request for another wait
    ``bifrost.detection_delay``     timer    from a batch's end, by the provider's clock, to its detection
    ``bifrost.outage``              gauge    1 in an outage of the gateway or a provider, else 0
    ==============================  =======  ==================================================================================
    """

    def __init__(self, conn_id: str) -> None:
        super().__init__(conn_id)
        self._tags = {"connection": conn_id}
        self._stats = stats()

    def waiting(self, number: int) -> None:
        self._stats.gauge("bifrost.waiting", number, tags=self._tags)

    def poll(self, kind: str, error: Exception | None) -> None:
        result = "ok" if error is None else type(error).__name__
        self._stats.incr("bifrost.polls", tags={**self._tags, "kind": kind, "result": result})

    def saved(self, number: int) -> None:
        if number > 0:
            self._stats.incr("bifrost.requests_saved", number, tags=self._tags)

    def detected(self, seconds: float) -> None:
        self._stats.timing("bifrost.detection_delay", timedelta(seconds=max(0.0, seconds)), tags=self._tags)

    def outage(self, on: bool) -> None:
        self._stats.gauge("bifrost.outage", int(on), tags=self._tags)
