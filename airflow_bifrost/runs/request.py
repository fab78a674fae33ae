"""What a run was asked for, and the limits that it keeps to. Part of the run's state; pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

JsonObject = dict[str, Any]

MIN_ROWS_TO_HALVE = 1000  # a smaller part that meets a full queue waits for the task's next attempt


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked of the provider. A run finishes under the request that it was started with.

    :param body_digest: SHA-256 of what each request body gets in addition to the row: the system prompt and the parameters. They are
        in the request lines already, and may be long.
    :param output_expires_after: seconds.
    :param output_schema: JSON schema of ``output_type``; None: answers are not validated.
    """

    provider: str
    endpoint: str
    completion_window: str
    model: str | None
    metadata: JsonObject
    extra_body: JsonObject
    extra_form: JsonObject
    body_digest: str
    output_schema: JsonObject | None = None
    output_expires_after: int | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunRequest:
        return cls(**value)

    @property
    def digest(self) -> str:
        """SHA-256 of all that makes the provider's answer another answer. Metadata and the form of the upload do not."""
        return sha256_of(self._deciding())

    def differences(self, other: RunRequest) -> list[str]:
        """Names of the arguments in which ``other`` asks for something else."""
        mine, others = self._deciding(), other._deciding()
        return [name for name in mine if mine[name] != others[name]]

    def _deciding(self) -> JsonObject:
        return {
            "provider": self.provider,
            "endpoint": self.endpoint,
            "completion_window": self.completion_window,
            "model": self.model,
            "extra_body": self.extra_body,
            "output_type": self.output_schema,
            "system_prompt or request_params": self.body_digest,
        }


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How a run proceeds. Each attempt of the task may bring another; batches that are submitted stay as they are.

    :param max_parallel_batches: how many batches run at a time.
    :param max_row_attempts: how often a row is sent at most.
    :param resend_limit: share of a round's rows. If more of them fail with the same error code, only a probe is sent again first.
    :param timeout: seconds for each round.
    :param run_timeout: seconds for the run; None: only its rounds are limited.
    :param part_rows: most rows of a part that is not submitted yet.
    :param part_bytes: most bytes of such a part.
    :param min_rows_to_halve: a smaller part is not halved when the provider's queue is full.
    """

    max_parallel_batches: int = 4
    max_row_attempts: int = 3
    resend_limit: float = 0.5
    timeout: float = 25 * 3600.0
    run_timeout: float | None = None
    part_rows: int = 50_000
    part_bytes: int = 100 * 10**6
    min_rows_to_halve: int = 1000

    @property
    def whole(self) -> float:
        """Seconds for the whole run."""
        return math.inf if self.run_timeout is None else self.run_timeout


@dataclass(frozen=True, slots=True)
class RunInput:
    """The request lines of a run, as they stand in its folder.

    :param digest: SHA-256 of the sequence of lines, however they are split into files.
    :param files: in the order of the lines.
    :param file_rows: lines of each file.
    :param automatic_ids: every row has the ID of its place, so that the IDs are known without the lines.
    """

    digest: str
    rows: int
    files: list[str] = field(default_factory=list)
    file_rows: list[int] = field(default_factory=list)
    automatic_ids: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunInput:
        return cls(**value)


def run_digest(request: RunRequest, lines: RunInput) -> str:
    """By which an attempt knows that it is about the same run."""
    return sha256_of([request.digest, lines.digest])


def sha256_of(value: Any) -> str:
    """SHA-256 of JSON types, the same in every process.

    :raises ValueError: the value has no JSON, such as a set, whose order differs from process to process.
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise ValueError(
        f"{type(value).__name__} has no JSON form that is the same in every process: give lists, dicts, text and numbers"
    )


def to_json(value: Any) -> JsonObject:
    """A frozen dataclass of this room as JSON types."""
    return asdict(value)
