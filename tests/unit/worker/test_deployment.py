"""How a deployment is known in the tags of batches."""

from __future__ import annotations

import pytest

from airflow_bifrost.submission.ledger import Deployment
from airflow_bifrost.worker.deployment import this_deployment

KEYS = ["QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="]


def test_the_fernet_key_tells_deployments_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for key in (KEYS[0], KEYS[0], KEYS[1]):
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
        found.append(this_deployment())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("key", ["", " ", "{FERNET_KEY}"])
def test_without_a_fernet_key_a_deployment_is_unknown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    assert this_deployment() == Deployment()


def test_a_name_that_a_user_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__DEPLOYMENT", "staging")
    assert this_deployment() == Deployment.named("staging")
