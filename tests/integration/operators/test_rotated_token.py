"""The token is rotated while a task waits in its worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.meanwhile import after_requests
from support.runs import run

from airflow_bifrost.testing import LocalGateway

pytestmark = pytest.mark.usefixtures("quick_gateway")  # for its pace; the gateway of this test has keys


def test_the_task_uses_the_new_token_after_the_wait_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalGateway(batch_seconds=0.5, virtual_keys=["sk-bf-old", "sk-bf-new"]) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-old"))

        def rotate() -> None:
            monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-new"))
            gateway.revoke("sk-bf-old")

        with after_requests(gateway, 3, rotate):  # the upload, the create, and a poll
            end = run(str(tmp_path / "out.jsonl"), ["a", "b"], deferrable=False)
        assert end.state == "success", end.error
        tokens = [request.headers.get("authorization") for request in gateway.requests]
        assert tokens[0] == "Bearer sk-bf-old"
        assert set(tokens[tokens.index("Bearer sk-bf-new") :]) == {"Bearer sk-bf-new"}
        assert any(request.path.endswith("/content") for request in gateway.requests)
