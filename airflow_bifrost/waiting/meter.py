"""What the hub reports about its work, for metrics."""

from __future__ import annotations


class Meter:
    """Each method is called when its event has happened. This class ignores every event."""

    def __init__(self, conn_id: str) -> None:
        """``conn_id``: ID of the hub's Airflow connection."""

    def waiting(self, number: int) -> None:
        """This many triggers are waiting now."""

    def poll(self, kind: str, error: Exception | None) -> None:
        """A request has ended. ``kind``: ``batch`` or ``list``."""

    def saved(self, number: int) -> None:
        """This many polls were answered by a request for another wait."""

    def detected(self, seconds: float) -> None:
        """A batch was found terminal this many seconds after its end, by the provider's clock."""

    def outage(self, on: bool) -> None:
        """An outage has begun or ended."""
