"""Which versions of the gateway are known, and how; and the fields that only some of them have."""

from __future__ import annotations

import json

import pytest

from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch, File
from airflow_bifrost.gateway.versions import ALL, FIELDS, READ, RECORDED, Knowledge, knowledge_of, names_of

ASKED = RequestContext(calls.get_batch("batch_1", "openai").request, "my_conn", 1_775_400_000.0)


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("v1.4.19", "recorded"),
        ("v1.4.0", "recorded"),
        ("1.5.16", "recorded"),
        ("v1.5.17-rc1", "recorded"),
        ("v1.6.5", "read"),
        ("v2.0.0", "read"),
        ("v2.2.6", "read"),
        ("v2.2.99", "read"),
        ("v2.3.0", "newer"),
        ("v3.0.0", "newer"),
        ("v10.0.0", "newer"),
        ("v1.3.49", "older"),
        ("v0.9.1", "older"),
        ("v1.0.0", "unknown"),
        ("dev", "unknown"),
        ("", "unknown"),
        ("v1.4", "unknown"),
        ("v1.4.19<script>", "unknown"),
    ],
)
def test_a_version_is_recorded_read_newer_older_or_unknown(version: str, known: str) -> None:
    assert knowledge_of(version) is Knowledge(known)


def test_every_known_version_is_recorded_or_read() -> None:
    assert [version for version in ALL if version not in RECORDED] == [READ.partition(".")[0]]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.where}.{field.name}")
def test_a_field_of_some_versions_is_kept_and_known(field) -> None:
    if field.where == "error":
        assert field.name in names_of("error")
        return
    model, body = (File, {"id": "f"}) if field.where == "file" else (Batch, {"id": "batch_1", "status": "completed"})
    inside = field.where == "extra_fields"
    answer = {**body, "extra_fields": {field.name: "x"}} if inside else {**body, field.name: 1_775_400_000}
    read = responses.parse(
        model, RawResponse(200, {"content-type": "application/json"}, json.dumps(answer).encode()), ASKED
    )
    if inside:
        assert read.extra_fields == {field.name: "x"}
    else:
        assert field.name in model.model_fields or field.name in (read.model_extra or {})
    assert set(field.versions) <= set(ALL)


def test_no_field_appears_twice() -> None:
    assert len(FIELDS) == len({(field.where, field.name) for field in FIELDS})
