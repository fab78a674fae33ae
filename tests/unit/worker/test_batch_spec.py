"""The digest of a request is the same in every process, and the values of the task are what is sent."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from airflow_bifrost.runs.request import sha256_of
from airflow_bifrost.worker.batch_spec import BatchSpec


class Tier(Enum):
    FLEX = "flex"


def spec(**members: Any) -> BatchSpec:
    return BatchSpec("/v1/chat/completions", extra_body=members)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal("0.2"), 0.2),
        (Decimal(3), 3),
        (Tier.FLEX, "flex"),
        ((1, 2), [1, 2]),
        ({"since": [date(2026, 1, 2)]}, {"since": ["2026-01-02"]}),
    ],
    ids=["date", "Decimal", "whole Decimal", "enum", "tuple", "nested"],
)
def test_values_that_json_can_hold_go_out_and_identify_the_batch_as_json(given: Any, same: Any) -> None:
    made = spec(option=given)
    made.check("openai")
    assert json.loads(json.dumps(made.members()["extra_body"])) == {"option": same}
    assert made.digest("openai", "rows") == spec(option=same).digest("openai", "rows")
    assert sha256_of([given]) == sha256_of([same])


@pytest.mark.parametrize(
    "given",
    [{1, 2}, float("nan"), b"x", Decimal("0.1234567890123456789"), object()],
    ids=["set", "nan", "bytes", "long Decimal", "object"],
)
def test_values_that_json_cannot_hold_exactly_are_an_error_that_names_the_member(given: Any) -> None:
    with pytest.raises(ValueError, match="option"):
        spec(option=given)
    with pytest.raises(ValueError, match="option"):
        BatchSpec("/v1/chat/completions", extra_form={"option": given})
