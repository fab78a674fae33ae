"""`make test-live`: the contract test for a gateway of one's own, on the local one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_bifrost.testing import Fault, LocalGateway, UpstreamAnswer

ROOT = Path(__file__).parents[2]


def contract_test(gateway: LocalGateway, *arguments: str, **environment: str) -> tuple[int, dict[str, int], str]:
    """Its exit code, how many tests ended how, and its output."""
    names = ("GATEWAY", "TOKEN", "PROVIDER", "PREFIX", "MODEL")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "tests/conformance/live", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**inherited, "GATEWAY": gateway.url, "TOKEN": "sk-bf-good", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    counts = {
        kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|deselected)", done.stdout)
    }
    return done.returncode, counts, done.stdout + done.stderr


@pytest.fixture(scope="module")
def own_gateway():
    with LocalGateway(batch_seconds=1, virtual_keys=["sk-bf-good"], enforce_auth=True) as running:
        yield running


def test_it_only_reads_unless_it_is_told_to_spend(own_gateway):
    own_gateway.reset()
    own_gateway.add_batch(status="completed", rows=3)
    code, counts, output = contract_test(own_gateway)
    assert (code, counts.get("failed", 0), counts.get("skipped", 0)) == (0, 0, 0), output
    assert counts["deselected"] == 2
    assert {request.method for request in own_gateway.requests} == {"GET"}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_it_sees_a_batch_through_its_life_if_it_may_spend(own_gateway, provider):
    own_gateway.reset()
    code, counts, output = contract_test(own_gateway, "--spend", PROVIDER=provider)
    assert (code, counts.get("failed", 0)) == (0, 0), output
    assert sorted(batch["status"] for batch in own_gateway.batches)[-1] in ("completed", "ended")
    assert len(own_gateway.batches) == 2


def test_it_fails_where_a_gateway_says_something_else(own_gateway):
    own_gateway.reset()
    unknown = UpstreamAnswer(status=418, body={"error": {"message": "I am a teapot"}})
    own_gateway.inject(Fault(upstream=unknown, times=None, path_contains="/batches/"))
    code, counts, output = contract_test(own_gateway)
    assert (code, counts["failed"]) == (1, 1), output
    assert "test_a_batch_that_does_not_exist_is_not_found" in output
    assert "sk-bf-good" not in output


def test_it_says_what_it_needs_where_no_gateway_is_named(own_gateway):
    code, _, output = contract_test(own_gateway, GATEWAY="")
    assert code == 1
    assert "make test-live GATEWAY=" in output
