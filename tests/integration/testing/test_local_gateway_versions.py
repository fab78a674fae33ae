"""The local gateway answers like the version that it is given. The recordings show the differences of 1.4 and 1.5; here are those of 2, which
were read in its source, and a few that users see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import Fault, LocalGateway, ProviderAnswer, VirtualKey
from airflow_bifrost.testing.__main__ import main
from airflow_bifrost.testing.versions import VERSIONS

At = Callable[..., tuple[LocalGateway, Client]]
KEYS = ["sk-bf-good", "sk-bf-other", VirtualKey("sk-bf-off", active=False)]


@pytest.fixture
def at() -> Iterator[At]:
    """Start a gateway of a version."""
    with ExitStack() as stack:

        def start(version: str, **options: object) -> tuple[LocalGateway, Client]:
            gateway = stack.enter_context(LocalGateway(0, version=version, virtual_keys=KEYS, **options))  # type: ignore[arg-type]
            headers = {"authorization": "Bearer sk-bf-good"}
            return gateway, stack.enter_context(Client(base_url=gateway.url, headers=headers))

        yield start


def test_each_version_says_which_it_is(at: At) -> None:
    said = {version: at(version)[1].get("/api/version").json() for version in VERSIONS}
    assert said == {"1.4": "v1.4.19", "1.5": "v1.5.16", "2": "v2.2.6"}
    assert {name: version.recorded for name, version in VERSIONS.items()} == {"1.4": True, "1.5": True, "2": False}


def test_an_unknown_version_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"version is one of 1\.4, 1\.5, 2, not '1\.6'"):
        LocalGateway(version="1.6")


@pytest.mark.bifrost_gateway(version="1.5")
def test_the_pytest_marker_takes_a_version(bifrost_gateway: LocalGateway) -> None:
    assert httpx.get(f"{bifrost_gateway.url}/api/version").json() == "v1.5.16"


def test_the_command_takes_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[LocalGateway] = []
    monkeypatch.setattr(LocalGateway, "run", lambda gateway, *_, **__: started.append(gateway))
    main(["--version", "2"])
    with started[0] as gateway:
        assert httpx.get(f"{gateway.url}/api/version").json() == "v2.2.6"
    with pytest.raises(SystemExit):
        main(["--version", "3"])


def test_vertex_has_batches_since_1_5(at: At) -> None:
    for version, status in {"1.4": 500, "1.5": 200, "2": 200}.items():
        _, client = at(version)
        assert client.get("/openai/v1/batches?provider=vertex").status_code == status, version
    with pytest.raises(ValueError, match="have no batches on vertex"):
        at("1.4")[0].add_batch("vertex")


@pytest.mark.parametrize(
    ("token", "answers"),
    [
        ("sk-bf-nobody", {"1.4": (403, "virtual_key_not_found"), "1.5": (401, "virtual_key_not_found")}),
        ("sk-bf-nobody", {"2": (401, "access_not_found")}),
        ("sk-bf-off", {"1.4": (403, "virtual_key_blocked"), "1.5": (403, "virtual_key_blocked")}),
        ("sk-bf-off", {"2": (403, "access_blocked")}),
    ],
)
def test_a_refused_key_is_refused_in_the_words_of_the_version(
    at: At, token: str, answers: dict[str, tuple[int, str]]
) -> None:
    for version, expected in answers.items():
        refused = at(version)[1].get("/openai/v1/batches", headers={"authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json()["type"]) == expected, version


@pytest.mark.parametrize(
    ("failure", "statuses"),
    [
        ("close", {"1.4": 500, "1.5": 502, "2": 502}),
        ("queue_full", {"1.4": 500, "1.5": 400, "2": 503}),
        ("timeout", {"1.4": 504, "1.5": 504, "2": 504}),
    ],
)
def test_a_failing_provider_has_the_status_of_the_version(at: At, failure: str, statuses: dict[str, int]) -> None:
    for version, status in statuses.items():
        gateway, client = at(version)
        gateway.inject(Fault(provider_answer=ProviderAnswer(failure=failure)))
        assert client.get("/openai/v1/batches").status_code == status, version


def test_every_answer_says_where_the_call_went_since_1_5(at: At) -> None:
    extra = {version: at(version)[1].get("/openai/v1/batches").json()["extra_fields"] for version in VERSIONS}
    assert "routing_info" not in extra["1.4"]
    assert extra["1.5"]["routing_info"] == extra["2"]["routing_info"] == {"provider": "openai"}


def test_the_known_members_of_2_are_in_its_answers_and_errors(at: At) -> None:
    _, client = at("2")
    assert {"upstream_latency", "provider_response_headers"} <= client.get("/openai/v1/batches").json()[
        "extra_fields"
    ].keys()
    error = client.get("/openai/v1/batches", headers={"authorization": "Bearer sk-bf-nobody"}).json()
    assert {"latency", "key_statuses"} <= error["extra_fields"].keys()


@pytest.mark.parametrize(("provider", "status"), [("openai", 403), ("azure", 403), ("gemini", 200)])
def test_a_key_of_some_models_cannot_upload_to_openai_or_azure_since_2(provider: str, status: int) -> None:
    keys = [VirtualKey("sk-bf-narrow", models=("gpt-4o-mini",))]
    for version, expected in {"1.5": 200, "2": status}.items():
        with LocalGateway(0, version=version, virtual_keys=keys) as gateway:
            answer = httpx.post(
                f"{gateway.url}/openai/v1/files",
                headers={"authorization": "Bearer sk-bf-narrow"},
                data={"purpose": "batch", "provider": provider},
                files={"file": ("in.jsonl", b"{}")},
            )
        assert answer.status_code == expected, (version, answer.text)


def test_a_batch_of_another_virtual_key_does_not_exist_on_2(at: At) -> None:
    other = {"authorization": "Bearer sk-bf-other"}
    for version, status in {"1.5": 200, "2": 404}.items():
        gateway, client = at(version)
        batch_id = client.create(["Hi"])
        ownerless = gateway.add_batch()
        assert client.batch(batch_id)["status"] == "completed"
        seen = client.get(f"/openai/v1/batches/{batch_id}", headers=other)
        assert seen.status_code == status, version
        listed = client.get("/openai/v1/batches", headers=other).json()["data"]
        assert {batch["id"] for batch in listed} == {ownerless, *([batch_id] if status == 200 else [])}
        assert client.get(f"/openai/v1/batches/{ownerless}", headers=other).status_code == 200
        assert client.get(f"/openai/v1/batches/{batch_id}", headers={"authorization": ""}).status_code == 200
    for method, path in (("POST", f"{batch_id}/cancel"), ("GET", f"{batch_id}/results")):
        base = "/openai/v1" if method == "POST" else "/v1"
        refused = client.request(method, f"{base}/batches/{path}?provider=openai", headers=other)
        assert (refused.status_code, refused.json()["type"]) == (404, "access_blocked")


@pytest.mark.parametrize(
    "segment", ["..%2Ffiles", "a%2Fb", "a%5Cb", "a%3Fb", "a%23b", "a%25b", "%2E%2E", "%2E", "a%0Ab"]
)
def test_an_id_that_would_shape_a_path_is_refused_on_2(at: At, segment: str) -> None:
    refused = at("2")[1].get(f"/openai/v1/batches/{segment}")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("invalid batch_id: ")


def test_an_odd_answer_of_gemini_no_longer_ends_the_gateway_on_2(at: At) -> None:
    gateway, client = at("2")
    gateway.inject(Fault(provider_answer=ProviderAnswer(body={"name": "batches/x"})))
    answer = client.get("/openai/v1/batches/x?provider=gemini")
    assert (answer.status_code, answer.json()["is_bifrost_error"]) == (500, True)


def test_a_bodiless_status_of_a_provider_is_a_502_on_2(at: At) -> None:
    for version, status in {"1.5": 204, "2": 502}.items():
        gateway, client = at(version)
        gateway.inject(Fault(provider_answer=ProviderAnswer(status=204)))
        assert client.get("/openai/v1/batches").status_code == status


def test_a_gemini_batch_names_a_file_on_2_that_cannot_be_downloaded(at: At) -> None:
    gateway, client = at("2")
    batch = client.batch(gateway.add_batch("gemini", status="BATCH_STATE_SUCCEEDED"), "gemini")
    assert batch["output_file_id"].startswith("files/")
    file_id = batch["output_file_id"].replace("/", "-")
    assert client.get(f"/openai/v1/files/{file_id}/content?provider=gemini").status_code == 500


def test_the_id_of_a_batch_is_a_cursor_since_1_5(at: At) -> None:
    for version, status in {"1.4": 500, "1.5": 200, "2": 200}.items():
        gateway, client = at(version)
        older, newer = gateway.add_batch(), gateway.add_batch()
        page = client.get(f"/openai/v1/batches?after={newer}")
        assert page.status_code == status, version
        if status == 200:
            assert [batch["id"] for batch in page.json()["data"]] == [older]
