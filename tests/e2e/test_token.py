"""The token stays in the connection, even if the gateway repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from support import tokens
from support.echoing_gateway import EchoingGateway

if TYPE_CHECKING:
    from support.local_airflow import LocalAirflow

TOKEN = "Canary7f3a9c51e0b8d264Q"  # does not look like a key, so only the exact token can be recognized
PATIENCE = 240.0


def test_a_token_that_the_gateway_repeats_everywhere_is_nowhere_in_airflow(
    airflow: LocalAirflow, tmp_path: Path
) -> None:
    """The token is in no byte below AIRFLOW_HOME (logs, database), and in no answer of the REST API."""
    with EchoingGateway(TOKEN) as gateway:
        connection = {"connection_id": "echoing", "conn_type": "bifrost", "host": gateway.url, "password": TOKEN}
        airflow.request("POST", "/api/v2/connections", json={**connection, "extra": '{"retry_budget": 1}'})
        run_id = airflow.trigger("token", {"folder": str(tmp_path)})
        airflow.until(
            lambda: airflow.dag_run("token", run_id)["state"] in ("success", "failed"), "the end of the run", PATIENCE
        )
    run = f"/api/v2/dags/token/dagRuns/{run_id}"
    instances = airflow.request("GET", f"{run}/taskInstances?limit=100")["task_instances"]
    states = {(task["task_id"], task["map_index"]): task["state"] for task in instances}
    for task_id in ("wait", "run", "answers"):  # the token in an answer does not end a task
        assert states[task_id, -1] == "success", airflow.logs("token", run_id, task_id)

    assert "***" in airflow.logs("token", run_id, "wait")  # where the token was

    paths = [f"{run}/taskInstances?limit=100", f"{run}/taskInstances/~/xcomEntries?limit=1000", "/api/v2/eventLogs"]
    for task in instances:
        map_index = task["map_index"]
        here = f"{run}/taskInstances/{task['task_id']}"
        paths.append(f"{here}/logs/1?full_content=true&map_index={map_index}")
        keys = ("return_value", "progress", "errors", "metadata")
        paths += [f"{here}/xcomEntries/{key}?map_index={map_index}" for key in keys]
    paths += ["/api/v2/connections/echoing", "/api/v2/connections"]
    found = [sighting for path in paths for sighting in tokens.sightings(path, answer(airflow, path), [TOKEN])]
    found += tokens.in_files(airflow.home, [TOKEN])
    assert not found


def answer(airflow: LocalAirflow, path: str) -> bytes:
    return airflow.client.get(path, headers={"Accept": "application/json"}).content
