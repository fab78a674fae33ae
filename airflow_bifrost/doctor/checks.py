"""What the evidence says, check by check. Pure.

A check that rests on another is skipped where that one found a problem, so that one mistake is told once.
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
from airflow_bifrost.hooks.check import Refusal, what_is_refused

_SEE_PROVIDER = "see the check 'provider'"
_SEE_TO_ITS_STORES = (
    "Look at the gateway's log, and see to the database that it misses: its config, log or vector store."
    " Until it is well, any call may fail."
)


@dataclass(frozen=True, slots=True)
class Check:
    """:param needs: the check that must have found no problem."""

    look: Callable[[str, Evidence], Finding]
    needs: str | None = None


def next_poll_at(evidence: Evidence) -> list[Finding]:
    """Every check's finding, in their order."""
    found: dict[str, Finding] = {}
    for name, check in checks_for(evidence.provider).items():
        base = found[check.needs] if check.needs else None
        found[name] = check.look(name, evidence) if base is None or base.holds else _skipped(name, base)
    return list(found.values())


def holds(name: str, evidence: Evidence) -> bool:
    """Whether a check, and what it needs, finds no problem."""
    return next(finding.holds for finding in next_poll_at(evidence) if finding.name == name)


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


def are_looked_at(name: str, findings: Iterable[Finding]) -> bool:
    """Whether a check was not skipped."""
    return any(finding.name == name and finding.state is not State.SKIPPED for finding in findings)


def cannot_be_read(error: BifrostConfigurationError) -> list[Finding]:
    """The findings where there is no connection to ask with."""
    first, *rest = (name for name in checks_for("") if "." not in name)
    base = problem(first, what_happened(error), error.advice)
    return [base, *(_skipped(name, base) for name in rest)]


def forms_in(evidence: Evidence) -> list[Form]:
    """The answers with something in them that is not known."""
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
    return Finding(name, State.SKIPPED, f"Not looked at: first see to '{base.name}'.")


def _connection(name: str, evidence: Evidence) -> Finding:
    config = evidence.config
    said = f"{config.name!r} leads to {config.base_url}, provider {evidence.provider!r}."
    advice = []
    if evidence.conn_type != BIFROST:
        said += f" Its type is {quote(evidence.conn_type, 40)!r}, not {BIFROST!r}."
        advice.append(f"Set its type to {BIFROST!r}: to that belong the form and the test button.")
    if evidence.ignored_port is not None:
        said += f" Its port {evidence.ignored_port} is not used: the URL in its host wins."
        advice.append("Give the port once, in the URL, and leave the field empty.")
    return note(name, said, " ".join(advice)) if advice else ok(name, said)


def _reachable(name: str, evidence: Evidence) -> Finding:
    config = evidence.config
    if not evidence.answers:
        said, advice = _with_the_error(f"{config.base_url} does not answer.", evidence.own)
        return problem(name, said, advice or "Check the connection's host, schema and port.")
    if not config.base_url.startswith("https:"):
        return ok(name, "It answers, on plain http.", tls=False)
    if config.verify is False:
        return note(name, "It answers, over TLS; its certificate is not checked, as `verify` is false.", tls=True)
    return ok(name, "It answers, over TLS.", tls=True)


def _gateway(name: str, evidence: Evidence) -> Finding:
    bears_its_marks = any(GatewayErrorBody.parse(raw.body).from_gateway for _, raw in evidence.answers)
    if not bears_its_marks and not (isinstance(evidence.health, Health) and evidence.health.components is not None):
        seen = sorted({f"{raw.status_code} {raw.content_type}".strip() for _, raw in evidence.answers})
        return problem(
            name,
            f"What answers is not a Bifrost gateway, or hides it: {quote(', '.join(seen))}.",
            "Check host, schema and port. A 5xx may be a proxy's, whose gateway is down.",
        )
    version = evidence.version and quote(evidence.version, 40)
    said = f"Bifrost {version}" if version else "Bifrost; it does not say its version"
    return ok(name, f"{said}.", version=version)


