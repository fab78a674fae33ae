"""What the outcome of batches and rows means for the task."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow_bifrost.exceptions import BatchFailed, BifrostAuthError
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.worker.verdict import raise_unless_accepted, skipping


def summary(batch_id: str = "b1", status: str = "completed", **fields: Any) -> dict[str, Any]:
    return BatchSummary.of(Batch(id=batch_id, status=status, **fields), batch_id=batch_id, provider="openai").to_xcom()


def test_accepted_outcomes_raise_nothing() -> None:
    raise_unless_accepted([summary(), summary("b2", "expired")], ("succeeded", "expired"))


def test_a_bad_outcome_names_batch_provider_counts_files_and_the_providers_own_errors() -> None:
    bad = summary(
        status="failed",
        request_counts={"total": 10, "completed": 0, "failed": 10},
        error_file_id="file-err",
        errors={"data": [{"code": "invalid_json_line", "message": "This line is not parseable", "line": 7}]},
    )
    with pytest.raises(BatchFailed) as raised:
        raise_unless_accepted([bad], ("succeeded",))
    for part in ("b1", "openai", "failed 10", "file-err", "invalid_json_line: This line is not parseable (line 7)"):
        assert part in str(raised.value)
    assert raised.value.summaries == [bad]


def test_keys_in_the_providers_errors_are_removed() -> None:
    bad = summary(status="failed", errors={"data": [{"message": "Incorrect API key provided: sk-proj-abcdef123456"}]})
    with pytest.raises(BatchFailed) as raised:
        raise_unless_accepted([bad], ("succeeded",))
    assert "abcdef123456" not in str(raised.value)


def test_airflow_does_not_retry_a_batch_that_failed() -> None:
    assert issubclass(BatchFailed, AirflowFailException)


ENDS = [BatchFailed("bad"), BifrostAuthError("401"), AirflowSensorTimeout("late"), AirflowTaskTimeout("late")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
def test_a_failed_wait_is_skipped_with_soft_fail_and_never_fail(flag: str, end: BaseException) -> None:
    flags = {"soft_fail": False, "never_fail": False, flag: True}
    with pytest.raises(AirflowSkipException, match=flag), skipping(**flags):
        raise end


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_without_these_flags_a_failed_wait_raises_its_error(end: BaseException) -> None:
    with pytest.raises(type(end)), skipping(soft_fail=False, never_fail=False):
        raise end


def test_a_mistake_in_the_dag_is_never_skipped() -> None:
    with pytest.raises(ValueError, match="batch_id"), skipping(soft_fail=True, never_fail=False):
        raise ValueError("batch_id is None")
