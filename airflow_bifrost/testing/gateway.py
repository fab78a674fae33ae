"""The gateway's calls, on top of the state."""

from __future__ import annotations

from airflow_bifrost.testing.batches import Batches
from airflow_bifrost.testing.behavior import Behaviors
from airflow_bifrost.testing.by_hand import ByHand
from airflow_bifrost.testing.files import Files
from airflow_bifrost.testing.store import Store
from airflow_bifrost.testing.versions import V1_4, Version


class Gateway:
    """Files and batches.

    :param store: where they are kept.
    :param batch_seconds: seconds from creation to the end of a new batch.
    :param version: the version of the gateway.
    """

    def __init__(self, store: Store, batch_seconds: float, behaviors: Behaviors, version: Version = V1_4) -> None:
        self.store = store
        self.version = version
        self.behaviors = behaviors
        self.files = Files(store, behaviors, version)
        self.batches = Batches(store, self.files, behaviors, batch_seconds, version)
        self.by_hand = ByHand(store, self.files, self.batches, version)
