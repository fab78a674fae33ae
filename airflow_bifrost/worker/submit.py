"""How a task submits rows: one batch for each part of its input, each exactly once. Shared by the operators that spend money."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.gateway.calls import create_batch
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch, File
from airflow_bifrost.submission.ids import custom_id_of
from airflow_bifrost.submission.json_values import plain_members
from airflow_bifrost.submission.ledger import (
    BatchInput,
    Ledger,
    LedgerTiming,
    Origin,
    Policy,
    Submission,
    TaskStateStore,
    check_metadata,
    delete_lost_uploads,
)
from airflow_bifrost.submission.parts import Part
from airflow_bifrost.worker.arguments import ON_CHANGED_INPUT, checked_on_unknown, one_of
from airflow_bifrost.worker.deployment import this_deployment
from airflow_bifrost.worker.result_ids import result_ids
from airflow_bifrost.worker.state_store import NoStateStore, is_remembering, open_state_store

TIMING = LedgerTiming()  # a seam for tests
CLOCK_SKEW = 300.0  # seconds by which Airflow's clock and the provider's may differ


def _never() -> None:
    """Nobody says stop."""


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What is asked of a provider, for whatever rows.

    :param extra_body: members of the create call that this package does not know, such as Bedrock's ``role_arn`` and ``output_s3_uri``.
    :param extra_form: the same for the upload, such as Bedrock's ``storage_config[s3][bucket]``.
    :param output_expires_after: seconds after which the provider deletes the output file; None: never, or as the provider does it.
    """

    endpoint: str
    completion_window: str = "24h"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_form: Mapping[str, str] = field(default_factory=dict)
    output_expires_after: int | None = None

    def check(self, provider: str) -> None:
        """
        :raises ValueError: no provider takes this, or this one does not.
        """
        for members in (self.metadata, self.extra_body, self.extra_form):
            plain_members(members)
        check_metadata(self.metadata, tagged=providers.get(provider).metadata)
        if self.output_expires_after is not None and not providers.get(provider).expires_output:
            raise ValueError(
                f"output_expires_after does not work with {provider}, which keeps output files as long as it likes. Leave it out."
                " Nothing was submitted, and nothing is billed."
            )
        create_batch(provider, idempotency_key="check", input_file_id="check", **self.members())

    def members(self) -> dict[str, Any]:
        """Of the create call."""
        expiry = {"anchor": "created_at", "seconds": self.output_expires_after}
        return {
            "endpoint": self.endpoint,
            "completion_window": self.completion_window,
            "model": self.model,
            "metadata": dict(self.metadata),
            "extra_body": dict(self.extra_body)
            | ({"output_expires_after": expiry} if self.output_expires_after else {}),
        }

    def digest(self, provider: str, rows: str) -> str:
        """SHA-256 over all that makes a batch another batch: what is asked, of whom, and for which rows."""
        asked = [provider, self.endpoint, self.completion_window, self.model, dict(self.extra_body), rows]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """What to do where an earlier attempt of the task left something.

    :param on_unknown: where it cannot be determined whether an earlier attempt submitted: ``"fail"``, ``"resubmit"``, or
        ``{"adopt": ID}``, also by part: ``{"adopt": {number: ID}}``.
    :param on_changed_input: what becomes of a batch that was submitted for another input: ``"leave"`` or ``"cancel"``.
    :param resubmit: outcomes after which an earlier batch is submitted again.
    """

    on_unknown: str | Mapping[str, Any] = "fail"
    on_changed_input: str = "leave"
    resubmit: Collection[str] = ()

    def __post_init__(self) -> None:
        checked_on_unknown(self.on_unknown)
        one_of("on_changed_input", self.on_changed_input, ON_CHANGED_INPUT)

    def for_part(self, number: int, *, keep_cancelled: bool) -> Policy:
        adopt = None if isinstance(self.on_unknown, str) else self.on_unknown["adopt"]
        if isinstance(adopt, Mapping):
            adopt = {int(part): batch_id for part, batch_id in adopt.items()}.get(number)
        return Policy(
            resubmit_unknown=self.on_unknown == "resubmit",
            adopt=adopt,
            resubmit=self.resubmit,
            keep_cancelled=keep_cancelled,
            cancels_others=self.on_changed_input == "cancel",
        )


