"""How a task submits rows: one batch for each part of its input, each exactly once. Shared by the operators that spend money."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_bifrost.worker.arguments import ON_CHANGED_INPUT, ON_UNKNOWN, one_of
from airflow_bifrost.worker.state_store import NoStateStore, open_state_store

if TYPE_CHECKING:
    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.gateway.models import Batch
    from airflow_bifrost.submission.ledger import Attempt, Create, Ledger, Submission, TaskStateStore
    from airflow_bifrost.submission.parts import Part


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What is asked of a provider, for whatever rows.

    :param extra_body: members of the create call that this package does not know, such as Bedrock's ``role_arn`` and ``output_s3_uri``.
    :param extra_form: the same for the upload, such as Bedrock's ``storage_config[s3][bucket]``.
    """

    endpoint: str
    completion_window: str = "24h"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_form: Mapping[str, str] = field(default_factory=dict)

    def check(self, provider: str) -> None:
        """
        :raises ValueError: it can be asked of no provider, or not of this one.
        """
        from airflow_bifrost.gateway.calls import create_batch

        create_batch(provider, idempotency_key="check", input_file_id="check", **self.members())

    def members(self) -> dict[str, Any]:
        """Of the create call."""
        return {
            "endpoint": self.endpoint,
            "completion_window": self.completion_window,
            "model": self.model,
            "metadata": dict(self.metadata),
            "extra_body": dict(self.extra_body),
        }

    def digest(self, provider: str, rows: str) -> str:
        """SHA-256 over all that makes a batch another batch: what is asked, of whom, and for which rows."""
        asked = [provider, self.endpoint, self.completion_window, self.model, dict(self.extra_body), rows]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """What to do where an earlier try of the task has left something. See :class:`airflow_bifrost.submission.ledger.Ledger`."""

    on_unknown: str = "fail"
    on_changed_input: str = "leave"
    resubmit: Collection[str] = ()

    def __post_init__(self) -> None:
        one_of("on_unknown", self.on_unknown, ON_UNKNOWN)
        one_of("on_changed_input", self.on_changed_input, ON_CHANGED_INPUT)


def attempt_of(context: Mapping[str, Any], part: int) -> Attempt:
    """Who submits: a part of the input of the running task instance."""
    from airflow_bifrost.submission.ledger import Attempt

    ti = context["ti"]
    return Attempt(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, part)


def submit_part(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    order: BatchSpec,
    recovery: RecoveryPolicy,
    part: Part,
    *,
    memory: TaskStateStore | None = None,
    keep_cancelled: bool = False,
    fetch: Callable[[], None] | None = None,
) -> Submission:
    """Submit a part of the task's input, unless an earlier try has.

    :param memory: None: the task's.
    :param keep_cancelled: see :class:`airflow_bifrost.submission.ledger.Ledger`.
    :param fetch: brings the part's file, if there is something to submit; None: it is there.
    """
    from airflow_bifrost.submission.limits import limits_of

    order.check(provider)

    def prepare() -> Create:
        if fetch is not None:
            fetch()
        if limits_of(provider).inline:
            return _create(client, provider, order, path=part.path)
        with part.path.open("rb") as file:
            uploaded = client.upload_file(
                file,
                filename=f"{part.sha256[:32]}.jsonl",  # in S3 a file of the same name is replaced
                provider=provider,
                purpose="batch",
                idempotency_key=part.sha256,
                extra_form=order.extra_form,
            )
        return _create(client, provider, order, input_file_id=uploaded.id)

    ledger = _ledger(
        context, client, provider, recovery, part.number, memory or open_state_store(context), keep_cancelled
    )
    return ledger.submit(order.digest(provider, part.sha256), prepare)


def supersede_others(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    wanted: Mapping[int, str | None],
    memory: TaskStateStore,
) -> None:
    """Leave or cancel what earlier tries have submitted for other inputs.

    :param wanted: by the number of each part that there ever was, the digest of the input that it has now; None: there is no such part now.
    """
    for number, digest in wanted.items():
        _ledger(context, client, provider, recovery, number, memory).supersede_others(digest)


def submit_file(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    order: BatchSpec,
    recovery: RecoveryPolicy,
    input_file_id: str,
) -> Submission:
    """The same for a file that is at the provider already."""

    order.check(provider)

    def prepare() -> Create:
        return _create(client, provider, order, input_file_id=input_file_id)

    ledger = _ledger(context, client, provider, recovery, 1, open_state_store(context))
    return ledger.submit(order.digest(provider, f"file {input_file_id}"), prepare)


def _ledger(
    context: Mapping[str, Any],
    client: GatewayClient,
    provider: str,
    recovery: RecoveryPolicy,
    part: int,
    memory: TaskStateStore,
    keep_cancelled: bool = False,
) -> Ledger:
    from airflow_bifrost.submission.ledger import Ledger

    return Ledger(
        attempt_of(context, part),
        client,
        provider=provider,
        memory=None if isinstance(memory, NoStateStore) else memory,
        first_try=context["ti"].try_number <= 1,
        on_unknown=recovery.on_unknown,
        on_changed_input=recovery.on_changed_input,
        resubmit=recovery.resubmit,
        keep_cancelled=keep_cancelled,
    )


def _create(
    client: GatewayClient,
    provider: str,
    order: BatchSpec,
    *,
    input_file_id: str | None = None,
    path: Path | None = None,
) -> Create:
    """
    :param path: of rows that go into the call itself; instead of ``input_file_id``.
    """

    def create(metadata: dict[str, str], idempotency_key: str) -> Batch:
        with path.open("rb") if path is not None else nullcontext() as rows:
            return client.create_batch(
                provider=provider,
                idempotency_key=idempotency_key,
                input_file_id=input_file_id,
                rows=rows,
                **order.members() | {"metadata": {**order.metadata, **metadata}},
            )

    return create
