"""The ``progress`` XCom, written from the worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_bifrost.triggers.airflow_channel import progress_interval
from airflow_bifrost.waiting.progress import ProgressPace

log = logging.getLogger("airflow.task")


class ProgressXCom:
    """Keeps the ``progress`` XCom up to date. If that fails, the wait continues.

    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, ti: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ti = ti
        self._clock = clock
        self._pace = ProgressPace(progress_interval())

    def offer(self, progress: dict[str, Any] | None, *, last: bool = False) -> None:
        """Write ``progress`` if it has changed and the interval has passed, or if it is the last.

        :param progress: None if nothing is known yet.
        """
        if progress is None or (self._pace.due(lambda: progress, now=self._clock()) is None and not last):
            return
        try:
            self._ti.xcom_push("progress", progress)
        except Exception as error:  # noqa: BLE001 - XCom backends may raise anything, and the wait matters more
            log.warning("Writing the progress XCom failed (%s: %s). The wait continues", type(error).__name__, error)
