"""Submits a task's rows: one batch for each part of its input, each exactly once. Shared by the operators that submit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.results.stored import results_folder
from airflow_bifrost.submission.ledger import (
    BatchInput,
    Ledger,
    LedgerTiming,
    Origin,
    Submission,
    TaskStateStore,
    Whole,
    batches_to_stop,
    note_stop,
)
from airflow_bifrost.submission.parts import Part
from airflow_bifrost.worker.batch_spec import BatchSpec, RecoveryPolicy
from airflow_bifrost.worker.deployment import this_deployment
from airflow_bifrost.worker.kill import CANCEL_WITHIN, StopSignal, cancel_if_a_user_ended_it
from airflow_bifrost.worker.part_file import PartFile, create_of_file
from airflow_bifrost.worker.result_ids import result_ids
from airflow_bifrost.worker.state_store import is_remembering, open_state_store

TIMING = LedgerTiming(settle=math.inf)  # a seam for tests; the connection's settle_time applies if it is shorter
CLOCK_SKEW = 300.0  # seconds by which Airflow's clock and the provider's may differ


def _never() -> None:
    """The default of ``check_stop``: nothing stops the task."""


def origin_of(context: Mapping[str, Any], part: int) -> Origin:
    """The origin of a batch: a part of the input of the running task instance."""
    ti = context["ti"]
    return Origin(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, part)


def submit_part(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    recovery: RecoveryPolicy,
    part: Part,
    *,
    whole: Whole | None = None,
    store: TaskStateStore | None = None,
    keep_cancelled: bool = False,
    fetch: Callable[[], None] | None = None,
    check_stop: Callable[[], None] = _never,
    known_ids: Iterable[str] = (),
    cleanup: str = "input",
    storage_conn_id: str | None = None,
) -> Submission:
    """Submit a part of the task's input, unless an earlier attempt did.

    :param whole: what the part is a part of; None: it is the whole input.
    :param store: where the submission is recorded; None: the task's own store.
    :param keep_cancelled: if the input had a batch before that was cancelled for another input, continue with that batch.
    :param fetch: copies the part's file to the local disk when it is needed, or raises :class:`~airflow_bifrost.worker.part_file.LinesGone`; None: it is already there.
    :param check_stop: raises if Airflow has ended the task.
    :param known_ids: IDs of the batches of the other parts.
    :param cleanup: ``"never"``: delete no file at the provider, not even the upload of a refused create.
    :param storage_conn_id: Airflow connection for results in an object store.
    :raises LinesGone: the part is not submitted yet, and its lines are lost.
    :raises SubmissionInDoubt: it cannot be determined whether a batch exists.
    """
    spec.check(provider)
    file = PartFile(client, provider, spec, part, fetch, check_stop, cleanup)
    source = BatchInput(
        file.create,
        None if providers.get(provider).limits.inline else file.upload,
        rows=part.rows,
        custom_ids=file.custom_ids,
    )
    ledger = _ledger(
        context,
        client,
        provider,
        recovery,
        part.number,
        store or open_state_store(context),
        whole=whole,
        keep_cancelled=keep_cancelled,
        check_stop=check_stop,
        known=known_ids,
        deletes_orphans=cleanup != "never",
        ids=lambda batch_id: result_ids(
            client, batch_id, provider, storage_conn_id, results_folder(provider, spec.extra_body)
        ),
    )
    return ledger.submit(spec.digest(provider, part.sha256), source)


def submit_file(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    recovery: RecoveryPolicy,
    input_file_id: str,
    *,
    store: TaskStateStore,
    check_stop: Callable[[], None] = _never,
) -> Submission:
    """Submit a file that is already at the provider, unless an earlier attempt did. It belongs to the user, so it is never deleted."""
    spec.check(provider)
    source = BatchInput(partial(create_of_file, client, provider, spec), file_id=input_file_id)
    # The user may have named a file that an earlier attempt uploaded.
    ledger = _ledger(context, client, provider, recovery, 1, store, check_stop=check_stop, deletes_orphans=False)
    return ledger.submit(spec.digest(provider, f"file {input_file_id}"), source)


@contextmanager
def cancelled_on_stop(
    signal: StopSignal, context: Mapping[str, Any], store: TaskStateStore, provider: str, conn_id: str
) -> Iterator[None]:
    """Cancel the task's batch if a user ends the task while it submits. What cannot be cancelled is recorded for the next attempt.

    A create that is in progress when Airflow ends the task cannot be taken back, so its batch is cancelled after the answer.

    :raises TaskStopped: Airflow has ended the task.
    """
    try:
        yield
        signal.check()
    finally:
        if signal.is_set and (batch_ids := batches_to_stop(store, 1)):
            cancel_if_a_user_ended_it(
                context["ti"],
                batch_ids,
                provider=provider,
                conn_id=conn_id,
                keep=partial(note_stop, store, 1),
                within=CANCEL_WITHIN,
            ).join()


def check_twins(submission: Submission) -> None:
    """Fail the attempt if a second batch of the same create could not be cancelled: no later step of the task would cancel it.

    :raises BifrostUnavailable: so that Airflow retries the task.
    """
    if submission.uncancelled:
        raise BifrostUnavailable(
            f"Batch {submission.batch_id} was submitted and is running. The gateway created more than one batch for the same call, and"
            f" {', '.join(submission.uncancelled)} could not be cancelled, so it may run and be billed, too. Retry or clear this task: it"
            f" cancels the additional batch, and continues with batch {submission.batch_id}."
        )


def supersede_others(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    wanted: Mapping[int, str | None],
    store: TaskStateStore,
    *,
    whole: Whole | None = None,
    cleanup: str = "input",
) -> None:
    """Leave or cancel the batches that earlier attempts submitted for other inputs. Delete their uploaded files if no batch uses them.

    :param wanted: the digest of each part's current input, by part number; None: an earlier input had this part, the current one has not.
    :param whole: what the parts are parts of; None: there are no rows.
    """
    deletes = cleanup != "never"
    for number, digest in wanted.items():
        ledger = _ledger(context, client, provider, recovery, number, store, whole=whole, deletes_orphans=deletes)
        ledger.supersede_others(digest)


def _ledger(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    part: int,
    store: TaskStateStore,
    *,
    whole: Whole | None = None,
    keep_cancelled: bool = False,
    check_stop: Callable[[], None] = _never,
    known: Iterable[str] = (),
    deletes_orphans: bool = True,
    ids: Callable[[str], Iterable[str]] | None = None,
) -> Ledger:
    return Ledger(
        origin_of(context, part),
        client,
        provider=provider,
        store=store,
        deployment=this_deployment(),
        whole=whole,
        may_be_lost=not is_remembering(store, context),
        floor=_earliest(context),
        policy=recovery.for_part(part, keep_cancelled=keep_cancelled, is_whole=whole is None or whole.is_one_part),
        known=known,
        result_ids=ids,
        check_stop=check_stop,
        deletes_orphans=deletes_orphans,
        timing=_timing_for(client.config),
    )


def _timing_for(config: GatewayConfig) -> LedgerTiming:
    retry = replace(TIMING.retry, budget=config.retry_budget)
    return replace(TIMING, settle=min(TIMING.settle, config.settle_time), retry=retry)


def _earliest(context: Mapping[str, Any]) -> float | None:
    """Unix seconds before which no attempt of the task began. Taken from ``run_after``, because a clear changes the start date."""
    run_after = getattr(context.get("dag_run"), "run_after", None)
    return None if run_after is None else run_after.timestamp() - CLOCK_SKEW
