"""Starting, stopping, killing, steering from outside, and the pytest fixture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import LocalGateway

if TYPE_CHECKING:
    from collections.abc import Iterator


PATIENCE = 60.0  # seconds, for what takes half a second on an idle machine


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python -m airflow_bifrost.testing`` and the URL that it prints."""
    command = [sys.executable, "-m", "airflow_bifrost.testing", "--port", "0", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.communicate()


def test_a_killed_gateway_goes_on_where_the_clock_stands(tmp_path: Path) -> None:

    state = ("--state", str(tmp_path / "state.sqlite"), "--batch-seconds", "2")
    with process(*state) as (first, url), Client(base_url=url) as client:
        batch_id = client.create([f"row {i}" for i in range(40)])
        while not 0 < client.batch(batch_id)["request_counts"]["completed"] < 40:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with process(*state) as (_, url), Client(base_url=url) as client:
        batch = client.wait(batch_id)
        assert batch["status"] == "completed"
        assert [row["custom_id"] for row in client.rows(batch["output_file_id"])] == [f"r{i}" for i in range(40)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_after_one_line_of_output(number: signal.Signals) -> None:
    with process() as (running, url):
        assert httpx.get(f"{url}/health").status_code == 200
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out) == (0, "")
    assert err.count("\n") == 1


def test_a_verbose_process_logs_to_stderr() -> None:
    with process("--verbose") as (running, url):
        httpx.get(f"{url}/health")
        running.terminate()
        out, err = running.communicate(timeout=PATIENCE)
    assert out == ""
    assert "GET /health" in err


@pytest.mark.parametrize(("arguments", "token"), [((), None), (("--virtual-key", "sk-bf-it's"), "sk-bf-it's")])
def test_the_process_prints_its_connection_to_stderr_for_a_shell(arguments: tuple[str, ...], token: str | None) -> None:
    with process(*arguments) as (running, url):
        running.terminate()
        _, err = running.communicate(timeout=PATIENCE)
    shell = f'{err}printf %s "$AIRFLOW_CONN_BIFROST_DEFAULT"'
    connection = json.loads(subprocess.check_output(["sh", "-c", shell], text=True))
    assert f"{connection['schema']}://{connection['host']}:{connection['port']}" == url
    assert connection.get("password") == token


def test_a_process_whose_port_is_taken_says_so_in_one_line(gateway: LocalGateway) -> None:
    port = gateway.url.rpartition(":")[2]
    with process("--port", port) as (running, _):
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, out, err) == (1, "", f"port {port} is taken; --port 0 takes a free one\n")


