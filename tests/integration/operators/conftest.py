"""Fixtures for the tests of BatchRunOperator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.providers import small_batches
from support.runs import CREATE, FULL, Submissions

from airflow_bifrost import providers
from airflow_bifrost.runs import driver
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit batches to three rows."""
    small_batches(monkeypatch, *providers.ALL)


@pytest.fixture
def submissions(monkeypatch: pytest.MonkeyPatch) -> Submissions:
    """Lets a test change the gateway between two submissions of a run."""
    found = Submissions()
    monkeypatch.setattr(driver, "submit_part", found.around(driver.submit_part))
    return found


@pytest.fixture
def refuse_create(gateway: LocalGateway, submissions: Submissions) -> Callable[[int], None]:
    """Let the queue be full at the n-th create call."""

    def refuse(number: int) -> None:
        def before(begun: int) -> None:
            if begun == number:
                gateway.inject(Fault(provider_answer=FULL, **CREATE))

        submissions.before = before

    return refuse
