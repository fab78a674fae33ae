"""Every error that this package raises, in one tree.

::

    AirflowException
    └── BifrostError
        ├── BifrostConfigurationError   the connection cannot work; nothing was sent
        ├── BifrostGatewayError         the gateway answered with an error, or did not answer
        │   ├── BifrostUnavailable      no answer, or a 5xx: says nothing about the batch
        │   ├── BifrostRateLimited      429
        │   ├── BifrostBudgetExceeded   402: the budget of the virtual key is used up
        │   ├── BifrostAuthError        401, 403, or the batch of another virtual key
        │   ├── BatchNotFound           404
        │   ├── BifrostRequestError     another 4xx, or what the gateway will never accept
        │   └── BifrostProtocolError    an answer that is not what the API promises
        ├── BatchInputError             rows that cannot be sent; nothing was submitted; never retried
        ├── BatchFailed                 the batch is terminal and its outcome is not accepted; never retried
        ├── SubmissionInDoubt           a batch may have been submitted, and this cannot be determined; never retried
        └── ResultsUnavailable          a batch has no results, or none that can be trusted; never retried

No message contains a token or a result body.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Self

from airflow_bifrost._compat import AirflowException, AirflowFailException


class BifrostError(AirflowException):
    """Base class of all errors of this package.

    :param message: the complete text.
    :param problem: the part of it that says what happened; None: all of it does.
    :param advice: the part of it that says what to do; None: it gives no advice.
    """

    def __init__(self, message: str, *, problem: str | None = None, advice: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem or message
        self.advice = advice


class BifrostConfigurationError(BifrostError):
    """The Airflow connection cannot work as it is. The message names the field.

    ``undefined`` is True if Airflow reports that the connection does not exist. It reports the same while its database is unavailable.
    """

    undefined: bool = False


class BifrostGatewayError(BifrostError):
    """The gateway answered with an error, or did not answer.

    :param message: what happened, to which batch on which connection, what it means for the money, and what to do.
    :param problem: only what happened.
    :param advice: only what to do.
    :param status_code: HTTP status of the answer; None if there was no answer.
    :param error_type: the gateway's word for the error: its top-level ``type``, else ``error.type``; e.g. ``provider_blocked``.
    :param error_code: ``error.code`` of the answer, e.g. ``unsupported_operation``.
    :param fault: what happened, if the gateway's words are known: ``what`` of a row in :mod:`airflow_bifrost.gateway.faults`,
        e.g. ``the virtual key is inactive``.
    :param retry_after: seconds that the answer asks to wait, capped; None if it does not say.
    :param transient: whether the same call may succeed later, even if no call has succeeded so far. A wait tolerates a transient error until
        its deadline. None: the default of the class.
    :param sent: whether the request may have reached the provider. False: no connection was made, or the gateway itself refused the
        request, so it certainly had no effect.
    :param meaning: the part of the message that says what it means for the money; None: it does not say.
    """

    transient: bool = False
    sent: bool = True
    status_code: int | None  # type: ignore[assignment]  # Airflow's own base class has its API's 500 here

    def __init__(
        self,
        message: str,
        *,
        problem: str | None = None,
        advice: str | None = None,
        status_code: int | None = None,
        error_type: str | None = None,
        error_code: str | None = None,
        fault: str | None = None,
        retry_after: float | None = None,
        transient: bool | None = None,
        sent: bool = True,
        meaning: str | None = None,
    ) -> None:
        super().__init__(message, problem=problem, advice=advice)
        self.status_code = status_code
        self.error_type = error_type
        self.error_code = error_code
        self.fault = fault
        self.retry_after = retry_after
        self.sent = sent
        self.meaning = meaning
        if transient is not None:
            self.transient = transient

    def with_meaning(self, meaning: str) -> Self:
        """The same error, now that more is known about what it means for the money."""
        error = copy(self)
        message = str(self)
        error.args = (message.replace(self.meaning, meaning, 1) if self.meaning else f"{message} {meaning}",)
        error.meaning = meaning
        return error


class BifrostUnavailable(BifrostGatewayError):
    """No answer (network, timeout) or a 5xx. It says nothing about the batch."""

    transient = True


class BifrostRateLimited(BifrostGatewayError):
    """429 from the provider or from the gateway's own limits. ``retry_after`` is in seconds, or None."""

    transient = True


class BifrostBudgetExceeded(BifrostGatewayError):
    """402: the budget of the virtual key, or of its provider, is used up. This does not affect batches that were submitted before."""

    transient = True


class BifrostAuthError(BifrostGatewayError):
    """401 or 403: the token is missing, unknown, inactive or not allowed to use the provider. A 404 says so if another virtual key owns the batch."""


class BatchNotFound(BifrostGatewayError):
    """404. With several keys behind the gateway, it does not prove that the batch does not exist.

    ``batch_id`` is the batch that a wait gave up on; None if the error is not about a wait.
    """

    batch_id: str | None = None


class BifrostRequestError(BifrostGatewayError):
    """Another 4xx, or what the gateway will never accept, whatever its status code (an unknown provider is a 500)."""


class BifrostProtocolError(BifrostGatewayError):
    """An answer that is not what the API promises: a web page, not JSON, no ID, or the ID of another batch.

    ``transient`` is True for a provider's error that the gateway passed on, and False if the address is not a gateway.
    """


class BatchInputError(BifrostError, AirflowFailException):
    """Rows of the input cannot be sent, and nothing was submitted. Airflow does not retry it, because the rows stay as they are.

    :param errors: for the first bad rows, the number of the row (in a file: of the line; with several files, and the file) and what is
        wrong with it.
        Empty if the error is not about a row.
    """

    def __init__(
        self,
        message: str,
        *,
        problem: str | None = None,
        advice: str | None = None,
        errors: list[tuple[int | str, str]] | None = None,
    ) -> None:
        super().__init__(message, problem=problem, advice=advice)
        self.errors = errors or []


class BatchFailed(BifrostError, AirflowFailException):
    """The batch is terminal and its outcome is not accepted. Airflow does not retry it, because a terminal batch never changes.

    :param message: names each batch with its outcome and the provider's own errors.
    :param summaries: of the batches that failed (see :class:`airflow_bifrost.gateway.summary.BatchSummary`).
    """

    def __init__(self, message: str, *, summaries: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.summaries = summaries or []


class SubmissionInDoubt(BifrostError, AirflowFailException):
    """An earlier attempt may have submitted a batch, and the gateway cannot tell.

    Submitting again might pay twice, so Airflow does not retry it: a person has to check. The message says where to look, and which
    parameter to set.
    """


class ResultsUnavailable(BifrostError, AirflowFailException):
    """A batch has no results, or none that this gateway can return. Airflow does not retry it."""
