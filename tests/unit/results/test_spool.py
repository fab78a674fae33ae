"""Rows are kept on disk until they are written."""

from __future__ import annotations

from airflow_bifrost.results.records import absent_record
from airflow_bifrost.results.rows import RowError, RowOutcome
from airflow_bifrost.results.spool import Spool

ERROR = RowError("no", "x" * 1000)


def test_dropped_rows_leave_nothing_on_the_disk() -> None:
    spool = Spool()
    spool.keep([absent_record("a", RowOutcome.FAILED, ERROR)])
    end = spool.end
    spool.keep(absent_record(str(number), RowOutcome.FAILED, ERROR) for number in range(1000))
    spool.truncate(end)
    assert (spool.end, len(spool)) == (end, 1)
    assert list(spool.custom_ids()) == ["a"]
    spool.close()
