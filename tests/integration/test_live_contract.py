"""`make test-live`: the contract test for a gateway of one's own, on the local one."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer

import pytest

from airflow_bifrost import providers
from airflow_bifrost.testing import Fault, LocalGateway, ProviderAnswer, ProviderBehavior

ROOT = Path(__file__).parents[2]
LIVE = "tests/conformance/live"
COMMAND = [sys.executable, "-P", "-m", "pytest", LIVE, "-p", "no:cacheprovider"]
PATIENCE = 240  # seconds, for a process that takes six on an idle machine
VARIABLES = ("GATEWAY", "TOKEN", "PROVIDER", "PREFIX", "MODEL", "OUTPUT", "ROLE")
STORES = {
    "bedrock": {"OUTPUT": "s3://example-bucket/out", "ROLE": "arn:aws:iam::123456789012:role/batch"},
    "vertex": {"OUTPUT": "gs://example-bucket/out"},
}


# The exit code, how many tests ended how, and the output.
Ended = tuple[int, dict[str, int], str]
ContractTest = Callable[..., Ended]


@pytest.fixture
def contract_test(monkeypatch: pytest.MonkeyPatch) -> ContractTest:
    """Runs it with ``(gateway, *arguments, **variables)``, in this process: a new one would load Airflow again.

    The settings of tests/conftest.py hold here already.
    """

    def run(gateway: LocalGateway, *arguments: str, **variables: str) -> Ended:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in {"GATEWAY": gateway.url, "TOKEN": "sk-bf-good", **variables}.items():
            monkeypatch.setenv(name, value)
        options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--capture=sys", "--rootdir", str(ROOT)]
        with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
            code = pytest.main([str(ROOT / LIVE), "--confcutdir", str(ROOT / LIVE), *options, *arguments])
        return ended(code, stdout.getvalue(), stderr.getvalue())

    return run


def ended(code: int, stdout: str, stderr: str) -> Ended:
    found = re.findall(r"(\d+) (passed|failed|skipped|deselected)", stdout)
    return int(code), {kind: int(number) for number, kind in found}, stdout + stderr


def environment_of(gateway: LocalGateway) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**inherited, "GATEWAY": gateway.url, "TOKEN": "sk-bf-good"}


@pytest.fixture(scope="module")
def own_gateway():
    with LocalGateway(batch_seconds=1, virtual_keys=["sk-bf-good"], enforce_auth=True) as running:
        yield running


def test_it_only_reads_unless_it_is_told_to_spend(own_gateway):
    """As `make test-live` runs it: in a process of its own."""
    own_gateway.reset()
    own_gateway.add_batch(status="completed", rows=3)
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment_of(own_gateway),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    code, counts, output = ended(done.returncode, done.stdout, done.stderr)
    assert (code, counts.get("failed", 0), counts.get("skipped", 0)) == (0, 0, 0), output
    assert counts["deselected"] == 2
    assert {request.method for request in own_gateway.requests} == {"GET"}


@pytest.fixture
def gateway_of() -> Iterator[Callable[[str], LocalGateway]]:
    """Starts a gateway of a version, whose batches end soon. Files of Azure are ready at once."""
    with ExitStack() as stack:
        ready = {"azure": ProviderBehavior()}

        def start(version: str) -> LocalGateway:
            options = {"virtual_keys": ["sk-bf-good"], "enforce_auth": True, "behavior": ready}
            return stack.enter_context(LocalGateway(batch_seconds=0.5, version=version, **options))

        yield start


EACH = [(version, name) for version in ("1.4", "1.5", "2") for name in providers.ALL]


# Without Vertex on 1.4, which has no batches there; see below
@pytest.mark.parametrize(("version", "provider"), [each for each in EACH if each != ("1.4", "vertex")])
def test_it_sees_a_batch_through_its_life_if_it_may_spend(contract_test, gateway_of, version, provider):
    gateway = gateway_of(version)
    gateway.add_batch(provider, status="ended" if provider == "anthropic" else "completed", rows=3)
    more = STORES.get(provider, {})
    code, counts, output = contract_test(gateway, "--spend", "--wait=6", "-rs", PROVIDER=provider, PREFIX="", **more)
    assert (code, counts.get("failed", 0)) == (0, 0), output
    assert sorted(batch["status"] for batch in gateway.batches)[-1] in ("completed", "ended")
    assert len(gateway.batches) == 3
    skipped = re.findall(r"^SKIPPED .*?: (.*)", output, re.MULTILINE)
    assert all(re.search("cursor|a list needs a bucket|ended before", reason) for reason in skipped), skipped


def test_an_invented_row_of_gemini_ends_in_a_sentence_that_says_where_the_rows_are(contract_test, gateway_of):
    gateway = gateway_of("1.5")
    gateway.behave("gemini", ProviderBehavior(placeholder_results=True))
    code, _, output = contract_test(gateway, "--spend", "--wait=6", "-rs", "-k", "each_row", PROVIDER="gemini")
    assert code == 0, output
    assert "it returned one invented row" in output
    assert "response.responsesFile at Google" in output


@pytest.mark.parametrize("provider", ["bedrock", "vertex"])
def test_a_provider_with_an_object_store_submits_nothing_without_a_place_in_it(contract_test, gateway_of, provider):
    gateway = gateway_of("1.5")
    code, counts, output = contract_test(gateway, "--spend", "-rs", "-k", "submitted or each_row", PROVIDER=provider)
    assert (code, counts["skipped"], gateway.batches) == (0, 2, []), output
    assert "OUTPUT=" in output


@pytest.mark.parametrize("version", ["1.4", "2"])
def test_a_gateway_without_a_prefix_says_what_it_cannot_do(contract_test, gateway_of, version):
    gateway = gateway_of(version)
    code, counts, output = contract_test(gateway, "--spend", "-rs", PREFIX="/")
    assert (code, counts.get("failed", 0), gateway.batches) == (0, 0, []), output
    assert "the clients cannot submit: leave out PREFIX" in output
    assert ("lists files only by a header" in output) == (version == "1.4")


def test_a_gateway_that_is_too_old_for_vertex_says_so(refusal, gateway_of):
    assert "Gateways up to 1.4 have no batches on Vertex" in refusal(gateway_of("1.4"), PROVIDER="vertex")


def test_it_fails_where_a_gateway_says_something_else(contract_test, own_gateway):
    own_gateway.reset()
    unknown = ProviderAnswer(status=418, body={"error": {"message": "I am a teapot"}})
    own_gateway.inject(Fault(provider_answer=unknown, times=None, path_contains="/batches/"))
    code, counts, output = contract_test(own_gateway)
    assert (code, counts["failed"]) == (1, 1), output
    assert "test_a_batch_that_does_not_exist_is_not_found" in output
    assert "sk-bf-good" not in output


class Imitation(BaseHTTPRequestHandler):
    """A provider's lists, empty, whatever the provider and the token."""

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": []}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def web_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server that is no gateway."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def refusal(contract_test: ContractTest) -> Callable[..., str]:
    """Runs it in a way that ends it before its first check, and returns the one line that it prints."""

    def run(gateway: LocalGateway, *arguments: str, **variables: str) -> str:
        code, counts, output = contract_test(gateway, *arguments, **variables)
        assert (code, counts.keys() - {"deselected"}) == (1, set()), output
        assert "Traceback" not in output
        said = re.findall(r"Exit: (.*?)[ !]*$", output, re.MULTILINE)
        assert len(said) == 1, output
        return said[0]

    return run


