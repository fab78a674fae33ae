"""The virtual key is replaced between two attempts. From 2.x, the gateway's list hides the batches of other keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.airflow import End, FakeTI, Store, run_to_its_end

from airflow_bifrost import BatchSubmitOperator
from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.submission.ledger import LedgerTiming
from airflow_bifrost.testing import LocalGateway
from airflow_bifrost.worker import submit as module

PROVIDERS = pytest.mark.parametrize("provider", ["openai", "anthropic"])
RECORD = "bifrost_submission_1"


class Killed(BaseException):
    """The worker got SIGKILL."""


class KillingStore(Store):
    """Kills the worker after the answer to its create has arrived, before it is recorded."""

    kills = True

    def set(self, key: str, value: Any) -> None:
        if self.kills and key == RECORD and "submitted" in {record["state"] for record in value.values()}:
            self.kills = False
            raise Killed
        super().set(key, value)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    monkeypatch.setattr(module, "TIMING", LedgerTiming(sleep=lambda _: None, settle=0.0, late=0.0))
    with LocalGateway(version="2", batch_seconds=3600, virtual_keys=["sk-bf-good", "sk-bf-new"]) as running:
        use_key(running, monkeypatch, "sk-bf-good")
        yield running


def use_key(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token=key))


def submit(store: Store, provider: str, *, try_number: int = 1, **options: Any) -> End:
    def make() -> BatchSubmitOperator:
        arguments = {"rows": ["a", "b"], "request_params": {"max_tokens": 5}} | options
        return BatchSubmitOperator(task_id="submit", model="echo-1", provider=provider, **arguments)

    return run_to_its_end(make, ti=FakeTI(task_id="submit", try_number=try_number), store=store)


@PROVIDERS
def test_a_list_under_another_key_is_no_proof_of_absence(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    store = KillingStore()
    with pytest.raises(Killed):
        submit(store, provider)
    use_key(gateway, monkeypatch, "sk-bf-new")
    error = submit(store, provider, try_number=2).error
    assert isinstance(error, SubmissionInDoubt)
    assert "another key" in str(error)
    assert len(gateway.batches) == 1


@PROVIDERS
def test_the_record_tells_keys_apart_and_does_not_contain_them(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    stores = []
    for key in ("sk-bf-good", "sk-bf-new", "sk-bf-good"):
        use_key(gateway, monkeypatch, key)
        stores.append(Store())
        assert submit(stores[-1], provider).state == "success"
        assert key not in str(stores[-1])
    keys = [record["key"] for store in stores for record in store.get(RECORD).values()]
    assert keys[0] == keys[2] != keys[1]


def test_a_batch_that_another_key_may_not_cancel_is_cancelled_when_the_key_is_back(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    old = submit(store, "openai").value
    use_key(gateway, monkeypatch, "sk-bf-new")
    changed = {"rows": ["c"], "on_changed_input": "cancel"}
    assert submit(store, "openai", try_number=2, **changed).state == "success"
    assert f"Batch {old}, which another input has submitted, may keep running and be billed" in caplog.text
    use_key(gateway, monkeypatch, "sk-bf-good")
    submit(store, "openai", try_number=3, **changed)
    statuses = {batch["id"]: batch["status"] for batch in gateway.batches}
    assert statuses.pop(old) in ("cancelling", "cancelled")
    assert len(statuses) == 1
