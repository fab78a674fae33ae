"""The wording of errors in different versions of the gateway, and what it means: one table.

An answer does not tell the gateway's version, so the wording of every version is always accepted. :mod:`airflow_bifrost.gateway.errors`
uses the faults, the doctor the fields. Versions 1.4.19 and 1.5.16 were recorded; the others were read in the gateway's source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)

ALL = "all"
UP_TO_1_4 = "up to 1.4"
SINCE_1_5 = "1.5 and later"
SINCE_1_6 = "1.6 and later"
SINCE_2 = "2.0 and later"
SINCE_2_1 = "2.1 and later"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that means the same whatever HTTP status a version gives it.

    Exactly one of ``type``, ``code`` and ``message`` recognizes it.

    :param what: what happened.
    :param statuses: HTTP status -> the versions (and routes) that answer with it. With another status, the words are not the
        gateway's, because a provider behind it may use the same words.
    :param kind: the error class that it becomes.
    :param type: the top-level ``type``, or ``error.type``.
    :param code: ``error.code``.
    :param message: found within ``error.message``.
    :param advice: what to do about it; None: the usual advice for its kind.
    :param before_provider: whether the gateway itself refuses, before it sends anything to the provider. A create that was refused
        in this way can be sent again.
    """

    what: str
    statuses: dict[int, str]
    kind: type[BifrostGatewayError]
    type: str | None = None
    code: str | None = None
    message: re.Pattern[str] | None = None
    advice: str | None = None
    before_provider: bool = False

    def matches(self, status: int, type_: str | None, code: str | None, message: str | None) -> bool:
        """Whether an error with this status and these words is this fault."""
        if status not in self.statuses:
            return False
        if self.message is not None:
            return self.message.search(message or "") is not None
        return type_ == self.type if self.type is not None else code == self.code


@dataclass(frozen=True, slots=True)
class Field:
    """A field that only some versions have. ``where``: ``batch``, or ``extra_fields``, which every answer may carry."""

    where: str
    name: str
    versions: str


