"""What each check says of the evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.doctor.checks import run_checks
from airflow_bifrost.doctor.evidence import PROVIDERS, Evidence, Polls
from airflow_bifrost.doctor.findings import Finding, State
from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.faults import FAULTS
from airflow_bifrost.gateway.models import Batch, Health, Page

NOW = 1_800_000_000.0
CONFIG = GatewayConfig("http://gw", token="sk-bf-0123456789abcdef", name="gw")
REFUSED = BifrostAuthError("no token, no answer", status_code=401, error_type="virtual_key_required")
DOWN = BifrostUnavailable("the gateway answered 503", status_code=503)
JSON = {"content-type": "application/json"}


def page(*ids: str, **fields: Any) -> Page[Batch]:
    return Page[Batch].model_validate({"data": [{"id": id_, "status": "completed"} for id_ in ids], **fields})


def raw(body: Any, status: int = 200, **headers: str) -> RawResponse:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(status, {**JSON, **headers}, content)


def of_list(body: Any, status: int = 200, **headers: str) -> tuple[GatewayRequest, RawResponse]:
    return calls.list_page("openai", limit=1).request, raw(body, status, **headers)


def error_of(body: Any, status: int) -> BifrostGatewayError:
    """What this package makes of an answer to a list of batches."""
    with pytest.raises(BifrostGatewayError) as raised:
        responses.check_status(raw(body, status), RequestContext(calls.list_page("openai").request, "gw", NOW))
    return raised.value


def gateway_said(message: str, status: int = 500, **more: str) -> BifrostGatewayError:
    return error_of({"is_bifrost_error": False, "error": {"message": message, **more}, "extra_fields": {}}, status)


def of_health(**headers: str) -> tuple[GatewayRequest, RawResponse]:
    return calls.health().request, raw({"status": "ok", "components": {}}, **headers)


MARKED = {"object": "list", "data": [], "extra_fields": {}}


def evidence(**given: Any) -> Evidence:
    """A gateway where all is well, but for what is given. ``own`` is the answer of its own provider, ``raw`` the same as it came."""
    own, answer = given.pop("own", page("b2", has_more=True, next_cursor="c")), given.pop("raw", of_list(MARKED))
    well = {
        "config": CONFIG,
        "answers": [of_health(date=formatdate(NOW, usegmt=True)), answer],
        "asked_at": (NOW, NOW + 0.01),
        "health": Health(status="ok", components={"db": "ok"}),
        "version": "v1.4.19",
        "lists": {**dict.fromkeys(PROVIDERS, page("b1")), "openai": own},
        "without_token": REFUSED,
        "next_page": page("b1"),
        "polls": Polls("b2", [0.01] * 20),
    }
    return Evidence(**{**well, **given})


def look(name: str, **given: Any) -> Finding:
    return next(finding for finding in run_checks(evidence(**given)) if finding.name == name)


def states(**given: Any) -> dict[str, str]:
    return {finding.name: finding.state for finding in run_checks(evidence(**given))}


def test_where_all_is_well_every_check_says_so() -> None:
    assert set(states().values()) == {"ok"}
    assert list(states()) == [
        *("connection", "reachable", "gateway", "health", "path_prefix", "token", "provider"),
        *(f"provider.{name}" for name in ("azure", "anthropic", "gemini", "bedrock", "vertex")),
        *("listing", "latency", "clock", "forms"),
    ]


def test_what_rests_on_something_that_fails_is_skipped_and_the_rest_is_not() -> None:
    of_openai = {name: state for name, state in states(own=DOWN).items() if state not in ("ok", "note")}
    assert of_openai == {"provider": "problem", "listing": "skipped", "latency": "skipped"}


def test_a_gateway_that_does_not_answer_leaves_all_the_rest_unknown() -> None:
    found = states(answers=[], own=BifrostUnavailable("no answer"))
    assert found.pop("connection") == "ok"
    assert found.pop("reachable") == "problem"
    assert set(found.values()) == {"skipped"}


def test_what_is_skipped_names_the_problem_that_it_is_for() -> None:
    found = run_checks(evidence(own=REFUSED, raw=of_list({"type": "virtual_key_required", "extra_fields": {}}, 401)))
    skipped = {finding.finding for finding in found if finding.state is State.SKIPPED}
    assert skipped == {"Skipped: first fix 'token'."}


def test_evidence_may_end_anywhere() -> None:
    run_checks(Evidence(CONFIG))
    for name in ("health", "version", "without_token", "next_page", "polls"):
        run_checks(evidence(**{name: None}))
    run_checks(replace(evidence(), lists={}))
    run_checks(replace(evidence(), lists={"openai": page("b1")}))


@pytest.mark.parametrize(
    ("url", "verify", "state", "said"),
    [
        ("http://gw", True, State.OK, "plain http"),
        ("https://gw", True, State.OK, "over TLS"),
        ("https://gw", False, State.NOTE, "certificate is not checked"),
    ],
)
def test_whether_tls_protects_the_token_is_reported(url: str, verify: bool, state: State, said: str) -> None:
    found = look("reachable", config=replace(CONFIG, base_url=url, verify=verify))
    assert (found.state, said in found.finding) == (state, True)


def test_the_version_may_be_missing() -> None:
    assert look("gateway", version=None).state is State.OK
    assert look("gateway", version=None).values == {"version": None, "known": None}


@pytest.mark.parametrize(
    ("version", "known", "said", "state"),
    [
        ("v1.4.19", "recorded", "v1.4.19, recorded: the tests", State.OK),
        ("v1.5.16", "recorded", "v1.5.16, recorded: the tests", State.OK),
        ("v1.6.5", "read", "v1.6.5, read: ", State.OK),
        ("v2.2.6", "read", "v2.2.6, read: ", State.OK),
        ("v2.9.0", "newer", "v2.9.0, newer than known: ", State.NOTE),
        ("v1.3.49", "older", "v1.3.49, older than known: ", State.NOTE),
        ("v1.0.0", "unknown", "v1.0.0, unknown: ", State.NOTE),
    ],
)
def test_the_version_is_reported_with_what_is_known_of_it(version: str, known: str, said: str, state: State) -> None:
    finding = look("gateway", version=version)
    assert (finding.values, finding.state) == ({"version": version, "known": known}, state)
    assert said in finding.finding


def test_answers_without_the_gateways_marks_are_not_a_gateways() -> None:
    strange = [(calls.list_page("openai").request, RawResponse(200, {"content-type": "text/html"}, b"<html>"))]
    found = look("gateway", answers=strange, health=BifrostProtocolError("a web page", status_code=200))
    assert found.state is State.PROBLEM
    assert "200 text/html" in found.finding


def test_a_gateway_that_hides_its_health_is_known_by_its_answers() -> None:
    assert look("gateway", health=BifrostProtocolError("no", status_code=404)).state is State.OK
    assert look("gateway", raw=of_list({"is_bifrost_error": False}, 401), health=DOWN).state is State.OK


def health_that_is(body: Any, status: int, content_type: str = "application/json") -> dict[str, Any]:
    """Evidence of a gateway whose ``/health`` answers so."""
    answer = raw(body, status, **{"content-type": content_type})
    try:
        health: Any = responses.parse(Health, answer, RequestContext(calls.health().request, "gw", NOW))
    except BifrostGatewayError as error:
        health = error
    return {"health": health, "answers": [(calls.health().request, answer), of_list(MARKED)]}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"status": "unhealthy", "components": {"db_pings": "failed"}}, 200, "'unhealthy' (db_pings: failed)"),
        ({"status": "degraded"}, 200, "'degraded'."),
        ({"is_bifrost_error": False, "error": {"message": "config store not available"}}, 503, "config store not"),
        ({"status": "unhealthy", "components": {"db_pings": "failed"}}, 503, "answered 503"),
    ],
)
def test_a_gateway_that_says_that_it_is_not_well_is_a_problem(body: Any, status: int, told: str) -> None:
    found = look("health", **health_that_is(body, status))
    assert found.state is State.PROBLEM
    assert told in found.finding
    assert "gateway's log" in str(found.advice)


def test_an_unhealthy_gateway_is_checked_nevertheless() -> None:
    found = states(**health_that_is({"status": "unhealthy", "components": {}}, 200))
    assert {name for name, state in found.items() if state != "ok"} == {"health", "clock"}  # this answer has no date
    assert found["clock"] == "note"


@pytest.mark.parametrize(
    ("body", "status", "content_type"),
    [
        ({"error": "not found"}, 404, "application/json"),
        ({"error": {"message": "login"}}, 401, "application/json"),
        (b"<html>Forbidden</html>", 403, "text/html"),
        (b"<html>It works!</html>", 200, "text/html"),
        (b"<html>Service Unavailable</html>", 503, "text/html"),
        (b"", 502, ""),
    ],
)
def test_a_health_that_a_deployment_hides_is_no_problem(body: Any, status: int, content_type: str) -> None:
    found = look("health", **health_that_is(body, status, content_type))
    assert (found.state, found.values) == (State.NOTE, {"status": None})
    assert str(status) in found.finding


def test_a_health_that_is_not_answered_is_no_problem() -> None:
    found = look("health", health=BifrostUnavailable("timed out"), answers=[of_list(MARKED)])
    assert (found.state, "Timed out." in found.finding) == (State.NOTE, True)


@pytest.mark.parametrize("components", [{"db_pings": "ok"}, {"db_pings": "disabled"}, {}])
def test_a_gateway_that_says_that_it_is_well_is(components: dict[str, str]) -> None:
    found = look("health", **health_that_is({"status": "ok", "components": components}, 200))
    assert (found.state, found.values) == (State.OK, {"status": "ok"})


@pytest.mark.parametrize("prefix", ["/openai", "/llm/openai"])
def test_the_gateways_own_prefix_is_well(prefix: str) -> None:
    assert look("path_prefix", config=replace(CONFIG, path_prefix=prefix)).state is State.OK


@pytest.mark.parametrize(
    ("prefix", "said"), [("", "Below '/', the gateway has its native routes"), ("/litellm", "'/litellm'")]
)
def test_below_another_prefix_not_all_may_work(prefix: str, said: str) -> None:
    found = look("path_prefix", config=replace(CONFIG, path_prefix=prefix))
    assert (found.state, said in found.finding) == (State.NOTE, True)
    assert "files and submitting may not" in found.finding
    assert "/openai" in str(found.advice)


@pytest.mark.parametrize(
    ("given", "said", "advice"),
    [
        ({"conn_type": "http"}, "Its type is 'http', not 'bifrost'.", "Set its type to 'bifrost'"),
        ({"conn_type": ""}, "Its type is '', not 'bifrost'.", "Set its type to 'bifrost'"),
        ({"ignored_port": 99}, "Its port 99 is not used", "leave the field empty"),
    ],
)
def test_what_is_odd_about_a_connection_that_works_is_noted(given: dict[str, Any], said: str, advice: str) -> None:
    found = look("connection", **given)
    assert (found.state, said in found.finding, advice in str(found.advice)) == (State.NOTE, True, True)


def told(problem: str, advice: str, **more: Any) -> dict[str, Any]:
    """An error with its parts, of a long message."""
    return {
        "message": f"Listing batches failed: {problem} Nothing is billed for this. {advice}",
        "problem": problem,
        "advice": advice,
        **more,
    }


def test_a_finding_has_its_advice_apart() -> None:
    down = BifrostUnavailable(**told("refused", "Check the host.", status_code=503))
    no_answer = BifrostUnavailable(**told("refused", "Check the host."))
    auth = BifrostAuthError(**told("refused", "Check the host.", status_code=401, error_type="virtual_key_required"))
    refused = of_list({"type": "virtual_key_required", "extra_fields": {}}, 401)
    for found in (
        look("reachable", answers=[], own=no_answer),
        look("token", own=auth, raw=refused),
        look("provider", own=down),
        look("provider", own=no_answer),
        look("listing", next_page=down),
        look("latency", polls=Polls("b2", [0.01], [down])),
        look("latency", polls=Polls("b2", [], [down])),
        look("path_prefix", own=down, raw=of_list({"oops": 1}, 503)),
        look("health", health=no_answer, answers=[of_list(MARKED)]),
    ):
        assert found.advice == "Check the host.", found
        assert found.finding.endswith("Refused."), found
        assert "billed" not in found.finding


def test_what_does_not_answer_within_all_the_time_has_advice_too() -> None:
    assert "host, schema and port" in str(look("reachable", answers=[], lists={}).advice)


def test_a_wrong_path_prefix_is_recognized_by_the_web_page_there() -> None:
    web_page = BifrostProtocolError("a web page", status_code=200)
    answer = calls.list_page("openai").request, RawResponse(200, {"content-type": "text/html"}, b"<html>")
    found = look("path_prefix", own=web_page, raw=answer)
    assert found.state is State.PROBLEM
    assert "'/openai'" in found.finding


def test_a_proxys_error_says_nothing_of_the_path_prefix() -> None:
    assert look("path_prefix", own=DOWN, raw=of_list({"oops": 1}, 503)).state is State.NOTE


@pytest.mark.parametrize(
    ("own", "body", "state", "said"),
    [
        (REFUSED, {"type": "virtual_key_required", "extra_fields": {"provider": "openai"}}, "problem", "refuses the token"),
        (BifrostAuthError("login", status_code=401), {"extra_fields": {}}, "problem", "refuses the token"),
        (
            BifrostAuthError("no", status_code=403, error_type="provider_blocked"),
            {"extra_fields": {"provider": "openai"}},
            "note",
            "does not let it use this provider",
        ),
        (
            BifrostAuthError("bad key", status_code=401, error_type="invalid_request_error"),
            {"extra_fields": {"provider": "openai"}},
            "note",
            "but the provider refuses it",
        ),
        (
            BifrostAuthError("Azure's bad key", status_code=401, error_code="401"),
            {"extra_fields": {"provider": "azure"}},
            "note",
            "but the provider refuses it",
        ),
        (
            BifrostBudgetExceeded("spent", status_code=402, fault="the budget is used up"),
            {"extra_fields": {"provider": "openai"}},
            "note",
            "limit or budget is used up",
        ),
    ],
)  # fmt: skip
def test_who_refuses_a_token_is_reported(own: BifrostGatewayError, body: Any, state: str, said: str) -> None:
    found = look("token", own=own, raw=of_list(body, own.status_code or 0))
    assert found.state == state
    assert said in found.finding


def test_a_token_is_certainly_accepted_only_if_the_gateway_requires_one() -> None:
    assert look("token").values == {"enforced": True}
    found = look("token", without_token=page("b1"))
    assert (found.state, found.values) == (State.NOTE, {"enforced": False})


def test_no_token_for_a_gateway_that_requires_none_is_a_note() -> None:
    no_token = replace(CONFIG, token=None)
    assert look("token", config=no_token, without_token=None).state is State.NOTE
    refused = look("token", config=no_token, own=REFUSED, raw=of_list({"extra_fields": {}}, 401))
    assert refused.state is State.PROBLEM
    assert "without a token" in refused.finding


def test_another_providers_answer_shows_that_the_token_is_good() -> None:
    assert look("token", own=DOWN).state is State.OK
    cannot_tell = look("token", lists=dict.fromkeys(PROVIDERS, DOWN))
    assert (cannot_tell.state, "Unknown" in cannot_tell.finding) == (State.NOTE, True)


def test_a_providers_own_limit_says_nothing_about_the_token() -> None:
    assert (
        look("token", own=BifrostRateLimited("slow down", status_code=429, error_code="rate_limit")).state is State.OK
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (gateway_said("failed to get config for provider: not found"), "not configured"),
        (gateway_said("no batch-enabled keys found for provider: azure"), "used for batches"),
        (gateway_said("no", 400, code="unsupported_operation"), "has no such call"),
        (gateway_said("no", 403, type="provider_blocked"), "may not use the provider"),
        (gateway_said("no", 401, code="401"), "The provider refuses the gateway's key (401)"),
        (gateway_said("invalid json: unexpected end"), "An argument is missing or unreadable."),
        (gateway_said(f"{'x' * 400}: queue is full"), "A queue is full."),
        (BifrostUnavailable("timed out"), "No answer. Timed out."),
        (DOWN, "The gateway answered 503."),
    ],
)
def test_why_a_provider_does_not_answer_is_reported(error: BifrostGatewayError, said: str) -> None:
    others = {**evidence().lists, "azure": error}
    assert (look("provider.azure", lists=others).state, look("provider", lists=others).state) == ("note", "ok")
    assert said in look("provider.azure", lists=others).finding
    about = raw({"extra_fields": {"provider": "openai"}}, error.status_code or 500)
    found = look("provider", own=error, raw=(calls.list_page("openai").request, about))
    assert found.state is State.PROBLEM
    assert said in found.finding


def test_advice_about_the_connections_provider_is_given() -> None:
    unknown = gateway_said("failed to get config for provider: not found")
    assert str(look("provider", own=unknown).advice).startswith("Check the spelling of `provider`")


def test_the_words_of_this_package_are_not_taken_for_the_gateways() -> None:
    ours = BifrostUnavailable("Listing failed: queue is full, no batch-enabled keys found.", status_code=500)
    assert look("provider", own=ours).finding == f"'openai': {ours}"


def test_what_to_do_is_the_same_for_all_that_means_the_same() -> None:
    assert len({(fault.what, fault.advice) for fault in FAULTS}) == len({fault.what for fault in FAULTS})


def test_a_cursor_that_leads_to_the_next_page_is_well() -> None:
    assert look("listing").values == {"pages": 2}
    assert look("listing", own=page("b1")).values == {"pages": 1}


@pytest.mark.parametrize(("provider", "state"), [("openai", "problem"), ("azure", "problem"), ("gemini", "note")])
def test_page_one_for_ever_is_a_problem_except_where_it_is_known(provider: str, state: str) -> None:
    own = page("b2", has_more=True, next_cursor="c")
    found = look(
        "listing", config=replace(CONFIG, provider=provider), lists={provider: own}, next_page=page("b2", "b1")
    )
    assert found.state == state


@pytest.mark.parametrize("next_page", [None, DOWN])
def test_a_second_page_that_does_not_come_is_a_problem(next_page: Any) -> None:
    assert look("listing", next_page=next_page).state is State.PROBLEM


def test_more_without_a_cursor_is_a_problem() -> None:
    found = look("listing", own=page("b1", has_more=True), next_page=None)
    assert (found.state, "gives no cursor" in found.finding) == (State.PROBLEM, True)


def test_the_latency_is_the_median_of_the_polls() -> None:
    found = look("latency", polls=Polls("b2", [0.010] * 11 + [1.0] * 9))
    assert found.values == {"median_ms": 10, "min_ms": 10, "max_ms": 1000, "calls": 20, "failed": 0, "of": "batch"}
    assert look("latency", polls=Polls(None, [0.01] * 20)).values["of"] == "list"


def test_slow_polls_are_noted_with_how_many_waits_they_leave_room_for() -> None:
    found = look("latency", polls=Polls("b2", [4.0] * 20))
    assert found.state is State.NOTE
    assert "about 120 batches a minute" in str(found.advice)
    assert look("latency", polls=Polls("b2", [1.6] * 19)).state is State.NOTE


def test_a_poll_that_fails_is_a_problem_and_its_batch_is_not_named() -> None:
    error = BifrostUnavailable("Retrieving batch 'batch_77' failed", status_code=503)
    for polls in (Polls("batch_77", [0.01] * 19, [error]), Polls("batch_77", [], [error] * 20)):
        found = look("latency", polls=polls)
        assert found.state is State.PROBLEM
        assert "batch_77" not in found.finding
    assert look("latency", polls=None).state is State.PROBLEM


@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, "ok"), (5, "ok"), (-30, "ok"), (55, "ok"), (75, "problem"), (-75, "problem"), (86_400, "problem")],
)
def test_clocks_more_than_a_minute_apart_are_a_problem(ahead: int, state: str) -> None:
    found = look("clock", answers=[of_health(date=formatdate(NOW + ahead, usegmt=True)), of_list(MARKED)])
    assert found.state == state
    assert abs(found.values["skew_seconds"] - ahead) <= 1
    if ahead:
        assert ("ahead of" if ahead > 0 else "behind") in found.finding


@pytest.mark.parametrize("told_at", [1, 199, -50, 250])
def test_what_a_slow_answer_may_have_spent_on_its_way_is_no_skew(told_at: int) -> None:
    date = formatdate(NOW + told_at, usegmt=True)
    slow = {"asked_at": (NOW, NOW + 200), "answers": [of_health(date=date), of_list(MARKED)]}
    assert look("clock", **slow).state is State.OK


@pytest.mark.parametrize("headers", [{}, {"date": "soon"}, {"date": ""}])
def test_without_a_date_the_clocks_cannot_be_compared(headers: dict[str, str]) -> None:
    assert look("clock", answers=[of_health(**headers), of_list(MARKED)]).state is State.NOTE


@pytest.mark.parametrize(
    ("batch", "state"), [({"status": "completed", "priority": 1}, "note"), ({"status": "napping"}, "problem")]
)
def test_an_unknown_field_is_a_note_and_an_unknown_status_a_problem(batch: dict[str, Any], state: str) -> None:
    found = look("forms", raw=of_list({**MARKED, "data": [{"id": "b1", **batch}]}))
    assert found.state == state
    assert found.values["unknown"][0] in found.finding


def test_what_may_be_reported_and_what_may_not_is_said_where_a_report_is_asked_for() -> None:
    found = look("forms", raw=of_list({**MARKED, "data": [{"id": "b1", "status": "napping"}]}))
    assert "forms only" in str(found.advice)
    assert "findings quote the gateway's messages" in str(found.advice)


@pytest.mark.parametrize("provider", [name for name, known in providers.ALL.items() if not known.lists_all_pages])
def test_every_provider_of_one_page_is_known_for_it(provider: str) -> None:
    own = page("b2", has_more=True, next_cursor="c")
    found = look("listing", config=replace(CONFIG, provider=provider), lists={provider: own}, next_page=page("b2"))
    assert found.state is State.NOTE
