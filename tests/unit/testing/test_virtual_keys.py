"""Virtual keys."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost.testing import VirtualKey
from airflow_bifrost.testing.errors import GatewayError
from airflow_bifrost.testing.governance import Governance, presented_key

KEYS = (
    "sk-bf-good",
    VirtualKey("sk-bf-narrow", providers=("gemini",)),
    VirtualKey("sk-bf-off", active=False),
    VirtualKey("sk-bf-broke", exhausted="budget"),
    VirtualKey("sk-bf-spent", exhausted="requests"),
    VirtualKey("sk-bf-wordy", exhausted="tokens"),
    VirtualKey("sk-bf-broke-here", exhausted="budget", exhausted_at="openai"),
    VirtualKey("sk-bf-broke-elsewhere", exhausted="budget", exhausted_at="azure"),
)


def refusal(headers: dict[str, str], *, enforced: bool) -> tuple[int | None, str | None] | None:
    try:
        Governance(KEYS, enforced=enforced).check(headers, "openai")
    except GatewayError as error:
        return error.status, error.kind
    return None


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize(
    "headers",
    [
        bearer("sk-bf-good"),
        {"authorization": "bearer sk-bf-good"},
        {"x-bf-vk": "sk-bf-good"},
        {"x-api-key": "sk-bf-good"},
        {"x-goog-api-key": "sk-bf-good"},
        {"authorization": "Basic YTpi", "x-bf-vk": "sk-bf-good"},
    ],
)
def test_a_good_key_is_taken_in_each_header(headers: dict[str, str], *, enforced: bool) -> None:
    assert refusal(headers, enforced=enforced) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("sk-proj-1"),
        {"authorization": "sk-bf-good"},
        {"authorization": "Basic YTpi"},
        {"api-key": "sk-bf-good"},
    ],
)
def test_without_a_virtual_key_it_depends_on_enforcement(headers: dict[str, str]) -> None:
    assert refusal(headers, enforced=True) == (401, "virtual_key_required")
    assert refusal(headers, enforced=False) is None


@pytest.mark.parametrize("headers", [bearer("sk-bf-nosuch"), bearer("SK-BF-good"), {"x-bf-vk": "anything"}])
def test_an_unknown_key_is_401_if_enforced_and_403_if_not(headers: dict[str, str]) -> None:
    assert refusal(headers, enforced=True) == (401, "virtual_key_required")
    assert refusal(headers, enforced=False) == (403, "virtual_key_not_found")


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize(
    ("token", "wanted"),
    [
        ("sk-bf-narrow", (403, "provider_blocked")),
        ("sk-bf-off", (403, "virtual_key_blocked")),
        ("sk-bf-broke", (402, "budget_exceeded")),
        ("sk-bf-spent", (429, "request_limited")),
        ("sk-bf-wordy", (429, "token_limited")),
        ("sk-bf-broke-here", (402, "budget_exceeded")),
        ("sk-bf-broke-elsewhere", None),
    ],
)
def test_a_known_key_is_refused_for_its_own_reason(
    token: str, wanted: tuple[int, str] | None, *, enforced: bool
) -> None:
    assert refusal(bearer(token), enforced=enforced) == wanted


def test_a_key_can_only_have_used_up_what_there_is() -> None:
    with pytest.raises(ValueError, match="budget, requests, tokens"):
        VirtualKey("sk-bf-x", exhausted="patience")


@pytest.mark.parametrize("header", ["x-bf-vk", "x-api-key"])
def test_a_bad_key_in_its_own_header_spoils_a_good_bearer(header: str) -> None:
    headers = {**bearer("sk-bf-good"), header: "sk-bf-nosuch"}
    assert presented_key(headers) == "sk-bf-nosuch"


def test_without_a_list_any_virtual_key_will_do() -> None:
    Governance(None, enforced=True).check(bearer("sk-bf-whatever"), "openai")


@pytest.mark.parametrize("fields", [{"providers": ("opnai",)}, {"exhausted": "budget", "exhausted_at": "opnai"}])
def test_a_key_for_an_unknown_provider_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a provider is one of openai, azure, .*, not 'opnai'"):
        VirtualKey("sk-bf-a", **fields)
