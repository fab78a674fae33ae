"""Submitting a batch exactly once, whatever crashes in between.

A record is written before the call that costs money (an intent), and again with the batch's ID after it. A later attempt that finds an
intent does not know whether a batch exists. It searches the provider's list: for the tag that each batch carries in its metadata, or,
if the provider stores no metadata, for time, row count and custom IDs. If the list proves nothing, the task stops and says what to check.

============ ==============================================================================================
record       what is remembered, and the tag
listed       a provider's list, as far as it matters here
evidence     what a list proves
situation    what is known of one input of one part
decision     what an earlier create did, and what to do next
steps        the answers of ``decision``. All modules up to here are pure
creating     uploads, records the intent, calls, and records the result
settling     records which batch is the task's
calls        requests that cost nothing, and pauses
ledger       performs the steps and records what it learned
files        input files at the provider: waiting until they are ready, and deleting them
============ ==============================================================================================
"""

from airflow_bifrost.submission.ledger.calls import LedgerTiming
from airflow_bifrost.submission.ledger.creating import BatchInput
from airflow_bifrost.submission.ledger.files import delete_input, delete_lost_uploads, explaining_too_many_files, is_own
from airflow_bifrost.submission.ledger.ledger import Ledger
from airflow_bifrost.submission.ledger.record import (
    TAG_KEY,
    Deployment,
    Origin,
    Submission,
    SubmissionRecord,
    Tag,
    TaskStateStore,
    Whole,
    batches_to_stop,
    check_metadata,
    may_have_submitted,
    note_stop,
    read_records,
    write_records,
)
from airflow_bifrost.submission.ledger.situation import Policy

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
    "Whole",
    "batches_to_stop",
    "check_metadata",
    "delete_input",
    "delete_lost_uploads",
    "explaining_too_many_files",
    "is_own",
    "may_have_submitted",
    "note_stop",
    "read_records",
    "write_records",
]
