"""Wait for the user's own batch on the user's own gateway."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from support.local_airflow import LocalAirflow
from watching import DemoError, Run

DAGS = Path(__file__).resolve().parent.parent / "dags_examples"
DAG_ID = "wait_for_batch"


def look_up(batch_id: str, provider: str) -> str:
    """Return the status of a batch, before Airflow is started to wait for it.

    :raises DemoError: with the gateway's reason.
    """
    from airflow_bifrost.exceptions import BifrostError
    from airflow_bifrost.hooks.bifrost import BifrostHook

    try:
        with BifrostHook() as hook:
            # test_connection() does not retry; the hook's other calls retry for minutes
            ok, reason = hook.test_connection()
            if not ok and reason.startswith("Unreachable"):
                raise DemoError(reason)
            return hook.get_batch(batch_id, provider=provider).status
    except (BifrostError, ValueError) as error:
        raise DemoError(str(error)) from error


def wait_for(airflow: LocalAirflow, batch_id: str, provider: str, console: Console) -> Run:
    """Run the example DAG until the batch has ended, without a time limit, and show the XComs of its tasks.

    :raises DemoError: a task did not succeed.
    """
    conf = {"batch_id": batch_id, "provider": provider}
    run = Run(airflow, DAG_ID, airflow.trigger(DAG_ID, conf), ["wait", "retrieve"], console)
    console.print(f"DAG run: {run.url}")
    run.follow(run.is_over, "the DAG run to be over", math.inf)
    run.must_have_succeeded()
    run.show_xcoms()
    return run
