"""What one batch of a provider may hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_bifrost.submission.limits import FORM_ROOM, LIMITS, UNLIMITED, limits_of

HUGE = 10**12  # bytes: a gateway without a limit of its own


@pytest.mark.parametrize(
    ("provider", "rows", "size"),
    [
        ("openai", 50_000, 200_000_000),
        ("azure", 50_000, 200_000_000),
        ("anthropic", 100_000, 256_000_000 - FORM_ROOM),
        ("gemini", UNLIMITED, 2_000_000_000),
        ("bedrock", 50_000, 1_000_000_000),
    ],
)
def test_each_provider_has_its_own_limits(provider: str, rows: int, size: int) -> None:
    limits = limits_of(provider, gateway_bytes=HUGE)
    assert (limits.rows, limits.bytes) == (rows, size)


@pytest.mark.parametrize("provider", [*LIMITS, "vertex"])
def test_no_part_is_larger_than_the_gateway_takes_with_room_for_the_form(provider: str) -> None:
    assert limits_of(provider).bytes == 100 * 2**20 - FORM_ROOM
    assert limits_of(provider, gateway_bytes=2**20).bytes == 2**20 - FORM_ROOM


def test_a_gateway_that_leaves_no_room_for_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="gateway_bytes is 65,536"):
        limits_of("openai", gateway_bytes=FORM_ROOM)


def test_an_unknown_provider_takes_the_strictest_of_each() -> None:
    unknown = limits_of("vertex", gateway_bytes=HUGE)
    assert unknown.rows == min(limits.rows for limits in LIMITS.values())
    assert unknown.bytes == min(limits.bytes for limits in LIMITS.values())
    assert unknown.custom_id == LIMITS["anthropic"].custom_id
    assert (unknown.one_model, unknown.inline, unknown.min_rows) == (True, False, 0)


def test_only_anthropic_takes_rows_inline_and_only_bedrock_has_a_fewest() -> None:
    assert [name for name, limits in LIMITS.items() if limits.inline] == ["anthropic"]
    assert [name for name, limits in LIMITS.items() if limits.min_rows] == ["bedrock"]
    assert [name for name, limits in LIMITS.items() if limits.one_model] == ["openai", "azure"]


@pytest.mark.parametrize(
    ("provider", "custom_id", "taken"),
    [
        ("openai", "Any text: é/😀", True),
        ("openai", "two\nlines", True),
        ("openai", "", False),
        ("gemini", "a.b", True),
        ("bedrock", "", False),
        ("anthropic", "row-000000001", True),
        ("anthropic", "a" * 64, True),
        ("anthropic", "a" * 65, False),
        ("anthropic", "a.b", False),
        ("anthropic", "a\n", False),
        ("anthropic", "é", False),
        ("anthropic", "", False),
    ],
)
def test_which_ids_an_provider_takes(provider: str, custom_id: str, taken: bool) -> None:
    assert bool(limits_of(provider).custom_id.fullmatch(custom_id)) is taken


def test_limits_of_an_account_of_ones_own_are_made_from_these() -> None:
    assert replace(limits_of("bedrock"), min_rows=0, rows=100_000).rows == 100_000