def _health(name: str, evidence: Evidence) -> Finding:
    """A gateway that is not well answers 503 (``handlers/health.go``). A deployment that hides the route answers in its place."""
    health, raw = evidence.health, evidence.answer_about_health()
    if isinstance(health, Health):
        status = quote(health.status, 40)
        if health.status.lower() == "ok":
            return ok(name, "The gateway says that it is well.", status=status)
        components = quote(", ".join(f"{part}: {state}" for part, state in (health.components or {}).items()))
        said = f"The gateway says that it is not well: {status!r}{f' ({components})' if components else ''}."
        return problem(name, said, _SEE_TO_ITS_STORES, status=status)
    if raw is None:
        return note(name, *_with_the_error("Cannot be told: there was no answer.", health), status=None)
    if raw.status_code == 503 and raw.content_type != "text/html":
        said, _ = _with_the_error("The gateway says that it is not well.", health)
        return problem(name, said, _SEE_TO_ITS_STORES, status=None)
    seen = quote(f"{raw.status_code} {raw.content_type}".strip())
    return note(name, f"Cannot be told: the gateway's health is not shown here ({seen}).", status=None)


def _path_prefix(name: str, evidence: Evidence) -> Finding:
    prefix = evidence.config.path_prefix
    raw = evidence.first_answer_of_the_batch_api()
    if isinstance(evidence.own, Page) or (raw and GatewayErrorBody.parse(raw.body).from_gateway):
        if prefix.endswith(DEFAULT_PATH_PREFIX):  # also where a proxy has it below a path of its own
            return ok(name, f"The batch API is below {prefix!r}.")
        what = (
            "the gateway has its native routes" if not prefix else f"there are other routes than {DEFAULT_PATH_PREFIX}"
        )
        said = f"Below {prefix or '/'!r} {what}: reading batches works, files and submitting may not."
        return note(name, said, f"Use {DEFAULT_PATH_PREFIX} as `path_prefix`.")
    if raw is None or raw.status_code >= 500 or isinstance(evidence.own, BifrostAuthError):
        return note(name, *_with_the_error("Cannot be told: the batch API did not answer itself.", evidence.own))
    return problem(
        name,
        f"There is a gateway, but no batch API below {prefix or '/'!r}.",
        "Correct `path_prefix` in the connection; the gateway's own is /openai.",
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
        return note(name, f"The gateway lets the call in; it is the provider that refuses: {_SEE_PROVIDER}.")
    if isinstance(own, BifrostBudgetExceeded | BifrostRateLimited) and own.fault:
        return note(name, f"The gateway knows the token, but it has used up what it may: {_SEE_PROVIDER}.")
    if not any(isinstance(listed, Page) for listed in evidence.lists.values()):
        return note(name, f"Cannot be told, as no provider answers: {_SEE_PROVIDER}.")
    if not has_token:
        return note(name, "The connection has no token, and the gateway serves without one.")
    if isinstance(evidence.without_token, BifrostAuthError):
        return ok(name, "Accepted; without one, the gateway refuses.", enforced=True)
    if isinstance(evidence.without_token, Page):
        return note(name, "Accepted; but the gateway serves without one too.", enforced=False)
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
    """Whether it answers, what is wrong if not, and what to do about it."""
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
    """What is found with what happened behind it, and what to do about that; there may be no error."""
    if not isinstance(error, BifrostError):
        return said, None
    return f"{said} {what_happened(error)}", error.advice


def _listing(name: str, evidence: Evidence) -> Finding:
    first, second = evidence.own, evidence.next_page
    assert isinstance(first, Page)
    if not first.has_more:
        return ok(name, "One page; there is no second to try.", pages=1)
    if not first.next_cursor:
        return problem(name, "The first page says that there are more, and not how to get them.", pages=1)
    if not isinstance(second, Page):
        return problem(name, *_with_the_error("The first page comes, the second does not.", second), pages=1)
    if first.data and second.data and second.data[0].id == first.data[0].id:
        known = not providers.get(evidence.provider).lists_all_pages
        return (note if known else problem)(
            name,
            "The first page comes again and again"
            + (", as is known of this provider: older batches cannot be listed." if known else "."),
            pages=1,
        )
    return ok(name, "Two pages, the second by the first one's cursor.", pages=2)


def _forms(name: str, evidence: Evidence) -> Finding:
    forms = forms_in(evidence)
    if not forms:
        return ok(name, "Every answer has a form that is known.", answers=len(evidence.answers))
    unknown = sorted({where for form in forms for where in form.unknown})
    state = State.NOTE if all(form.harmless for form in forms) else State.PROBLEM
    return Finding(
        name,
        state,
        f"Not known: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}.",
        "Report it with the forms alone: in them ids are masked. The findings quote the gateway's messages, ids and all.",
        {"unknown": unknown},
    )
