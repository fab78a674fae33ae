"""What gateways of different versions refuse, seen through the hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_bifrost.exceptions import BifrostAuthError, BifrostRequestError
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.testing import LocalGateway, VirtualKey

OWNER, OTHER = "sk-bf-0123456789abcdef", "sk-bf-fedcba9876543210"
each_version = pytest.mark.parametrize("gateway", ["1.4", "1.5", "2"], indirect=True)


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Iterator[LocalGateway]:
    keys = [VirtualKey(OWNER), VirtualKey(OTHER)]
    with LocalGateway(batch_seconds=3600, virtual_keys=keys, enforce_auth=True, version=request.param) as running:
        yield running


@pytest.fixture
def use(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the connection this token from now on."""

    def use(token: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token=token))

    use(OWNER)
    return use


def submit(hook: BifrostHook) -> str:
    rows = [{"custom_id": "row-1", "params": {"model": "m", "max_tokens": 9, "messages": []}}]
    return hook.create_batch(requests=rows, provider="anthropic").id


@each_version
@pytest.mark.parametrize("call", ["get_file", "delete_file"])
def test_a_file_id_that_bedrock_can_never_have_is_refused_at_once(
    gateway: LocalGateway, use: Callable[[str], None], call: str
) -> None:
    with BifrostHook() as hook, pytest.raises(BifrostRequestError, match="Use the ID that the gateway returned"):
        getattr(hook, call)("file-abc", provider="bedrock")
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("gateway", ["2"], indirect=True)
def test_the_batch_of_another_virtual_key_is_reported_as_such(use: Callable[[str], None]) -> None:
    with BifrostHook() as hook:
        batch_id = submit(hook)
    use(OTHER)
    with BifrostHook() as hook:
        with pytest.raises(BifrostAuthError) as caught:
            hook.get_batch(batch_id, provider="anthropic")
        assert hook.list_batches(provider="anthropic") == []  # which is why a list under another key proves nothing
    assert caught.value.status_code == 404
    assert "Use the virtual key that the batch was submitted with" in str(caught.value)


@pytest.mark.parametrize("gateway", ["2"], indirect=True)
def test_a_batch_is_found_again_once_the_connection_has_its_key(use: Callable[[str], None]) -> None:
    with BifrostHook() as hook:
        batch_id = submit(hook)
    use(OTHER)
    with BifrostHook() as hook:
        hook.get_conn()
        use(OWNER)
        assert hook.get_batch(batch_id, provider="anthropic").id == batch_id
