"""Reads the custom IDs of a batch's results, to find out whether the batch has this task's rows."""

from __future__ import annotations

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.results.collect import collect
from airflow_bifrost.results.ids import CustomIds


def result_ids(
    client: GatewayClient,
    batch_id: str,
    provider: str,
    storage_conn_id: str | None = None,
    folder: str | None = None,
) -> list[str]:
    """The custom IDs of a batch's results.

    :param storage_conn_id: Airflow connection for results in an object store; None: the credentials of the worker's environment.
    :param folder: the folder in the object store that the results must be below; None: any.
    :raises ResultsUnavailable: there are no results.
    :raises BifrostGatewayError: they cannot be read now.
    """
    found = CustomIds()
    collect(client, batch_id, provider, found, storage_conn_id=storage_conn_id, folder=folder)
    return found.ids
