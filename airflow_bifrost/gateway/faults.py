"""The gateway's words for an error, in every version of it, and what they mean: one table.

An answer does not name the gateway's version, so the words of every version are always accepted. The tests compare the table with recorded
answers of 1.4.19 and 1.5.16; the column of version 2 was read in the gateway's source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.versions import V1_4, V1_5, V2


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that means the same whatever HTTP status a version gives it.

    Exactly one of ``type``, ``code`` and ``message`` recognizes it.

    :param what: what happened.
    :param answers: version -> the HTTP statuses that it answers with. A version that is missing does not report this fault in these
        words. With another status, the words are not the gateway's, because a provider behind it may use the same words.
    :param kind: the error class that it becomes.
    :param type: the top-level ``type``, or ``error.type``.
    :param code: ``error.code``.
    :param message: found within ``error.message``.
    :param advice: what to do about it; None: the usual advice for its kind.
    :param before_provider: whether the gateway itself refuses, before it sends anything to the provider. A create that was refused
        in this way can be sent again.
    """

    what: str
    answers: Mapping[str, tuple[int, ...]]
    kind: type[BifrostGatewayError]
    type: str | None = None
    code: str | None = None
    message: re.Pattern[str] | None = None
    advice: str | None = None
    before_provider: bool = False

    @property
    def statuses(self) -> frozenset[int]:
        """The HTTP statuses of all versions."""
        return frozenset(status for statuses in self.answers.values() for status in statuses)

    def matches(self, status: int, type_: str | None, code: str | None, message: str | None) -> bool:
        """Whether an error with this status and these words is this fault."""
        if status not in self.statuses:
            return False
        if self.message is not None:
            return self.message.search(message or "") is not None
        return type_ == self.type if self.type is not None else code == self.code


