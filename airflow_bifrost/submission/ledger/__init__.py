"""Submitting a batch exactly once, whatever crashes in between.

A record is written before the call that costs money (an intent), and again with the batch's ID after it. A later attempt that finds an
intent does not know what came of it. It looks for the batch in the provider's list: by the tag that each batch carries in its metadata, or,
where the provider stores none, by time, row count and custom IDs. Where the list proves nothing, the task stops and says what to check.

============ ==============================================================================================
record       what is remembered, and the tag
evidence     what a list proves
decision     what to believe, and what to do next. These three are pure
creating     uploads, records the intent, calls, and records what came of it
settling     records which batch it is
calls        asks and waits
ledger       performs the steps and records what it learned
files        input files at the provider: until they are ready, and when nobody needs them any more
============ ==============================================================================================
"""

from airflow_bifrost.submission.ledger.calls import LedgerTiming
from airflow_bifrost.submission.ledger.creating import BatchInput
from airflow_bifrost.submission.ledger.decision import Policy
from airflow_bifrost.submission.ledger.files import delete_lost_uploads
from airflow_bifrost.submission.ledger.ledger import Ledger
from airflow_bifrost.submission.ledger.record import (
    TAG_KEY,
    Deployment,
    Origin,
    Submission,
    SubmissionRecord,
    Tag,
    TaskStateStore,
    check_metadata,
    may_have_submitted,
    read_records,
    write_records,
)

__all__ = [
    "TAG_KEY",
    "BatchInput",
    "Deployment",
    "Ledger",
    "LedgerTiming",
    "Origin",
    "Policy",
    "Submission",
    "SubmissionRecord",
    "Tag",
    "TaskStateStore",
    "check_metadata",
    "delete_lost_uploads",
    "may_have_submitted",
    "read_records",
    "write_records",
]