def origin_of(context: Mapping[str, Any], part: int) -> Origin:
    """Who submits: a part of the input of the running task instance."""
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
    memory: TaskStateStore | None = None,
    keep_cancelled: bool = False,
    fetch: Callable[[], None] | None = None,
    check_stop: Callable[[], None] = _never,
    known_ids: Iterable[str] = (),
    cleanup: str = "input",
    storage_conn_id: str | None = None,
) -> Submission:
    """Submit a part of the task's input, unless an earlier attempt did.

    :param memory: None: the task's.
    :param keep_cancelled: where an input comes back whose batch was cancelled for another input, go on with that batch.
    :param fetch: brings the part's file, if it is needed; None: it is there.
    :param check_stop: raises when the user said stop.
    :param known_ids: of the batches of the other parts.
    :param cleanup: ``"never"``: delete no file at the provider, not even that of a refused create.
    :param storage_conn_id: Airflow connection for results in an object store.
    :raises SubmissionInDoubt: a batch may exist, and this cannot be determined.
    """
    spec.check(provider)
    files = _PartFile(part, fetch)

    def upload(filename: str) -> File:
        repeated = False

        def on_repeat() -> None:
            nonlocal repeated
            check_stop()
            repeated = True

        with files.local().open("rb") as file:
            uploaded = client.upload_file(
                file,
                filename=filename,
                provider=provider,
                purpose="batch",
                idempotency_key=f"{part.sha256}-{filename[:64]}",
                extra_form=spec.extra_form,
                on_repeat=on_repeat,
            )
        if repeated and cleanup != "never":
            delete_lost_uploads(client, provider, uploaded, filename)
        return uploaded

    def create(file_id: str | None, metadata: dict[str, str], idempotency_key: str) -> Batch:
        with files.local().open("rb") if file_id is None else nullcontext() as rows:
            return _create(client, provider, spec, metadata, idempotency_key, input_file_id=file_id, rows=rows)

    inline = providers.get(provider).limits.inline
    source = BatchInput(create, None if inline else upload, rows=part.rows, custom_ids=files.custom_ids)
    ledger = _ledger(
        context,
        client,
        provider,
        recovery,
        part.number,
        memory or open_state_store(context),
        keep_cancelled=keep_cancelled,
        check_stop=check_stop,
        known=known_ids,
        deletes_orphans=cleanup != "never",
        ids=lambda batch_id: result_ids(client, batch_id, provider, storage_conn_id),
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
    check_stop: Callable[[], None] = _never,
) -> Submission:
    """The same for a file that is at the provider already. It is the user's, so it is never deleted."""
    spec.check(provider)
    source = BatchInput(partial(_create_of_file, client, provider, spec), file_id=input_file_id)
    ledger = _ledger(context, client, provider, recovery, 1, open_state_store(context), check_stop=check_stop)
    return ledger.submit(spec.digest(provider, f"file {input_file_id}"), source)


def supersede_others(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    wanted: Mapping[int, str | None],
    memory: TaskStateStore,
) -> None:
    """Leave or cancel what earlier attempts submitted for other inputs.

    :param wanted: by the number of each part that there ever was, the digest of the input that it has now; None: there is no such part now.
    """
    for number, digest in wanted.items():
        _ledger(context, client, provider, recovery, number, memory).supersede_others(digest)


class _PartFile:
    """The file of a part, brought when it is first needed."""

    def __init__(self, part: Part, fetch: Callable[[], None] | None) -> None:
        self._part = part
        self._fetch = fetch

    def local(self) -> Any:
        if self._fetch is not None:
            self._fetch()
            self._fetch = None
        return self._part.path

    def custom_ids(self) -> Iterator[str]:
        with self.local().open("rb") as file:
            yield from (custom_id_of(line) for line in file)


def _create_of_file(
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    file_id: str | None,
    metadata: dict[str, str],
    idempotency_key: str,
) -> Batch:
    return _create(client, provider, spec, metadata, idempotency_key, input_file_id=file_id)


def _create(
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    metadata: dict[str, str],
    idempotency_key: str,
    **source: Any,
) -> Batch:
    members = spec.members()
    members["metadata"] |= metadata
    return client.create_batch(provider=provider, idempotency_key=idempotency_key, **members, **source)


def _ledger(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    part: int,
    memory: TaskStateStore,
    *,
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
        store=None if isinstance(memory, NoStateStore) else memory,
        deployment=this_deployment(),
        may_be_lost=not is_remembering(memory, context),
        floor=_earliest(context),
        policy=recovery.for_part(part, keep_cancelled=keep_cancelled),
        known=known,
        result_ids=ids,
        check_stop=check_stop,
        deletes_orphans=deletes_orphans,
        timing=replace(TIMING, retry=replace(TIMING.retry, budget=client.config.retry_budget)),
    )


def _earliest(context: Mapping[str, Any]) -> float | None:
    """Unix seconds before which no attempt of the task began. Unlike its start, the time at which a run was due survives a clear."""
    run_after = getattr(context.get("dag_run"), "run_after", None)
    return None if run_after is None else run_after.timestamp() - CLOCK_SKEW
