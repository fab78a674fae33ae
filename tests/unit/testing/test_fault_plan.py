"""The plan of faults."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost.testing import Fault, ProviderAnswer
from airflow_bifrost.testing.faults import FaultPlan


def plan(*faults: Fault) -> FaultPlan:
    due = FaultPlan()
    for fault in faults:
        due.add(fault)
    return due


def statuses(due: FaultPlan, calls: int) -> list[int | None]:
    taken = [due.take("GET", "/x", "openai") for _ in range(calls)]
    return [fault.status if fault else None for fault in taken]


def test_a_fault_is_used_as_often_as_it_says_and_then_gone() -> None:
    assert statuses(plan(Fault(status=503, times=2)), 3) == [503, 503, None]


def test_a_fault_without_a_number_of_times_stays_until_it_is_cleared() -> None:
    due = plan(Fault(status=503, times=None))
    assert statuses(due, 5) == [503] * 5
    due.clear()
    assert statuses(due, 1) == [None]


def test_the_first_fault_that_matches_wins() -> None:
    assert statuses(plan(Fault(status=500, path_contains="/files"), Fault(status=429), Fault(status=503)), 3) == [
        429,
        503,
        None,
    ]


@pytest.mark.parametrize("fault", [{"method": "post"}, {"path_contains": "/files"}, {"provider": "gemini"}])
def test_a_fault_leaves_other_calls_alone(fault: dict[str, str]) -> None:
    due = plan(Fault(status=503, **fault))
    assert due.take("GET", "/batches", "openai") is None
    assert due.take("POST", "/files", "gemini") is not None


def test_a_rate_hits_about_that_share_of_the_calls_and_the_same_ones_each_time() -> None:
    hits = statuses(plan(Fault(status=503, times=None, rate=0.3)), 1000)
    assert 250 < hits.count(503) < 350
    assert hits == statuses(plan(Fault(status=503, times=None, rate=0.3)), 1000)


def test_a_fault_in_which_nothing_goes_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one of"):
        Fault(times=3)


def test_a_fault_of_the_provider_waits_there_and_no_other_does() -> None:
    closed = Fault(provider_answer=ProviderAnswer(failure="close"))
    due = plan(closed, Fault(status=503))
    assert statuses(due, 2) == [503, None]
    assert due.take("GET", "/x", "openai", at_provider=True) is closed
    assert due.take("GET", "/x", "openai", at_provider=True) is None


@pytest.mark.parametrize(
    "more", [{"status": 503}, {"drop": True}, {"garbage": True}, {"body": "x"}, {"retry_after": 1}]
)
def test_a_fault_of_the_provider_leaves_the_answer_to_the_gateway(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the answer is the gateway's own"):
        Fault(provider_answer=ProviderAnswer(503), **more)


def test_a_rate_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="probability"):
        Fault(status=500, rate=30)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"provider_answer": {"status": 429}}, r"provider_answer is a ProviderAnswer\(...\), not {'status': 429}"),
        ({"provider_answer": "close"}, "provider_answer is a ProviderAnswer"),
        ({"status": "503"}, "status is an HTTP status as an int, not '503'"),
        ({"status": True}, "status is an HTTP status"),
        ({"status": 503, "times": "2"}, "times is a number of calls"),
        ({"status": 503, "rate": "0.5"}, "rate is a probability"),
        ({"status": 503, "method": ["POST"]}, "method is a text"),
        ({"status": 503, "provider": ["openai"]}, "provider is a text"),
        ({"status": 503, "path_contains": 7}, "path_contains is a text"),
        ({"status": 503, "body": {1, 2}}, "body is text, bytes or JSON"),
        ({"status": 429, "retry_after": [7]}, "retry_after is a text or a number"),
        ({"delay": "1"}, "delay is a number of seconds"),
        ({"drop": "no"}, "drop is True or False"),
    ],
)
def test_a_field_of_another_type_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        Fault(**fields)


@pytest.mark.parametrize("more", [{"status": 42}, {"status": 503, "times": 0}])
def test_a_number_that_cannot_be_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is (an HTTP status|at least 1)"):
        Fault(**more)


def test_an_unknown_provider_is_refused_with_those_that_there_are() -> None:
    known = (
        "a provider is one of openai, azure, anthropic, gemini, bedrock, vertex, cohere, groq, mistral, not 'antropic'"
    )
    with pytest.raises(ValueError, match=known):
        Fault(status=503, provider="antropic")
    assert Fault(status=503, provider="groq")
