"""The table of providers: names, IDs, and the rules for an unknown provider."""

from __future__ import annotations

import base64

import pytest

from airflow_bifrost import providers
from airflow_bifrost.providers.base import ResultLocation

NAMES = sorted(providers.ALL)


def test_each_provider_is_found_by_its_own_name():
    assert {name: providers.get(name).name for name in NAMES} == {name: name for name in NAMES}


def test_an_unknown_provider_gets_the_strictest_of_each_limit():
    unknown = providers.get("nosuch")
    known = [provider.limits for provider in providers.ALL.values()]
    assert unknown.limits.rows == min(limits.rows for limits in known)
    assert unknown.limits.bytes == min(limits.bytes for limits in known)
    assert unknown.limits.one_model
    assert not unknown.custom_ids.pattern.fullmatch("x" * 65)


def test_nothing_is_assumed_about_the_list_of_an_unknown_provider():
    unknown = providers.get("nosuch")
    assert (unknown.listing, unknown.metadata, unknown.schema) == (None, False, None)


@pytest.mark.parametrize("name", NAMES)
def test_results_in_an_object_store_have_a_layout(name):
    provider = providers.get(name)
    assert (provider.stored is not None) == (provider.results is ResultLocation.OBJECT_STORAGE)


@pytest.mark.parametrize("spelling", ["xyz", "batches-xyz", "batches/xyz"])
def test_gemini_knows_a_batch_by_its_bare_id(spelling):
    gemini = providers.get("gemini")
    assert gemini.native_id(spelling) == gemini.listed_id(spelling) == "xyz"


def test_the_native_id_of_a_bedrock_job_is_the_end_of_its_arn():
    arn = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abc123def456"
    assert providers.get("bedrock").native_id(base64.b64encode(arn.encode()).decode()) == "abc123def456"


def test_the_native_id_of_a_vertex_job_is_its_number():
    name = "projects/1234567890/locations/us-central1/batchPredictionJobs/7654321098765432100"
    batch_id = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
    assert providers.get("vertex").native_id(batch_id) == "7654321098765432100"


@pytest.mark.parametrize("name", ["bedrock", "vertex"])
@pytest.mark.parametrize("odd", ["", "abc123def456", "%%%", "not base64!", "YXJu"])
def test_an_id_without_a_resource_name_is_unchanged(name, odd):
    assert providers.get(name).native_id(odd) == odd


@pytest.mark.parametrize(
    ("name", "asked", "answered", "same"),
    [
        ("openai", "batch_1", "batch_1", True),
        ("openai", "batch_1", "batch_2", False),
        ("azure", "batch_1", "Batch_1", False),
        ("anthropic", "msgbatch_1", "msgbatch_2", False),
        ("gemini", "xyz", "batches-xyz", True),
        ("gemini", "batches-xyz", "batches/xyz", True),
        ("gemini", "batches-xyz", "abc", False),
    ],
)
def test_an_answer_about_another_batch_is_detected(name, asked, answered, same):
    assert providers.get(name).is_same_batch(asked, answered) is same
