"""The hook in ``@task`` code, run by Airflow."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest

from airflow_bifrost.testing import LocalGateway

DAGS = Path(__file__).parent / "dags"
BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"


def test_tasks_use_the_hook_sync_and_async(
    gateway: LocalGateway, airflow_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = {
        "name": "hooks",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS)},
    }
    monkeypatch.setenv(BUNDLES, json.dumps([*json.loads(os.environ[BUNDLES]), bundle]))
    dag = runpy.run_path(str(DAGS / "hook_in_tasks.py"))["hook_in_tasks"]()
    run = dag.test()
    assert run.state == "success"
    assert len(gateway.batches) == 1
    assert [request.method for request in gateway.requests] == ["POST", "POST", "GET"]
