"""What one batch may hold behind a gateway."""

from __future__ import annotations

import pytest

from airflow_bifrost import providers
from airflow_bifrost.providers.base import UNLIMITED
from airflow_bifrost.submission.limits import FORM_ROOM, limits_of

HUGE = 10**12  # bytes: a gateway that limits nothing

LIMITS = {
    # rows, bytes, min_rows, one_model, inline
    "openai": (50_000, 200_000_000, 0, True, False),
    "azure": (50_000, 200_000_000, 0, True, False),
    "anthropic": (100_000, 256_000_000 - FORM_ROOM, 0, False, True),
    "gemini": (UNLIMITED, 2_000_000_000, 0, False, False),
    "bedrock": (50_000, 1_000_000_000, 100, False, False),
    "vertex": (200_000, 1_000_000_000, 0, False, False),
    "a new one": (50_000, 200_000_000, 0, True, False),  # the strictest of each
}


@pytest.mark.parametrize("provider", LIMITS)
def test_each_provider_has_its_own_limits(provider: str) -> None:
    limits = limits_of(provider, gateway_bytes=HUGE)
    found = (limits.rows, limits.bytes, limits.min_rows, limits.one_model, limits.inline)
    assert found == LIMITS[provider]
    assert LIMITS.keys() >= providers.ALL.keys()


@pytest.mark.parametrize("provider", LIMITS)
def test_no_part_is_larger_than_the_gateway_accepts_with_room_for_the_form(provider: str) -> None:
    assert limits_of(provider).bytes == 100 * 2**20 - FORM_ROOM
    assert limits_of(provider, gateway_bytes=2**20).bytes == 2**20 - FORM_ROOM


def test_a_gateway_that_leaves_no_room_for_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="gateway_bytes is 65,536"):
        limits_of("openai", gateway_bytes=FORM_ROOM)
