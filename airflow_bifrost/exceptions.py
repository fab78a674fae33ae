"""Every error that this package raises, in one tree.

::

    AirflowException
    └── BifrostError
        ├── BifrostConfigurationError   the connection cannot work; nothing was sent
        ├── BifrostUnavailable          no answer, or a 5xx: says nothing about the batch
        ├── BifrostRateLimited          429; ``retry_after`` in seconds, or None
        ├── BifrostBudgetExceeded       402: the virtual key's budget is used up
        ├── BifrostAuthError            401, 403
        ├── BatchNotFound               404
        ├── BifrostRequestError         another 4xx, or what the gateway will never accept
        ├── BifrostProtocolError        an answer that is not what the API promises
        └── BatchFailed                 terminal, and its outcome is not accepted (never retried)

No message holds a token or a result body.
"""

from __future__ import annotations

from typing import Any

from airflow_bifrost._compat import AirflowException, AirflowFailException


class BifrostError(AirflowException):
    """Base of all errors of this package."""


class BifrostConfigurationError(BifrostError):
    """The Airflow connection cannot work as it is. The message names the field."""


class BifrostGatewayError(BifrostError):
    """The gateway answered with an error, or did not answer.

    :param message: what happened, without any secret.
    :param status_code: HTTP status of the answer; None if there was none.
    :param error_type: the gateway's word for the error (top-level ``type``, else ``error.type``), e.g. ``provider_blocked``.
    :param error_code: ``error.code`` of the body, e.g. ``unsupported_operation``.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error_type: str | None = None,
        error_code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_type = error_type
        self.error_code = error_code
