"""What the evidence means, check by check. Pure.

A check that depends on another is skipped if that one found a problem, so that one mistake is reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.doctor.evidence import BIFROST, PROVIDERS, Evidence, Listed
from airflow_bifrost.doctor.findings import Finding, State, note, ok, problem, sentence, what_happened
from airflow_bifrost.doctor.forms import Form, unknown_forms
from airflow_bifrost.doctor.timing import clock, latency
from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostConfigurationError,
    BifrostError,
    BifrostRateLimited,
)
from airflow_bifrost.gateway.config import DEFAULT_PATH_PREFIX, GatewayConfig
from airflow_bifrost.gateway.models import GatewayErrorBody, Health, Page
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.gateway.versions import READ, RECORDED, V1_4, Knowledge, knowledge_of
from airflow_bifrost.hooks.check import Refusal, what_is_refused

_SEE_PROVIDER = "see the check 'provider'"
_RESTORE_ITS_STORES = (
    "Read the gateway's log, and restore the database that it cannot reach: its config, log or vector store."
    " Until then, any call may fail."
)
_KNOWN = {
    Knowledge.RECORDED: f"recorded: the tests of this package replay answers of {' and '.join(RECORDED.values())}",
    Knowledge.READ: f"read: this package knows it from the source of {READ}, not from recorded answers",
    Knowledge.NEWER: f"newer than known: the newest version that this package knows is {READ}",
    Knowledge.OLDER: f"older than known: the oldest version that this package knows is {RECORDED[V1_4]}",
    Knowledge.UNKNOWN: "unknown: this is not a release number; a gateway built from source has none",
}
_IF_SOMETHING_IS_READ_WRONGLY = (
    "Most answers are the same in all versions. If this package misreads an answer, report it with this version."
)


@dataclass(frozen=True, slots=True)
class Check:
    """:param needs: another check, which must have found no problem."""

    run: Callable[[str, Evidence], Finding]
    needs: str | None = None


def run_checks(evidence: Evidence) -> list[Finding]:
    """The findings of all checks, in order."""
    found: dict[str, Finding] = {}
    for name, check in checks_for(evidence.provider).items():
        base = found[check.needs] if check.needs else None
        found[name] = check.run(name, evidence) if base is None or base.holds else _skipped(name, base)
    return list(found.values())


def holds(name: str, evidence: Evidence) -> bool:
    """Whether neither a check nor any check that it needs finds a problem."""
    return next(finding.holds for finding in run_checks(evidence) if finding.name == name)


def checks_for(provider: str) -> dict[str, Check]:
    """All checks, by their names.

    :param provider: the connection's own provider.
    """
    others = [name for name in PROVIDERS if name != provider]
    return {
        "connection": Check(_connection),
        "reachable": Check(_reachable, "connection"),
        "gateway": Check(_gateway, "reachable"),
        "health": Check(_health, "gateway"),
        "path_prefix": Check(_path_prefix, "gateway"),
        "token": Check(_token, "path_prefix"),
        "provider": Check(_provider, "token"),
        **{f"provider.{other}": Check(_other_provider, "token") for other in others},
        "listing": Check(_listing, "provider"),
        "latency": Check(latency, "provider"),
        "clock": Check(clock, "gateway"),
        "forms": Check(_forms, "path_prefix"),
    }


def was_run(name: str, findings: Iterable[Finding]) -> bool:
    """Whether a check was not skipped."""
    return any(finding.name == name and finding.state is not State.SKIPPED for finding in findings)


def findings_without_connection(error: BifrostConfigurationError) -> list[Finding]:
    """The findings if there is no connection to use."""
    first, *rest = (name for name in checks_for("") if "." not in name)
    base = problem(first, what_happened(error), error.advice)
    return [base, *(_skipped(name, base) for name in rest)]


def forms_in(evidence: Evidence) -> list[Form]:
    """The answers that contain something unknown."""
    config = evidence.config
    return unknown_forms(evidence.answers, path_prefix=config.path_prefix, token=config.token)


def describe(config: GatewayConfig) -> dict[str, Any]:
    """The connection, for the report."""
    return {
        "id": config.name,
        "url": config.base_url,
        "provider": config.provider_for(None),
        "path_prefix": config.path_prefix,
    }


def _skipped(name: str, base: Finding) -> Finding:
    if base.state is State.SKIPPED:
        return replace(base, name=name)
    return Finding(name, State.SKIPPED, f"Skipped: first fix '{base.name}'.")


def _connection(name: str, evidence: Evidence) -> Finding:
    config = evidence.config
    said = f"{config.name!r} points to {config.base_url}, provider {evidence.provider!r}."
    advice = []
    if evidence.conn_type != BIFROST:
        said += f" Its type is {quote(evidence.conn_type, 40)!r}, not {BIFROST!r}."
        advice.append(f"Set its type to {BIFROST!r}, which has the form and the test button.")
    if evidence.ignored_port is not None:
        said += f" Its port {evidence.ignored_port} is not used, because its host is a URL."
        advice.append("Enter the port once, in the URL, and leave the field empty.")
    return note(name, said, " ".join(advice)) if advice else ok(name, said)


def _reachable(name: str, evidence: Evidence) -> Finding:
    config = evidence.config
    if not evidence.answers:
        said, advice = _with_the_error(f"{config.base_url} does not answer.", evidence.own)
        return problem(name, said, advice or "Check the connection's host, schema and port.")
    if not config.base_url.startswith("https:"):
        return ok(name, "It answers, on plain http.", tls=False)
    if config.verify is False:
        return note(name, "It answers, over TLS. Its certificate is not checked, because `verify` is false.", tls=True)
    return ok(name, "It answers, over TLS.", tls=True)


def _gateway(name: str, evidence: Evidence) -> Finding:
    has_its_marks = any(GatewayErrorBody.parse(raw.body).from_gateway for _, raw in evidence.answers)
    if not has_its_marks and not (isinstance(evidence.health, Health) and evidence.health.components is not None):
        seen = sorted({f"{raw.status_code} {raw.content_type}".strip() for _, raw in evidence.answers})
        return problem(
            name,
            f"The answers are not those of a Bifrost gateway: {quote(', '.join(seen))}.",
            "Check host, schema and port. A 5xx may come from a proxy whose gateway is down.",
        )
    if not evidence.version:
        return ok(name, "Bifrost; it does not report its version.", version=None, known=None)
    version, known = quote(evidence.version, 40), knowledge_of(evidence.version)
    values = {"version": version, "known": str(known)}
    said = f"Bifrost {version}, {_KNOWN[known]}."
    if known in (Knowledge.RECORDED, Knowledge.READ):
        return ok(name, said, **values)
    return note(name, said, _IF_SOMETHING_IS_READ_WRONGLY, **values)


def _health(name: str, evidence: Evidence) -> Finding:
    """An unhealthy gateway answers 503 (``handlers/health.go``). If a deployment hides the route, something else answers."""
    health, raw = evidence.health, evidence.answer_about_health()
    if isinstance(health, Health):
        status = quote(health.status, 40)
        if health.status.lower() == "ok":
            return ok(name, "The gateway reports that it is healthy.", status=status)
        components = quote(", ".join(f"{part}: {state}" for part, state in (health.components or {}).items()))
        said = f"The gateway reports that it is unhealthy: {status!r}{f' ({components})' if components else ''}."
        return problem(name, said, _RESTORE_ITS_STORES, status=status)
    if raw is None:
        return note(name, *_with_the_error("Unknown: there was no answer.", health), status=None)
    if raw.status_code == 503 and raw.content_type != "text/html":
        said, _ = _with_the_error("The gateway reports that it is unhealthy.", health)
        return problem(name, said, _RESTORE_ITS_STORES, status=None)
    seen = quote(f"{raw.status_code} {raw.content_type}".strip())
    return note(name, f"Unknown: this deployment does not show the gateway's health ({seen}).", status=None)


def _path_prefix(name: str, evidence: Evidence) -> Finding:
    prefix = evidence.config.path_prefix
    raw = evidence.first_answer_of_the_batch_api()
    if isinstance(evidence.own, Page) or (raw and GatewayErrorBody.parse(raw.body).from_gateway):
        if prefix.endswith(DEFAULT_PATH_PREFIX):  # also if a proxy adds a path before it
            return ok(name, f"The batch API is below {prefix!r}.")
        what = (
            "the gateway has its native routes"
            if not prefix
            else f"there are routes other than those of {DEFAULT_PATH_PREFIX}"
        )
        said = f"Below {prefix or '/'!r}, {what}. Reading batches works; files and submitting may not."
        return note(name, said, f"Use {DEFAULT_PATH_PREFIX} as `path_prefix`.")
    if raw is None or raw.status_code >= 500 or isinstance(evidence.own, BifrostAuthError):
        return note(name, *_with_the_error("Unknown: the batch API itself did not answer.", evidence.own))
    return problem(
        name,
        f"There is a gateway, but no batch API below {prefix or '/'!r}.",
        "Fix `path_prefix` in the connection. The gateway's default is /openai.",
    )


def _token(name: str, evidence: Evidence) -> Finding:
    own, raw, has_token = evidence.own, evidence.first_answer_of_the_batch_api(), evidence.config.token is not None
    refused = what_is_refused(own, raw) if isinstance(own, BifrostAuthError) and raw else None
    if refused is Refusal.TOKEN:
        said = f"The gateway refuses {'the token' if has_token else 'to serve without a token'}."
        return problem(name, *_with_the_error(said, own))
    if refused is Refusal.PROVIDER_FOR_TOKEN:
        return note(name, f"The gateway knows the token, but does not let it use this provider: {_SEE_PROVIDER}.")
    if refused is Refusal.KEY_OF_THE_GATEWAY:
        return note(name, f"The gateway accepts the call, but the provider refuses it: {_SEE_PROVIDER}.")
    if isinstance(own, BifrostBudgetExceeded | BifrostRateLimited) and own.fault:
        return note(name, f"The gateway knows the token, but its limit or budget is used up: {_SEE_PROVIDER}.")
    if not any(isinstance(listed, Page) for listed in evidence.lists.values()):
        return note(name, f"Unknown, because no provider answers: {_SEE_PROVIDER}.")
    if not has_token:
        return note(name, "The connection has no token, and the gateway does not require one.")
    if isinstance(evidence.without_token, BifrostAuthError):
        return ok(name, "Accepted. Without a token, the gateway refuses.", enforced=True)
    if isinstance(evidence.without_token, Page):
        return note(name, "Accepted, but the gateway does not require one.", enforced=False)
    return ok(name, "Accepted.")


def _provider(name: str, evidence: Evidence) -> Finding:
    provider = evidence.provider
    answers, what, advice = _of_provider(evidence.own)
    if answers:
        return ok(name, f"{provider!r} answers for batches.", provider=provider)
    return problem(name, f"{provider!r}: {what}", advice, provider=provider)


def _other_provider(name: str, evidence: Evidence) -> Finding:
    answers, what, _ = _of_provider(evidence.lists.get(name.removeprefix("provider.")))
    return ok(name, "Answers for batches.") if answers else note(name, what)


def _of_provider(listed: Listed | None) -> tuple[bool, str, str | None]:
    """Whether the provider answers; if not, what is wrong and what to do."""
    if isinstance(listed, Page):
        return True, "", None
    if listed is None or listed.status_code is None:
        return False, *_with_the_error("No answer.", listed)
    if fault := listed.fault:
        return False, sentence(fault), listed.advice
    if isinstance(listed, BifrostAuthError):
        what = f"The provider refuses the gateway's key ({listed.status_code})."
        return False, what, "Check the provider's key in the gateway."
    return False, what_happened(listed), listed.advice


def _with_the_error(said: str, error: object) -> tuple[str, str | None]:
    """A finding together with its cause, and the advice for that. There may be no error."""
    if not isinstance(error, BifrostError):
        return said, None
    return f"{said} {what_happened(error)}", error.advice


def _listing(name: str, evidence: Evidence) -> Finding:
    first, second = evidence.own, evidence.next_page
    assert isinstance(first, Page)
    if not first.has_more:
        return ok(name, "One page. There is no second page to test.", pages=1)
    if not first.next_cursor:
        return problem(name, "The first page says that there are more batches, but gives no cursor.", pages=1)
    if not isinstance(second, Page):
        return problem(name, *_with_the_error("The first page can be read, the second cannot.", second), pages=1)
    if first.data and second.data and second.data[0].id == first.data[0].id:
        known = not providers.get(evidence.provider).lists_all_pages
        return (note if known else problem)(
            name,
            "The gateway returns the first page again and again"
            + (", as is known for this provider: older batches cannot be listed." if known else "."),
            pages=1,
        )
    return ok(name, "Two pages, the second by the cursor of the first.", pages=2)


def _forms(name: str, evidence: Evidence) -> Finding:
    forms = forms_in(evidence)
    if not forms:
        return ok(name, "Every answer has a known form.", answers=len(evidence.answers))
    unknown = sorted({where for form in forms for where in form.unknown})
    state = State.NOTE if all(form.harmless for form in forms) else State.PROBLEM
    return Finding(
        name,
        state,
        f"Unknown: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}.",
        "Report it with the forms only: they have no IDs. The findings quote the gateway's messages, including IDs.",
        {"unknown": unknown},
    )
