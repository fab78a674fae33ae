"""What a run requests from the provider, and the limits that it respects. Part of the run's state. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from airflow_bifrost.submission.json_values import as_number, plain

JsonObject = dict[str, Any]

MIN_ROWS_TO_HALVE = 1000  # a smaller part that a full queue refuses waits for the task's next attempt


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run requests from the provider. A run keeps the request that it was started with.

    :param body_digest: SHA-256 of what each request body gets in addition to the row: the system prompt and the parameters. They are
        in the request lines already, and may be long.
    :param output_expires_after: seconds after which the provider deletes the output file.
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
        """SHA-256 of everything that affects the provider's answers. Metadata and the upload's form fields do not."""
        return sha256_of(self._deciding())

    def differences(self, other: RunRequest) -> list[str]:
        """Names of the arguments in which ``other`` differs."""
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
    """How a run proceeds. Each attempt of the task may have a different policy. Batches that are already submitted do not change.

    :param max_parallel_batches: maximum number of batches that run at a time.
    :param max_row_attempts: maximum number of times that a row is sent.
    :param resend_limit: share of a round's rows. If more rows than this fail with the same error code, a probe is sent again first.
    :param timeout: seconds for each round.
    :param run_timeout: seconds for the run; None: only its rounds are limited.
    :param part_rows: maximum number of rows of a part that is not submitted yet.
    :param part_bytes: maximum size of such a part, in bytes.
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
    """The request lines of a run, as stored in its folder.

    :param digest: SHA-256 of the sequence of lines, however they are split into files.
    :param files: file names, in the order of the lines.
    :param file_rows: number of lines of each file.
    :param automatic_ids: every row's ID is derived from its position, so the IDs are known without the lines.
    :param sources: name of the file of the columns that the results carry; None: they carry none.
    """

    digest: str
    rows: int
    files: list[str] = field(default_factory=list)
    file_rows: list[int] = field(default_factory=list)
    automatic_ids: bool = False
    sources: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunInput:
        return cls(**value)


def run_digest(request: RunRequest, lines: RunInput) -> str:
    """Identifies a run: an attempt with the same digest continues it."""
    return sha256_of([request.digest, lines.digest])


def sha256_of(value: Any) -> str:
    """SHA-256 of JSON types, the same in every process.

    :raises ValueError: the value has no JSON form. For example, the order of a set differs from process to process.
    """
    text = json.dumps(plain(value), sort_keys=True, allow_nan=False, default=_number)
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: Decimal) -> int | float | str:
    number = as_number(value)
    return str(value) if number is None else number


def to_json(value: Any) -> JsonObject:
    """A dataclass of this package as JSON types."""
    return asdict(value)