def _says(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# Refusals by the gateway itself have no specific status. Up to 1.4 they are a 500 on the openai routes, and a 400 on the native ones
# unless the gateway blames itself (`is_bifrost_error`); 1.5 and 1.6 have both; since 2.0 only the blame decides.
_MISTAKE = {500: f"{UP_TO_1_4}, openai routes; 1.5 and 1.6", 400: f"{UP_TO_1_4}, native routes; {SINCE_1_5}"}
_BLAMED = {500: ALL, 400: "1.5 and 1.6"}
_UNKNOWN_KEY = {403: f"{UP_TO_1_4}, where keys are not enforced", 401: SINCE_1_5}
_REFUSED = {403: ALL}
_CHECK_THE_TOKEN = "The gateway does not know this virtual key: fix the connection's password."  # noqa: S105 - advice
_INACTIVE = "The virtual key is inactive: have it activated, or use another."
_CHECK_THE_KEYS = "Check the provider's keys in the gateway. If they are valid, the error is temporary."
_NO_BATCH_KEY = "Give a key of this provider `use_for_batch_api` in the gateway, or change `provider`."

TABLE: tuple[Fault | Field, ...] = (
    # Errors in the configuration or the request
    Fault(
        "the provider is unknown, misspelled or not configured",
        _MISTAKE,
        BifrostRequestError,
        message=_says(r"failed to get config for provider|provider not found for"),
        advice="Check the spelling of `provider` (lower case), and that the gateway has this provider configured.",
    ),
    Fault(
        "no key of the provider may be used for batches",
        _MISTAKE,
        BifrostRequestError,
        message=_says(r"no batch-enabled keys found|no config found for batch APIs"),
        advice=_NO_BATCH_KEY,
    ),
    Fault(
        "the provider has no key, or none for the model",
        _MISTAKE,
        BifrostRequestError,
        message=_says(r"no keys found (?:for provider|that support model)"),
        advice="Give this provider a key in the gateway; one with a list of models serves only those.",
    ),
    Fault(
        "the provider has no such call",
        _MISTAKE,
        BifrostRequestError,
        code="unsupported_operation",
        advice="The gateway offers this call only for other providers: change `provider`.",
    ),
    Fault(
        "an argument is missing or unreadable",
        _MISTAKE,
        BifrostRequestError,
        message=_says(
            r"\bis required for (?:\w+ )?(?:batch|file)\b|(?:parameter|header|field) is required|^invalid json"
            r"|failed to parse request|model should be in provider/model format"
        ),
        advice="Fix the argument that the message names.",
    ),
    Fault(
        "the gateway did not issue this cursor",
        _BLAMED,
        BifrostRequestError,
        message=_says("invalid pagination cursor"),
        advice="Send the `next_cursor` of the previous page. The ID of a batch is not a cursor.",
    ),
    Fault(
        "Gemini files cannot be downloaded",
        _BLAMED,
        BifrostRequestError,
        message=_says("doesn't support direct content download"),
        advice="Read the rows of a Gemini batch from the gateway's results route (`batch_results`).",
    ),
    Fault(
        "there is no output file: the batch is still running, or no row succeeded",
        _BLAMED,
        BifrostRequestError,
        message=_says("batch results not available"),
        advice="If the batch has ended, no row succeeded: download its error file.",
    ),
    # Temporary faults
    Fault(
        "the gateway could not reach the provider",
        {**_MISTAKE, 502: SINCE_1_5},
        BifrostUnavailable,
        message=_says("network error occurred|failed to execute HTTP request"),
    ),
    Fault(
        "the gateway dropped the request, because its queue is full",
        {**_MISTAKE, 503: SINCE_2},
        BifrostUnavailable,
        # Never taken out of the queue, so never sent to the provider
        message=_says("request dropped: queue is full"),
        advice="Send fewer requests, or give the provider a longer queue in the gateway.",
        before_provider=True,
    ),
    Fault(
        "a queue is full",
        {**_MISTAKE, 503: SINCE_2},
        BifrostUnavailable,
        message=_says("queue is full"),
        advice="Send fewer requests, or give the provider a longer queue in the gateway.",
    ),
    Fault(
        "the provider's answer is not what it promises",
        {**_MISTAKE, 500: ALL},
        BifrostUnavailable,
        message=_says(r"(?:HTML|empty) response received from provider|failed to unmarshal response from provider"),
    ),
    Fault(
        "the batch is still running, so it has no results yet",
        {**_BLAMED, 404: "Anthropic's own answer, passed on"},
        BifrostUnavailable,
        message=_says("still processing|results (?:are )?not yet available"),
        advice="Read the results when the batch has ended.",
    ),
    Fault(
        "the provider refuses every key of the gateway",
        {502: SINCE_2},
        BifrostUnavailable,
        type="upstream_credentials_exhausted",
        advice=_CHECK_THE_KEYS,
    ),
    Fault(
        "the provider refuses every key of the gateway",
        {502: SINCE_2},
        BifrostUnavailable,
        code="upstream_credentials_exhausted",
        advice=_CHECK_THE_KEYS,
    ),
    # Governance: what the gateway's own rules refuse
    Fault(
        "the virtual key is missing, or the gateway does not know it",
        {401: ALL},
        BifrostAuthError,
        type="virtual_key_required",
        advice="No token was sent: enter a virtual key (sk-bf-...) as the connection's password.",
        before_provider=True,
    ),
    Fault(
        "the gateway does not know the virtual key",
        _UNKNOWN_KEY,
        BifrostAuthError,
        type="virtual_key_not_found",
        advice=_CHECK_THE_TOKEN,
        before_provider=True,
    ),
    Fault(
        "the gateway does not know the virtual key",
        {401: SINCE_2_1},
        BifrostAuthError,
        type="access_not_found",
        advice=_CHECK_THE_TOKEN,
        before_provider=True,
    ),
    Fault(
        "the virtual key is inactive",
        _REFUSED,
        BifrostAuthError,
        type="virtual_key_blocked",
        advice=_INACTIVE,
        before_provider=True,
    ),
    Fault(
        "the virtual key is inactive",
        {401: SINCE_2_1, 403: SINCE_2_1},
        BifrostAuthError,
        type="access_blocked",
        advice=_INACTIVE,
        before_provider=True,
    ),
    Fault(
        "the virtual key may not use the provider",
        _REFUSED,
        BifrostAuthError,
        type="provider_blocked",
        advice="The virtual key may not use this provider: allow it in the gateway, or change `provider`.",
        before_provider=True,
    ),
    Fault(
        "the virtual key may not use the model",
        _REFUSED,
        BifrostAuthError,
        type="model_blocked",
        advice="The virtual key may not use this model: allow it in the gateway.",
        before_provider=True,
    ),
    Fault("the budget is used up", {402: ALL}, BifrostBudgetExceeded, type="budget_exceeded", before_provider=True),
    Fault("the request limit is used up", {429: ALL}, BifrostRateLimited, type="request_limited", before_provider=True),
    Fault("the token limit is used up", {429: ALL}, BifrostRateLimited, type="token_limited", before_provider=True),
    Fault(
        "the gateway requires a header that this package does not send",
        {400: ALL},
        BifrostRequestError,
        type="missing_required_headers",
        advice="Remove the header from the gateway's required headers, or have a proxy add it.",
        before_provider=True,
    ),
    Fault(
        "the provider took too long",
        {504: ALL},
        BifrostUnavailable,
        type="request_timed_out",
        advice="If it persists, raise `default_request_timeout_in_seconds` of the provider in the gateway.",
    ),
    # Fields
    Field("batch", "display_name", SINCE_1_5),
    Field("batch", "input_blob", SINCE_1_6),
    Field("batch", "output_blob", SINCE_1_6),
    Field("batch", "error_blob", SINCE_1_6),
    Field("extra_fields", "request_type", ALL),
    Field("extra_fields", "provider", ALL),
    Field("extra_fields", "latency", ALL),
    Field("extra_fields", "chunk_index", ALL),
    Field("extra_fields", "model_requested", UP_TO_1_4),
    Field("extra_fields", "original_model_requested", SINCE_1_5),
    Field("extra_fields", "resolved_model_used", SINCE_1_5),
    Field("extra_fields", "routing_info", SINCE_1_5),
    Field("extra_fields", "raw_request", ALL),
    Field("extra_fields", "raw_response", ALL),
    Field("extra_fields", "parse_errors", ALL),
    Field("extra_fields", "model_deployment", "the published API"),
    Field("extra_fields", "cache_debug", "the published API"),
)

FAULTS = tuple(row for row in TABLE if isinstance(row, Fault))
EXTRA_FIELDS = frozenset(row.name for row in TABLE if isinstance(row, Field) and row.where == "extra_fields")


def fault_of(status: int, *, type: str | None, code: str | None, message: str | None) -> Fault | None:  # noqa: A002 - the field's name
    """The row that matches an error; None: only the status of the error tells what it is."""
    return next((row for row in FAULTS if row.matches(status, type, code, message)), None)
