"""A batch at one moment: its phase, its rows and its files."""

from __future__ import annotations

import time

from airflow_bifrost.testing import clock
from airflow_bifrost.testing.clock import Batch
from airflow_bifrost.testing.providers import PROVIDERS, Snapshot
from airflow_bifrost.testing.store import Store
from airflow_bifrost.testing.versions import V1_4, Version


def snapshot(store: Store, batch: Batch, version: Version = V1_4, now: float | None = None) -> Snapshot:
    """The batch as it stands at ``now`` (seconds since the epoch; None: at this moment)."""
    api = PROVIDERS[batch.provider]
    progress = clock.progress(batch, api.phases, time.time() if now is None else now)
    tally = store.tally(batch, progress.finished)
    kinds = api.yielded(progress, batch, tally)
    files = store.yields(batch) if kinds else {}
    ids: dict[str, str] = {kind: files[kind].id for kind in kinds & files.keys()}
    return Snapshot(batch, progress, tally, ids, version)
