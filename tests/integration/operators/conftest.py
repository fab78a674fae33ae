"""Fixtures for the tests of BatchRunOperator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.providers import small_batches
from support.runs import CREATE, FULL

from airflow_bifrost import providers
from airflow_bifrost.runs import driver as run_module
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit batches to three rows."""
    small_batches(monkeypatch, *providers.ALL)


@pytest.fixture
def refuse_create(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the queue be full at the n-th create call."""

    def refuse(number: int) -> None:
        calls = count(1)
        submit = run_module.submit_part

        def submit_part(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                gateway.inject(Fault(provider_answer=FULL, **CREATE))
            return submit(*args, **kwargs)

        monkeypatch.setattr(run_module, "submit_part", submit_part)

    return refuse
