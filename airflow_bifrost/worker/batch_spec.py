"""What a task requests from a provider, and how it handles batches of earlier attempts. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.gateway.calls import create_batch
from airflow_bifrost.submission.json_values import json_members
from airflow_bifrost.submission.ledger import Policy, check_metadata
from airflow_bifrost.worker.arguments import ON_CHANGED_INPUT, checked_on_unknown, one_of


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What a task requests from a provider, apart from the rows.

    :param extra_body: members of the create call that this package does not know, such as Bedrock's ``role_arn`` and ``output_s3_uri``.
    :param extra_form: the same for the upload, such as Bedrock's ``storage_config[s3][bucket]``.
    :param output_expires_after: seconds after which the provider deletes the output file; None: the provider's default applies.
    """

    endpoint: str
    completion_window: str = "24h"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_form: Mapping[str, str] = field(default_factory=dict)
    output_expires_after: int | None = None

    def __post_init__(self) -> None:
        """
        :raises ValueError: JSON cannot hold a member exactly.
        """
        for name in ("metadata", "extra_body", "extra_form"):
            try:
                object.__setattr__(self, name, json_members(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name} {error}. Nothing was submitted, and nothing is billed.") from error

    def check(self, provider: str) -> None:
        """Check the request before anything is sent.

        :raises ValueError: the request is invalid, or this provider does not support it.
        """
        check_metadata(self.metadata, tagged=providers.get(provider).metadata)
        if self.output_expires_after is not None and not providers.get(provider).expires_output:
            raise ValueError(
                f"output_expires_after does not work with {provider}, which does not let a batch set this. Remove the argument."
                " Nothing was submitted, and nothing is billed."
            )
        create_batch(provider, idempotency_key="check", input_file_id="check", **self.members())

    def members(self) -> dict[str, Any]:
        """The members of the create call."""
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
        """SHA-256 of what identifies a batch: the provider, the request, and the rows."""
        asked = [provider, self.endpoint, self.completion_window, self.model, dict(self.extra_body), rows]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """How to handle batches that earlier attempts of the task have submitted, or may have.

    :param on_unknown: what to do if it cannot be determined whether an earlier attempt submitted a batch: ``"fail"``, ``"resubmit"``,
        ``{"adopt": ID}``, or by part ``{"adopt": {number: ID}}``.
    :param on_changed_input: what to do with a batch that was submitted for a different input: ``"leave"`` or ``"cancel"`` it.
    :param resubmit: outcomes of an earlier batch after which its rows are submitted again.
    :param can_wait: whether the task waits for a batch that may be the one, and then compares its custom IDs.
    """

    on_unknown: str | Mapping[str, Any] = "fail"
    on_changed_input: str = "leave"
    resubmit: Collection[str] = ()
    can_wait: bool = True

    def __post_init__(self) -> None:
        checked_on_unknown(self.on_unknown)
        one_of("on_changed_input", self.on_changed_input, ON_CHANGED_INPUT)

    def for_part(self, number: int, *, keep_cancelled: bool, is_whole: bool) -> Policy:
        """
        :param is_whole: the part is the whole input. Otherwise, an ID without a number of a part does not count.
        """
        adopt = None if isinstance(self.on_unknown, str) else self.on_unknown["adopt"]
        if isinstance(adopt, Mapping):
            adopt = {int(part): batch_id for part, batch_id in adopt.items()}.get(number)
        elif not is_whole:
            adopt = None
        return Policy(
            resubmit_unknown=self.on_unknown == "resubmit",
            adopt=adopt,
            resubmit=self.resubmit,
            keep_cancelled=keep_cancelled,
            cancels_others=self.on_changed_input == "cancel",
            can_wait=self.can_wait,
        )
