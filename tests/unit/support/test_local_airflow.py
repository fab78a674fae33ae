"""What the local Airflow does with answers of its API server; the rest of it is shown by the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support import local_airflow
from support.local_airflow import LocalAirflow, LocalAirflowError
from support.processes import Processes

LOCKED = httpx.Response(500, json={"detail": {"reason": "Database error", "orig_error": "hidden"}})
GOOD = httpx.Response(201, json={"dag_run_id": "a"})


def ask(answers: list[httpx.Response], folder: Path) -> tuple[object, int]:
    """What comes of a request that is answered so, and how many of the answers are left."""
    airflow = LocalAirflow(folder)
    with Processes(folder) as airflow._processes:
        transport = httpx.MockTransport(lambda _request: answers.pop(0))
        airflow.client = httpx.Client(base_url="http://airflow", transport=transport)
        return airflow.request("POST", "/api/v2/dags/a/dagRuns", json={}), len(answers)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_airflow, "LOCKED_PAUSES", (0.0, 0.0))


def test_a_request_that_met_a_locked_database_is_made_again(tmp_path: Path) -> None:
    assert ask([LOCKED, LOCKED, GOOD], tmp_path) == ({"dag_run_id": "a"}, 0)


@pytest.mark.parametrize("answer", [httpx.Response(500, text="broken"), httpx.Response(409, text="there is one")])
def test_another_error_is_told_at_once(tmp_path: Path, answer: httpx.Response) -> None:
    with pytest.raises(LocalAirflowError, match=f"{answer.status_code} {answer.text}"):
        ask([answer, GOOD], tmp_path)


def test_a_database_that_stays_locked_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalAirflowError, match="Database error"):
        ask([LOCKED] * 3, tmp_path)