def test_it_says_what_it_needs_where_no_gateway_is_named(refusal, own_gateway):
    assert "make test-live GATEWAY=" in refusal(own_gateway, GATEWAY="")


def test_it_ends_soon_where_nobody_listens(refusal, own_gateway):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        said = refusal(own_gateway, GATEWAY=url)
    assert said.startswith(f"{url} cannot be checked: no answer")
    assert "Check GATEWAY" in said


def test_it_ends_soon_where_no_gateway_is(refusal, own_gateway, tmp_path):
    with web_server(partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as url:
        said = refusal(own_gateway, GATEWAY=url)
    assert said.startswith(f"{url} cannot be checked: the gateway answered 404")
    assert said.endswith("Check GATEWAY and PREFIX.")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GATEWAY": "127.0.0.1:8080"}, "GATEWAY: it must begin with http:// or https://"),
        ({"PREFIX": "foo"}, "not 'foo'"),
        ({"PREFIX": "/foo"}, "Check GATEWAY, and PREFIX, which is set to '/foo'."),
        ({"TOKEN": ""}, "Give it a virtual key: TOKEN=sk-bf-..."),
        ({"TOKEN": "sk-bf-other"}, "A token was sent: check TOKEN"),
        ({"PROVIDER": "antropic"}, "Check PROVIDER: 'antropic' must be a provider of the gateway"),
    ],
    ids=["no_scheme", "no_prefix", "wrong_prefix", "no_token", "wrong_token", "wrong_provider"],
)
def test_it_ends_at_the_first_request_and_says_which_variable_is_wrong(refusal, own_gateway, environment, expected):
    own_gateway.reset()
    said = refusal(own_gateway, "--spend", **environment)
    assert expected in said
    assert "sk-bf-other" not in said
    assert len(own_gateway.requests) <= 1


