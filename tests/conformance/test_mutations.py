"""Recorded answers, damaged: a typed error or a model, never anything else, and never a success that was not one."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.outcome import BatchStatus, Outcome, outcome_of_batch
from airflow_bifrost.gateway.summary import BatchSummary

from .test_answers import CASES, ask

RECORDED = [json.loads(path.read_text()) for path in CASES]
ODD: list[Any] = [
    None,
    "",
    0,
    -1,
    1.5,
    10**30,
    True,
    [],
    {},
    [None],
    {"a": [1]},
    "text",
    "COMPLETED",
    "\ud800",
    "\0",
    "x" * 9000,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every member of ``value``."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, member in members for place in [(*path, key), *places(member, (*path, key))]]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    case = copy.deepcopy(draw(st.sampled_from([case for case in RECORDED if isinstance(case["answer"]["body"], dict)])))
    for _ in range(draw(st.integers(1, 4))):
        found = places(case["answer"]["body"])
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        member = case["answer"]["body"]
        for key in way:
            member = member[key]
        if draw(st.booleans()):
            del member[last]
        else:
            member[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    if draw(st.integers(0, 4)) == 0:
        case["answer"]["status"] = draw(st.sampled_from([200, 201, 204, 302, 400, 404, 429, 500, 503]))
    return case


@settings(deadline=None, max_examples=250)
@given(damaged())
def test_a_damaged_answer_is_a_model_or_a_typed_error(case):
    status = case["answer"]["status"]
    try:
        value = ask(case)
    except BifrostGatewayError:
        return
    assert status == 200
    if case["call"] != "get_batch":
        return
    body = case["answer"]["body"]
    assert body["id"].encode(errors="replace").decode() == value.id
    outcome = outcome_of_batch(value, case["upstream"])
    assert (outcome is not Outcome.SUCCEEDED) or BatchStatus.of(body["status"]) in (
        BatchStatus.COMPLETED,
        BatchStatus.ENDED,
    )
    given_counts = body.get("request_counts")
    for name, number in value.request_counts.model_dump().items():
        assert number is None or number == given_counts[name]
    summary = BatchSummary.of(value, batch_id="b", provider=case["upstream"]).to_xcom()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(RECORDED), st.floats(0, 1, exclude_max=True))
def test_an_answer_cut_short_is_a_typed_error(case, share):
    if case["call"] == "file_content" or not isinstance(case["answer"]["body"], dict):
        return
    text = json.dumps(case["answer"]["body"])
    cut = {**case, "answer": {**case["answer"], "body": text[: int(len(text) * share)]}}
    try:
        ask(cut)
    except BifrostGatewayError:
        return
    raise AssertionError("it passed for whole")