def test_the_process_takes_virtual_keys() -> None:
    with process("--virtual-key", "sk-bf-a", "--virtual-key", "sk-bf-b", "--enforce-auth") as (_, url):
        for token, status in (("sk-bf-a", 200), ("sk-bf-b", 200), ("sk-bf-c", 401)):
            answer = httpx.get(f"{url}/openai/v1/batches", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status


def test_nothing_of_airflow_is_imported() -> None:
    code = "import sys, airflow_bifrost.testing.__main__; print([m for m in sys.modules if m.split('.')[0] == 'airflow' or m.startswith('airflow_bifrost.gateway')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, airflow_bifrost.testing.pytest_plugin; print({'uvicorn', 'starlette', 'fastapi', 'airflow', 'sqlite3'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_restart_keeps_port_and_state(gateway: LocalGateway, client: Client) -> None:
    batch_id = client.create(["one"])
    url = gateway.url
    gateway.restart()
    assert gateway.url == url
    batch = client.wait(batch_id)
    assert client.rows(batch["output_file_id"])[0]["custom_id"] == "r0"


def test_nothing_answers_during_a_restart(gateway: LocalGateway) -> None:
    import threading

    url = gateway.url
    restarting = threading.Thread(target=gateway.restart, args=(1.5,))
    restarting.start()
    refused = False
    while restarting.is_alive() and not refused:
        try:
            httpx.get(f"{url}/health", timeout=1)
        except httpx.TransportError as error:
            refused = isinstance(error, httpx.ConnectError)
    restarting.join()
    assert refused
    assert httpx.get(f"{gateway.url}/health").status_code == 200


def test_a_state_of_ones_own_outlives_the_gateway(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    with LocalGateway(state=state) as gateway:
        batch_id = gateway.add_batch(status="completed")
    with LocalGateway(state=state) as gateway:
        assert [batch["id"] for batch in gateway.batches] == [batch_id]


def test_a_port_that_is_taken_is_an_error(gateway: LocalGateway) -> None:
    with pytest.raises(OSError, match="in use"):
        LocalGateway(port=int(gateway.url.rpartition(":")[2])).start()


def test_a_connection_names_host_port_token_and_extra(gateway: LocalGateway) -> None:
    connection = json.loads(gateway.connection_json("sk-bf-1", provider="gemini"))
    assert f"{connection['schema']}://{connection['host']}:{connection['port']}" == gateway.url
    assert connection["conn_type"] == "bifrost"
    assert connection["password"] == "sk-bf-1"
    assert connection["extra"] == {"provider": "gemini"}


def test_a_batch_that_was_put_in_is_held_until_it_is_set(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch(status="in_progress", rows=10, batch_id="batch_mine")
    assert batch_id == "batch_mine"
    assert client.batch(batch_id)["request_counts"] == {"total": 10, "completed": 5, "failed": 0}
    gateway.set_batch(batch_id, status="completed")
    batch = client.batch(batch_id)
    assert batch["request_counts"]["completed"] == 10
    assert len(client.rows(batch["output_file_id"])) == 10


def test_any_wire_field_can_be_overridden_or_taken_away(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch(
        status="completed", counts={"total": 7}, metadata={"a": "b"}, endpoint="/v1/embeddings"
    )
    gateway.set_batch(batch_id, error_file_id="", output_file_id=None, created_at=5)
    batch = client.batch(batch_id)
    assert batch["request_counts"] == {"total": 7, "completed": 0, "failed": 0}
    assert (batch["metadata"], batch["endpoint"]) == ({"a": "b"}, "/v1/embeddings")
    assert (batch["error_file_id"], batch["created_at"]) == ("", 5)
    assert "output_file_id" not in batch


def test_a_batch_is_not_put_in_twice(gateway: LocalGateway) -> None:
    gateway.add_batch(batch_id="batch_mine")
    with pytest.raises(ValueError, match="already"):
        gateway.add_batch(batch_id="batch_mine")


def test_a_batch_that_is_not_there_cannot_be_set(gateway: LocalGateway) -> None:
    with pytest.raises(LookupError):
        gateway.set_batch("batch_nope", status="completed")


def test_a_batch_is_put_in_for_a_provider_that_has_batches_only(gateway: LocalGateway) -> None:
    for add in (gateway.add_batch, lambda name: gateway.add_file(b"{}", provider=name)):
        with pytest.raises(
            ValueError, match="one of openai, azure, anthropic, gemini, bedrock, vertex, not 'antropic'"
        ):
            add("antropic")


def test_a_count_that_no_provider_has_is_refused(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(counts={"total": 3, "succeeded": 3})
    for change in (gateway.add_batch, lambda **fields: gateway.set_batch(batch_id, **fields)):
        with pytest.raises(ValueError, match=r"one of total, completed, failed, succeeded, .* not 'succeded'"):
            change(request_counts={"total": 3, "succeded": 3})
    assert len(gateway.batches) == 1


def test_a_status_may_be_any_word(gateway: LocalGateway, client: Client) -> None:
    assert client.batch(gateway.add_batch(status="complete"))["status"] == "complete"


def test_another_process_steers_over_http(gateway: LocalGateway, client: Client) -> None:
    batch_id = client.post("/_local/batches", json={"provider": "gemini", "status": "in_progress", "rows": 3}).json()[
        "id"
    ]
    assert client.patch(f"/_local/batches/{batch_id}", json={"status": "completed"}).status_code == 204
    assert client.batch(batch_id, "gemini")["status"] == "completed"
    assert [batch["rows"] for batch in client.get("/_local/batches").json()] == [3]
    client.post("/_local/faults", json={"status": 503, "times": None})
    assert client.get("/openai/v1/batches/b1").status_code == 503
    assert client.get("/_local/faults").json()[0]["status"] == 503
    client.delete("/_local/faults")
    assert client.get("/openai/v1/batches/b1").status_code == 404
    assert [seen["path"] for seen in client.get("/_local/requests").json()][-1] == "/openai/v1/batches/b1"
    client.delete("/_local/requests")
    assert gateway.requests == []


def test_a_mistake_in_steering_is_400_and_says_so(client: Client) -> None:
    for path, body in (("faults", {"statsu": 503}), ("batches", {"provider": "nosuch"}), ("faults", [])):
        refused = client.post(f"/_local/{path}", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
def test_a_web_page_neither_reads_the_requests_nor_sets_a_fault(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/_local/requests", headers=headers).status_code == 403
    assert client.post("/_local/faults", json={"status": 503}, headers=headers).status_code == 403
    assert client.get("/_local/faults").json() == []
    simple = {"content": b'{"status": 503}', "headers": {"content-type": "text/plain"}}
    assert client.post("/_local/faults", **simple).status_code == 400
    assert client.get("/_local/faults").json() == []


def test_the_recorded_requests_are_shown_without_their_tokens(gateway: LocalGateway, client: Client) -> None:
    token = "sk-bf-of-somebody-else"
    client.get(f"/openai/v1/batches?after={token}", headers={"authorization": f"Bearer {token}"})
    assert token not in client.get("/_local/requests").text
    assert gateway.requests[-1].headers["authorization"] == f"Bearer {token}"  # for a test's own asserts


@pytest.mark.parametrize("path", ["/_local/faults", "/_local/batches", "/openai/v1/batches", "/v1/batches"])
def test_json_that_is_nested_too_deeply_is_answered_like_any_other_invalid_json(client: Client, path: str) -> None:
    headers = {"content-type": "application/json"}
    invalid = client.post(path, content=b'{"a":', headers=headers)
    for deep in (b"[" * 100_000, b'{"a":' * 100_000):
        answer = client.post(path, content=deep, headers=headers)
        assert answer.status_code == invalid.status_code
        assert answer.json().keys() == invalid.json().keys()
    if path.startswith("/_local"):
        assert invalid.status_code == 400


def test_an_input_line_that_is_nested_too_deeply_fails_its_batch_only(client: Client) -> None:
    file_id = client.upload(b"[" * 100_000 + b"\n").json()["id"]
    created = client.post("/openai/v1/batches", json={"input_file_id": file_id, "endpoint": "/v1/chat/completions"})
    assert client.batch(created.json()["id"])["status"] == "failed"


def run_pytest(folder: Path, test: str) -> str:
    """What pytest says of a file of tests, with nothing but the package's plugin."""
    (folder / "test_user.py").write_text(test)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugin = ("-p", "airflow_bifrost.testing.pytest_plugin")
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", *plugin, "."]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def test_the_fixture_fails_a_test_that_injects_what_is_no_fault(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        "import httpx\n"
        "from airflow_bifrost.testing import Fault, ProviderAnswer\n"
        "def test_it(bifrost_gateway):\n"
        "    bifrost_gateway.inject(Fault(provider_answer=ProviderAnswer(body={'id': 'b', 'status': 'expired'})))\n"
        "    assert httpx.get(f'{bifrost_gateway.url}/openai/v1/batches/b')\n",
    )
    assert "1 passed, 1 error" in said, said
    assert (
        "bifrost_gateway was given answers that are not faults:\nGET /openai/v1/batches/b: this ProviderAnswer" in said
    )


def test_the_fixtures_connection_sends_the_token_of_the_marker(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        "import json, os, pytest\n"
        "@pytest.mark.bifrost_gateway(token='sk-bf-mine')\n"
        "def test_it(bifrost_gateway):\n"
        "    assert json.loads(os.environ['AIRFLOW_CONN_BIFROST_DEFAULT'])['password'] == 'sk-bf-mine'\n"
        "def test_none(bifrost_gateway):\n"
        "    assert 'password' not in json.loads(os.environ['AIRFLOW_CONN_BIFROST_DEFAULT'])\n",
    )
    assert "2 passed" in said, said


def test_the_fixture_gives_a_gateway_behind_the_default_connection(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        "import json, os, pytest, httpx\n"
        "@pytest.mark.bifrost_gateway(batch_seconds=5)\n"
        "def test_it(bifrost_gateway):\n"
        "    connection = json.loads(os.environ['AIRFLOW_CONN_BIFROST_DEFAULT'])\n"
        "    assert httpx.get(f\"http://{connection['host']}:{connection['port']}/health\").status_code == 200\n"
        "    assert bifrost_gateway.batch_seconds == 5\n"
        "def test_the_connection_is_gone():\n"
        "    assert 'AIRFLOW_CONN_BIFROST_DEFAULT' not in os.environ\n",
    )
    assert "2 passed" in said, said
