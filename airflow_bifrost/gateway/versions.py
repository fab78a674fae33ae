"""Which versions of the gateway this package knows, how it knows them, and the fields that only some of them have.

An answer does not name the gateway's version, so the package accepts the answers of every version. The doctor asks for the version.
Which errors each version reports, and what they mean, is in :mod:`airflow_bifrost.gateway.faults`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

V1_4 = "1.4"
V1_5 = "1.5"
V2 = "2"
ALL = (V1_4, V1_5, V2)

# The tests replay what these gateways answered.
RECORDED = {V1_4: "1.4.19", V1_5: "1.5.16"}
# The facts about later gateways come from the source of this one. Nothing about them is recorded.
READ = "2.2.6"


class Knowledge(StrEnum):
    """How this package knows a version of the gateway."""

    RECORDED = "recorded"
    READ = "read"
    NEWER = "newer"
    OLDER = "older"
    UNKNOWN = "unknown"


def knowledge_of(version: str) -> Knowledge:
    """How this package knows a version, as the gateway spells it: ``v1.5.16``.

    A gateway that was built from source calls itself ``v1.0.0``, whatever its source is (recorded with 1.4.19), so that version is unknown.
    """
    numbers = _numbers(version)
    if numbers is None or numbers == (1, 0, 0):
        return Knowledge.UNKNOWN
    if any(numbers[:2] == _numbers(recorded)[:2] for recorded in RECORDED.values()):  # type: ignore[index]
        return Knowledge.RECORDED
    first, last = _numbers(RECORDED[V1_4]), _numbers(READ)
    assert first
    assert last
    if numbers[:2] < first[:2]:
        return Knowledge.OLDER
    return Knowledge.READ if numbers[:2] <= last[:2] else Knowledge.NEWER


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,6})(?:[-+.].{0,40})?", version.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


@dataclass(frozen=True, slots=True)
class Field:
    """A field that the gateway adds to an answer.

    :param where: ``batch``, ``file``, ``error`` (the error body's top level), or ``extra_fields``, which every answer may carry.
    :param versions: those whose answers have it.
    """

    where: str
    name: str
    versions: tuple[str, ...]


def _fields(where: str, versions: tuple[str, ...], names: Iterable[str]) -> tuple[Field, ...]:
    return tuple(Field(where, name, versions) for name in names)


FIELDS: tuple[Field, ...] = (
    *_fields("batch", (V1_5, V2), ("display_name",)),  # Vertex with 1.5, also Gemini with 2
    *_fields("batch", (V2,), ("input_blob", "output_blob", "error_blob")),  # Azure
    *_fields("file", (V1_5, V2), ("updated_at",)),  # Vertex
    *_fields(
        "extra_fields",
        ALL,
        ("request_type", "provider", "latency", "chunk_index", "raw_request", "raw_response", "parse_errors"),
    ),
    *_fields("extra_fields", (V1_4,), ("model_requested",)),
    *_fields("extra_fields", (V1_5, V2), ("original_model_requested", "resolved_model_used", "routing_info")),
    *_fields("extra_fields", (V2,), ("upstream_latency", "provider_response_headers")),
    *_fields("extra_fields", (V2,), ("retry_after_ms", "key_statuses")),  # on errors, here or at the top level
    *_fields("extra_fields", (V2,), ("model_deployment", "cache_debug")),  # the published API
    *_fields("error", (V2,), ("retry_after_ms", "latency", "key_statuses")),
)


def names_of(where: str) -> frozenset[str]:
    """The names of the fields at one place, in any version."""
    return frozenset(field.name for field in FIELDS if field.where == where)
