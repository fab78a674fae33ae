from __future__ import annotations

import json
from dataclasses import replace

from support.airflow import Store
from support.run_states import a_part, a_run

from airflow_bifrost.runs.record import STATE_KEY, RunRecord

AIRFLOWS_LIMIT = 64 * 2**10  # bytes of a value in Airflow's task state


def test_the_state_of_a_run_of_hundreds_of_batches_fits_into_airflows_task_state() -> None:
    summary = {"batch_id": "batch_0123456789abcdef", "status": "completed", "request_counts": {"total": 50_000}}
    parts = [
        a_part(number, batch_id=f"batch_{number * 7919:032x}", sha256=f"{number * 104729:064x}")
        for number in range(300)
    ]
    state = replace(a_run(10), parts=parts, written={"rows": {"cancelled": 0}, "batches": [summary] * 300})
    store = Store()
    RunRecord(store).save(state)
    assert len(json.dumps(store[STATE_KEY])) < AIRFLOWS_LIMIT < len(json.dumps(state.to_json()))
    assert RunRecord(store).load() == state
