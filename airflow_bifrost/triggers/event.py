"""What a BatchTrigger tells the task that it resumes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_bifrost import exceptions
from airflow_bifrost.exceptions import BatchNotFound, BifrostError, BifrostGatewayError


class ErrorInEvent(BaseModel):
    """An error of :mod:`airflow_bifrost.exceptions`, as JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    message: str
    status_code: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    batch_id: str | None = None

    @classmethod
    def of(cls, error: BifrostError, batch_id: str | None = None) -> Self:
        """``error`` without its cause.

        :param batch_id: the batch that it is about; None: the one that the error names, if any.
        """
        details = {"status_code", "error_type", "error_code"} if isinstance(error, BifrostGatewayError) else set()
        batch_id = batch_id or getattr(error, "batch_id", None)
        return cls(
            type=type(error).__name__,
            message=str(error),
            batch_id=batch_id,
            **{name: getattr(error, name) for name in details},
        )

    def to_exception(self) -> BifrostError:
        """The error as it was in the triggerer; a plain BifrostError if this version does not know its class."""
        kind = getattr(exceptions, self.type, None)
        if not isinstance(kind, type) or not issubclass(kind, BifrostError):
            return BifrostError(self.message)
        if issubclass(kind, BifrostGatewayError):
            error = kind(
                self.message, status_code=self.status_code, error_type=self.error_type, error_code=self.error_code
            )
            if isinstance(error, BatchNotFound):
                error.batch_id = self.batch_id
            return error
        return kind(self.message)


class BatchEvent(BaseModel):
    """The one event of a wait, as JSON.

    :param kind: ``finished``: all batches are terminal, or one, if that is enough; ``timeout``: the deadline has passed;
        ``execution_timeout``: the task's ``execution_timeout`` has passed; ``error``: waiting longer cannot help.
    :param summaries: summaries of the batches that are terminal, in the order of the IDs.
    :param waiting: IDs of the batches that are not known to be terminal.
    :param progress: the latest progress, for the XCom ``progress``.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # a triggerer of another version may send more

    kind: Literal["finished", "timeout", "execution_timeout", "error"]
    summaries: list[dict[str, Any]] = []
    waiting: list[str] = []
    progress: dict[str, Any] | None = None
    error: ErrorInEvent | None = None

    @classmethod
    def read(cls, event: Any) -> Self:
        """Validate the event with which Airflow resumes a task.

        :raises BifrostError: the event does not come from this trigger.
        """
        try:
            return cls.model_validate(event)
        except ValidationError as error:
            raise BifrostError(
                f"The trigger's event is invalid ({error.error_count()} errors). The batches continue to run and are billed; a retry waits"
                " for them again. Check that worker and triggerer run the same version of airflow-provider-bifrost."
            ) from None
