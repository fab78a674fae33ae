"""Every error that this package raises, in one tree.

::

    AirflowException
    └── BifrostError
        ├── BifrostConfigurationError   the connection cannot work; nothing was sent
        ├── BifrostGatewayError         the gateway answered with an error, or did not answer
        │   ├── BifrostUnavailable      no answer, or a 5xx: says nothing about the batch
        │   ├── BifrostRateLimited      429
        │   ├── BifrostBudgetExceeded   402: the budget of the virtual key is used up
        │   ├── BifrostAuthError        401, 403
        │   ├── BatchNotFound           404
        │   ├── BifrostRequestError     another 4xx, or what the gateway will never accept
        │   └── BifrostProtocolError    an answer that is not what the API promises
        ├── BatchInputError             rows that cannot be sent; nothing was submitted, and it is never retried
        ├── BatchFailed                 terminal, and its outcome is not accepted; never retried
        ├── SubmissionInDoubt           a batch may have been submitted, and it cannot be found out; never retried
        └── ResultsUnavailable          a batch has no results, or none that can be trusted; never retried

No message holds a token or a result body.
"""

from __future__ import annotations

from typing import Any

from airflow_bifrost._compat import AirflowException, AirflowFailException


class BifrostError(AirflowException):
    """Base of all errors of this package.

    :param message: all that there is to say.
    :param problem: the part of it that says what happened; None: the message is all about that.
    :param advice: the part of it that says what to do; None: there is none.
    """

    def __init__(self, message: str, *, problem: str | None = None, advice: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem or message
        self.advice = advice


class BifrostConfigurationError(BifrostError):
    """The Airflow connection cannot work as it is. The message names the field."""

    undefined: bool = (
        False  # whether Airflow says that there is no such connection, as it also does while its database is away
    )


class BifrostGatewayError(BifrostError):
    """The gateway answered with an error, or did not answer.

    :param message: what happened, to which batch on which connection, what it means for the money, and what to do.
    :param problem: what happened, alone.
    :param advice: what to do, alone.
    :param status_code: HTTP status of the answer; None if there was none.
    :param error_type: the gateway's word for the error: its top-level ``type``, else ``error.type``; e.g. ``provider_blocked``.
    :param error_code: ``error.code`` of the answer, e.g. ``unsupported_operation``.
    :param fault: what has happened, where the gateway's own words tell it: the ``what`` of a row in
        ``airflow_bifrost.gateway.versions``, e.g. ``the virtual key is inactive``. None: they tell nothing that is known.
    :param retry_after: seconds that the answer asks to wait, capped; None if it does not say.
    :param transient: whether the fault can pass by itself even where no call has ever worked. A wait bears such a
        fault until its deadline. None: as is usual for the class.
    """

    transient: bool = False
    sent: bool = True  # False: no connection came about, so that the request has surely had no effect
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
    ) -> None:
        super().__init__(message, problem=problem, advice=advice)
        self.status_code = status_code
        self.error_type = error_type
        self.error_code = error_code
        self.fault = fault
        self.retry_after = retry_after
        if transient is not None:
            self.transient = transient


class BifrostUnavailable(BifrostGatewayError):
    """No answer (network, timeout) or a 5xx. It says nothing about the batch."""

    transient = True


class BifrostRateLimited(BifrostGatewayError):
    """429 from the provider or from the gateway's own limits; ``retry_after`` in seconds, or None."""

    transient = True


class BifrostBudgetExceeded(BifrostGatewayError):
    """402: the budget of the virtual key, or of its provider, is used up. Batches that run already are not affected."""

    transient = True


class BifrostAuthError(BifrostGatewayError):
    """401 or 403: the token is missing, unknown, inactive or not allowed to use the provider."""


class BatchNotFound(BifrostGatewayError):
    """404: with several keys behind the gateway it is no proof that the batch does not exist."""


class BifrostRequestError(BifrostGatewayError):
    """Another 4xx, or what the gateway will never accept, whatever its status code (an unknown provider is a 500)."""


class BifrostProtocolError(BifrostGatewayError):
    """An answer that is not what the API promises: a web page, no JSON, no id. ``transient`` tells a provider's slip,
    which the gateway handed on, from an address that is no gateway at all."""


class BatchInputError(BifrostError, AirflowFailException):
    """Rows of the input cannot be sent, and nothing was submitted. Airflow does not retry it: the rows stay as they are.

    :param errors: the number of the row (or of the line, in a file) and what is wrong with it; the first few where there are many.
        Empty where it is no row's fault.
    """

    def __init__(
        self,
        message: str,
        *,
        problem: str | None = None,
        advice: str | None = None,
        errors: list[tuple[int, str]] | None = None,
    ) -> None:
        super().__init__(message, problem=problem, advice=advice)
        self.errors = errors or []


class BatchFailed(BifrostError, AirflowFailException):
    """The batch is terminal and its outcome is not accepted. Airflow does not retry it: a terminal batch never changes.

    :param message: names each batch with its outcome and the provider's own errors.
    :param summaries: the batch summaries (see :class:`airflow_bifrost.gateway.summary.BatchSummary`) of the batches that failed.
    """

    def __init__(self, message: str, *, summaries: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.summaries = summaries or []


class SubmissionInDoubt(BifrostError, AirflowFailException):
    """An earlier try may have submitted a batch, and the gateway cannot tell. Submitting again might pay for it twice, so Airflow does
    not retry it: somebody has to look. The message says where, and which parameter decides."""


class ResultsUnavailable(BifrostError, AirflowFailException):
    """A batch has no results, or none that this gateway can give. Airflow does not retry it."""