def test_it_says_first_what_it_checks(contract_test, own_gateway):
    own_gateway.reset()
    code, counts, output = contract_test(own_gateway, "-k", "health", PREFIX="/", PROVIDER="Anthropic", MODEL="m")
    assert (code, counts["passed"]) == (0, 1), output
    assert f"checking {own_gateway.url}, prefix /, provider anthropic, model m\n" in output
    assert "sk-bf-good" not in output


def test_it_checks_a_server_that_only_lists_batches_and_claims_nothing_of_an_unknown_provider(
    contract_test, own_gateway
):
    with web_server(Imitation) as url:
        code, counts, output = contract_test(
            own_gateway, "--spend", "-k", "page_has or cursor or each_row", GATEWAY=url, PREFIX="/", PROVIDER="mine"
        )
    assert (code, counts["passed"], counts["skipped"]) == (0, 1, 2), output
    assert "what the gateway does with a cursor for mine is unknown" in output
    assert "which rows mine takes is unknown" in output


@pytest.mark.parametrize(
    ("options", "ended"),
    [
        ({}, "skipped"),
        ({"virtual_keys": ["sk-bf-good"]}, "passed"),  # who sends no token is served, who sends a wrong one is not
        ({"enforce_auth": True}, "failed"),  # the other way round
    ],
    ids=["no_token_needed", "wrong_token_refused", "any_token_accepted"],
)
def test_it_wants_a_wrong_token_refused_where_tokens_are_checked(contract_test, options, ended):
    with LocalGateway(**options) as gateway:
        _, counts, output = contract_test(gateway, "-k", "virtual_key")
    assert (counts.pop(ended), counts.keys()) == (1, {"deselected"}), output
    assert ("this gateway does not check tokens" in output) == (ended == "skipped")


def test_it_spends_nothing_after_a_check_that_failed(contract_test, own_gateway):
    own_gateway.reset()
    own_gateway.inject(Fault(status=404, times=None, path_contains="/health"))
    code, counts, output = contract_test(own_gateway, "--spend", "-k", "health or cancelled or each_row")
    assert (code, counts["failed"], counts["skipped"]) == (1, 1, 2), output
    assert "a check has failed: nothing is submitted" in output
    assert own_gateway.batches == []
    assert {request.method for request in own_gateway.requests} == {"GET"}


def test_it_prints_a_submitted_batch_before_it_waits():
    with LocalGateway(batch_seconds=600) as gateway:
        run = subprocess.Popen(
            [*COMMAND, "--spend", "-k", "each_row"],
            cwd=ROOT,
            env=environment_of(gateway),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it in the background
        )
        watch = Timer(60, run.kill)
        watch.start()
        try:
            assert run.stdout is not None
            told = next((line for line in run.stdout if line.startswith("submitted ")), None)
            assert run.poll() is None
            run.send_signal(signal.SIGINT)
            rest = run.stdout.read()
            assert run.wait() == pytest.ExitCode.INTERRUPTED, rest
        finally:
            watch.cancel()
            run.kill()
            run.wait()
        assert [f"submitted {batch['id']}\n" for batch in gateway.batches] == [told]