def _says(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _everywhere(*statuses: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys((V1_4, V1_5, V2), statuses)


# Refusals by the gateway itself name no status. 1.4 answers 500 on the openai routes, and 400 on the native ones unless the
# gateway blames itself (`is_bifrost_error`). Since 1.5, only `is_bifrost_error` decides, on all routes.
_MISTAKE = {V1_4: (500, 400), V1_5: (400,), V2: (400,)}
_BLAMED = _everywhere(500)
_EITHER = {V1_4: (500, 400), V1_5: (400, 500), V2: (400, 500)}  # some of these refusals blame the gateway, some do not
_REFUSED = _everywhere(403)
_NOT_REACHED = {V1_4: (500, 400), V1_5: (502, 500), V2: (502, 500)}  # 500: Bedrock, for which the gateway blames itself
_CHECK_THE_TOKEN = "The gateway does not know this virtual key: fix the connection's password."  # noqa: S105 - advice
_CHECK_THE_KEYS = "Check the provider's keys in the gateway. If they are valid, the error is temporary."
_SEND_FEWER = "Send fewer requests, or give the provider a longer queue in the gateway."

FAULTS: tuple[Fault, ...] = (
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
        advice="Give a key of this provider `use_for_batch_api` in the gateway, or change `provider`.",
    ),
    Fault(
        "the provider has no key, or none for the model or the virtual key",
        _MISTAKE,
        BifrostRequestError,
        message=_says(r"no keys found (?:for provider|that support model)"),
        advice=(
            "Give this provider a key in the gateway, and let the virtual key use it (`key_ids`)."
            " A key with a list of models serves only those."
        ),
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
        _EITHER,
        BifrostRequestError,
        message=_says(
            r"\bis required for (?:\w+ )?(?:batch|file(?:upload|list)?)\b|(?:parameter|header|field) is required|^invalid json"
            r"|failed to parse request|model should be in provider/model format"
        ),
        advice="Fix the argument that the message names.",
    ),
    Fault(
        "the ID is not one that this gateway or provider gives",
        {V1_4: (500,), V1_5: (500,), V2: (500, 400)},  # 400: an ID that holds a path
        BifrostRequestError,
        message=_says(r"invalid (?:S3|GCS) URI\b|^invalid (?:batch|file)_id\b"),
        advice=(
            "Use the ID that the gateway returned. For Bedrock and Vertex, the ID of a file is the base64 of its s3:// or gs:// URI."
        ),
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
        _NOT_REACHED,
        BifrostUnavailable,
        message=_says("network error occurred|failed to execute HTTP request"),
    ),
    Fault(
        "the gateway could not reach the provider",
        {V1_5: (502,), V2: (502,)},
        BifrostUnavailable,
        type="provider_connection_failed",
    ),
    Fault(
        "the gateway dropped the request, because its queue is full",
        {**_MISTAKE, V2: (503,)},
        BifrostUnavailable,
        # Never taken out of the queue, so never sent to the provider
        message=_says("request dropped: queue is full"),
        advice=_SEND_FEWER,
        before_provider=True,
    ),
    Fault(
        "a queue is full",
        {**_MISTAKE, V2: (503,)},
        BifrostUnavailable,
        message=_says("queue is full"),
        advice=_SEND_FEWER,
    ),
    Fault(
        # On a create, the batch may exist: only the answer about it was unusable.
        "the provider's answer is not what it promises",
        _EITHER,
        BifrostUnavailable,
        message=_says(
            r"(?:HTML|empty) response received from provider|failed to unmarshal response from provider"
            r"|batch response missing (?:metadata|batch stats)"
        ),
    ),
    Fault(
        "the batch is still running, so it has no results yet",
        _everywhere(500, 404),  # 404: Anthropic's own answer, passed on
        BifrostUnavailable,
        message=_says("still processing|results (?:are )?not yet available|output is not available yet"),
        advice="Read the results when the batch has ended.",
    ),
    Fault(
        "the provider refuses every key of the gateway",
        {V2: (502,)},
        BifrostUnavailable,
        type="upstream_credentials_exhausted",
        advice=_CHECK_THE_KEYS,
    ),
    Fault(
        "the provider refuses every key of the gateway",
        {V2: (502,)},
        BifrostUnavailable,
        code="upstream_credentials_exhausted",
        advice=_CHECK_THE_KEYS,
    ),
    Fault("the request was cancelled in the gateway", {V2: (499,)}, BifrostUnavailable, type="request_cancelled"),
    Fault("the request was cancelled in the gateway", {V2: (499,)}, BifrostUnavailable, code="request_cancelled"),
    # Governance: what the gateway's own rules refuse
    Fault(
        "the virtual key is missing, or the gateway does not know it",
        _everywhere(401),
        BifrostAuthError,
        type="virtual_key_required",
        advice="No token was sent: enter a virtual key (sk-bf-...) as the connection's password.",
        before_provider=True,
    ),
    Fault(
        "the gateway does not know the virtual key",
        {V1_4: (403,), V1_5: (401,), V2: (401,)},  # 1.4: if keys are not enforced; else it says virtual_key_required
        BifrostAuthError,
        type="virtual_key_not_found",
        advice=_CHECK_THE_TOKEN,
        before_provider=True,
    ),
    Fault(
        "the gateway does not know the virtual key",
        {V2: (401,)},
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
        advice="The virtual key is inactive: have it activated, or use another.",
        before_provider=True,
    ),
    Fault(
        # Not a 404 of a provider: the batch exists, and lists hide it from this key.
        "the batch belongs to another virtual key",
        {V2: (404,)},
        BifrostAuthError,
        type="access_blocked",
        advice=(
            "Use the virtual key that the batch was submitted with: the gateway shows a batch to no other key."
            " If the token was rotated, check that the new one belongs to the same virtual key."
        ),
        before_provider=True,
    ),
    Fault(
        "the gateway does not accept the virtual key",
        {V2: (401, 403)},
        BifrostAuthError,
        type="access_blocked",
        advice="The message says why: the virtual key may be inactive or expired, its project unknown, or the gateway has no config store.",
        before_provider=True,
    ),
    Fault(
        "the virtual key may not use the provider",
        _REFUSED,
        BifrostAuthError,
        type="provider_blocked",
        advice=(
            "The virtual key may not use this provider: allow it in the gateway, or change `provider`."
            " Since gateway 1.5, a key without provider configs may use none."
        ),
        before_provider=True,
    ),
    Fault(
        "the virtual key may not use the model",
        _REFUSED,
        BifrostAuthError,
        type="model_blocked",
        advice=(
            "The virtual key may not use this model: allow it in the gateway."
            " Since gateway 2, uploading a file to OpenAI or Azure needs a key that allows all models."
        ),
        before_provider=True,
    ),
    Fault(
        "the budget is used up",
        _everywhere(402),
        BifrostBudgetExceeded,
        type="budget_exceeded",
        before_provider=True,
    ),
    Fault(
        "the request limit is used up",
        _everywhere(429),
        BifrostRateLimited,
        type="request_limited",
        before_provider=True,
    ),
    Fault(
        "the token limit is used up",
        _everywhere(429),
        BifrostRateLimited,
        type="token_limited",
        before_provider=True,
    ),
    Fault(
        "the gateway requires a header that this package does not send",
        _everywhere(400),
        BifrostRequestError,
        type="missing_required_headers",
        advice="Remove the header from the gateway's required headers, or have a proxy add it.",
        before_provider=True,
    ),
    Fault(
        "the provider took too long",
        _everywhere(504),
        BifrostUnavailable,
        type="request_timed_out",
        advice="If it persists, raise `default_request_timeout_in_seconds` of the provider in the gateway.",
    ),
)


def fault_of(status: int, *, type: str | None, code: str | None, message: str | None) -> Fault | None:  # noqa: A002 - the field's name
    """The row that matches an error; None: only the status of the error tells what it is."""
    return next((row for row in FAULTS if row.matches(status, type, code, message)), None)
