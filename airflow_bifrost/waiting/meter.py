"""What the hub tells of its work, for those who count. This one tells nobody."""

from __future__ import annotations


class Meter:
    """Each method is called where something has happened; nothing is expected back."""

    def __init__(self, conn_id: str) -> None:
        """``conn_id``: of the Airflow connection whose hub it is."""

    def waiting(self, number: int) -> None:
        """So many triggers wait now."""

    def poll(self, kind: str, error: Exception | None) -> None:
        """A request has ended. ``kind``: ``batch`` or ``list``."""

    def saved(self, number: int) -> None:
        """So many looks needed no request of their own."""

    def detected(self, seconds: float) -> None:
        """A batch was found to have ended so long ago, as the provider's clock has it."""

    def outage(self, on: bool) -> None:
        """An outage has begun or ended."""
