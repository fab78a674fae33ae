"""Reads the results of all batches of a run, and writes the run's output."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import compress, repeat
from typing import Annotated, Any

import jsonschema  # type: ignore[import-untyped]
from pydantic import AfterValidator, TypeAdapter

from airflow_bifrost.exceptions import BatchNotFound, ResultsUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.results import collect
from airflow_bifrost.results.collect import ReadPolicy
from airflow_bifrost.results.lines import well_formed
from airflow_bifrost.results.reasons import counted_as
from airflow_bifrost.results.rows import RowError, RowOutcome
from airflow_bifrost.results.storage import fingerprint
from airflow_bifrost.results.stored import results_folder
from airflow_bifrost.results.tally import Tally, differences
from airflow_bifrost.results.writer import ResultsWriter, RowState
from airflow_bifrost.runs.folder import RunLines
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import JsonObject, sha256_of
from airflow_bifrost.runs.resend import PROBE_ROWS, Resend, Survey
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.submission.ids import custom_id_of
from airflow_bifrost.submission.output_schema import without_values
from airflow_bifrost.worker.download import manifest, report

NOT_SENT = "not_sent"  # error code of a row that the run did not send
UNKNOWN = "unknown"  # likewise, of a row that a batch of unknown origin may hold

log = logging.getLogger("airflow.task")


def unless_allowed(error: BatchNotFound | ResultsUnavailable) -> BatchNotFound | ResultsUnavailable:
    """The error with the way to write the results of the other batches."""
    return type(error)(
        f"{error} Nothing was written. To write the results of the other batches, set allow_incomplete=True."
    )


def schema_of(output_type: Any) -> JsonObject | None:
    """The JSON schema that answers are validated against; None if answers are not validated.

    It has no defaults: one that is computed at import would differ from process to process, as if the DAG file had changed.
    """
    return None if output_type is None else without_values(TypeAdapter(output_type).json_schema())


def type_of_run(output_type: Any, schema: JsonObject | None) -> Any:
    """The type that a run's answers are validated against: ``output_type`` if it still has the run's schema, otherwise the schema itself.

    :param schema: the JSON schema in the run's requests; None: answers are not validated.
    """
    if schema is None:
        return None
    if output_type is not None and sha256_of(schema_of(output_type)) == sha256_of(schema):
        return output_type
    validator = jsonschema.Draft202012Validator(schema)

    def check(value: Any) -> Any:
        if (error := next(validator.iter_errors(value), None)) is not None:
            raise ValueError(f"does not match the schema at {error.json_path} ({error.validator})")
        return value

    return Annotated[Any, AfterValidator(check)]


@dataclass(slots=True)
class RunResults:
    """The results of all batches of a run, on the worker's disk. Call :meth:`close` after use."""

    lines: RunLines
    writer: ResultsWriter
    policy: ReadPolicy
    summaries: list[JsonObject] = field(default_factory=list)  # of the submitted parts, in their order
    warnings: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)  # parts whose results were not found
    complete: bool = True  # False: of a batch that was found, some results were not, and that is allowed

    def close(self) -> None:
        self.writer.__exit__()

    def read(self, client: GatewayClient, state: RunState, storage_conn_id: str | None) -> None:
        """Read the results of every batch.

        :raises BifrostError: some cannot be read. In this case nothing is written, and a retry reads all of them again.
        """
        for part in state.submitted:
            if part.confirmed:
                self._read_if_found(client, state, part, storage_conn_id)
        for part in state.parts:
            if part.batch_id is not None and part.confirmed:
                continue
            message = "The row was not sent, because the run was stopped or its deadline had passed."
            if part.batch_id is not None:
                message = (
                    f"The run was stopped before batch {part.batch_id} ended, which may hold this row and would then be billed. Clear the task"
                    " to compare it."
                )
            code = NOT_SENT if part.batch_id is None else UNKNOWN
            self._absent(state, part, RowOutcome.CANCELLED, RowError(code, message))

    def survey(self, state: RunState) -> Survey:
        """A summary of the results, from which :func:`~airflow_bifrost.runs.resend.plan_resend` decides which rows to send again."""
        read = [part.number for part in state.submitted if part.confirmed]
        outcomes = {
            number: summary["outcome"] or "unknown" for number, summary in zip(read, self.summaries, strict=True)
        }
        partly = [
            number
            for number, summary in zip(read, self.summaries, strict=True)
            if summary["request_counts"]["canceled"]
        ]
        codes: Counter[str] = Counter()
        retryable = succeeded = 0
        for row in self._row_states(state):
            retryable += row.retryable
            if row.retryable and row.outcome is RowOutcome.FAILED and row.code is not None:
                codes[counted_as(row.code, codes, len(codes))] += 1
        latest = state.latest
        if all(part.probe for part in latest):
            for part in latest:
                ids = self.lines.part_ids(state.input, part) or iter(())
                succeeded += sum(each.outcome is RowOutcome.SUCCEEDED for each in self.writer.row_states(ids))
        return Survey(outcomes, codes, retryable, succeeded, partly)

    def lines_to_resend(self, state: RunState, plan: Resend, retryable: int) -> Iterator[bytes]:
        """The request lines of the rows to send again."""
        ids = self.lines.custom_ids(state.input)
        if (plan.failed == "none" and not plan.cancelled) or ids is None or not self.lines.has_input(state.input):
            return iter(())
        worth = self.writer.retryable(ids, failed=plan.failed != "none", cancelled=plan.cancelled)
        lines: Iterator[bytes] = compress(self.lines.input(state.input), worth)
        spent = self._spent(state, plan)
        if spent:
            lines = (line for line in lines if custom_id_of(line) not in spent)
        return _evenly(lines, retryable, PROBE_ROWS) if plan.failed == "probe" else lines

    def write(self, state: RunState) -> tuple[JsonObject, JsonObject]:
        """Write the output. Return the manifest, without the output's path, and the output's fingerprint."""
        ids = self.lines.custom_ids(state.input)
        if ids is None:
            log.warning(
                "The run's folder %s is missing, and the task no longer makes the same request lines. So the output has only rows with a result,"
                " in the order of the results. The others are counted as missing.",
                state.folder,
            )
            ids, sources = self.writer.custom_ids(), None
        else:
            sources = self.lines.sources(state.input)
        if state.input.sources is not None and sources is None:
            log.warning(
                "The columns that `keep` names are lost with the run's folder, so `source` is null in each row."
            )
            sources = repeat(b"null")
        if (better := self._better_output(state)) is not None:
            return better
        tally = self.writer.write(ids, state.output_path, sources=sources).of_rows(state.input.rows)
        sent_again = sum(part.rows for part in state.parts if part.round > 1)
        report(replace(tally, duplicates=max(0, tally.duplicates - sent_again)), state.output_path, self.warnings)
        return self._manifest(state, tally), fingerprint(state.output_path)

    def _better_output(self, state: RunState) -> tuple[JsonObject, JsonObject] | None:
        """What an earlier attempt wrote, if it found more answers (some results have disappeared since) and its output is unchanged."""
        if (self.complete and not self.lost) or state.best is None:
            return None
        found = sum(row.outcome is RowOutcome.SUCCEEDED for row in self._row_states(state))
        manifest, mark = state.best["manifest"], state.best["fingerprint"]
        if found >= manifest["rows"]["succeeded"] or fingerprint(state.output_path) != mark:
            return None
        log.warning(
            "Only %d rows have an answer now. %s, which an earlier attempt wrote, has %d, so it is kept.",
            found,
            state.output_path,
            manifest["rows"]["succeeded"],
        )
        return {**manifest, "batches": self.summaries}, mark

    def _manifest(self, state: RunState, tally: Tally) -> JsonObject:
        duplicates = [batch_id for part in state.parts for batch_id in part.duplicates]
        whole = manifest(state.output_path, self.summaries, tally) | {"duplicates": duplicates}
        return {key: value for key, value in whole.items() if key != "output_path"}

    def _read_if_found(
        self, client: GatewayClient, state: RunState, part: RunPart, storage_conn_id: str | None
    ) -> None:
        """Read the results of a part. With ``allow_incomplete``, its rows are missing if its batch is gone, or has no results."""
        assert part.batch_id is not None
        try:
            if not part.lost:
                self._read_part(client, state, part, storage_conn_id)
                return
        except (BatchNotFound, ResultsUnavailable) as error:
            if not self.policy.allow_incomplete:
                raise unless_allowed(error) from error
            log.warning("%s %s", error, collect.ALLOWED)
        self.lost.append(part.number)
        self.summaries.append(BatchSummary.unknown(part.batch_id, state.request.provider).to_xcom())

    def _read_part(self, client: GatewayClient, state: RunState, part: RunPart, storage_conn_id: str | None) -> None:
        provider = state.request.provider
        assert part.batch_id is not None
        running = None if part.ended else _running(client, part.batch_id, provider)
        if running is not None:  # the run asked the provider to cancel it, but it has not ended in time
            self.summaries.append(running)
            message = (
                f"Batch {part.batch_id} had not ended when the output was written. Clear the task to read its results."
            )
            self._absent(state, part, RowOutcome.CANCELLED, RowError("cancelled", message))
            return
        before = self.writer.received()
        ids = self.lines.part_ids(state.input, part)
        batch, complete = collect.collect(
            client,
            part.batch_id,
            provider,
            self.writer,
            rows=part.rows,
            ids=None if ids is None else map(well_formed, ids),
            storage_conn_id=storage_conn_id,
            folder=results_folder(provider, state.request.extra_body),
            policy=self.policy,
        )
        self.complete &= complete
        received = self.writer.received() - before
        self.warnings += (
            f"Batch {part.batch_id}: {found}"
            for found in differences(received, part.rows, batch.request_counts, provider)
        )
        summary = BatchSummary.of(batch, batch_id=part.batch_id, provider=provider).to_xcom()
        self.summaries.append(summary)
        if summary["outcome"] in ("failed", "expired", "cancelled"):
            code, message = summary["outcome"], f"Batch {part.batch_id} is {summary['status']}."
            for error in summary["errors"][:1]:
                code, message = error["code"] or code, error["message"] or message
            self._absent(state, part, RowOutcome(summary["outcome"]), RowError(code, message))

    def _absent(self, state: RunState, part: RunPart, outcome: RowOutcome, error: RowError) -> None:
        """Set the outcome of those rows of a part that have no result."""
        if (ids := self.lines.part_ids(state.input, part)) is not None:
            self.writer.add_absent(ids, outcome, error)

    def _row_states(self, state: RunState) -> Iterator[RowState]:
        ids = self.lines.custom_ids(state.input)
        return self.writer.row_states(ids) if ids is not None else iter(())

    def _spent(self, state: RunState, plan: Resend) -> set[str]:
        """IDs of rows that have been sent as often as a row may be sent, because probes sent them in addition to the full rounds."""
        sent: Counter[str] = Counter()
        for part in state.parts:
            if part.probe and (ids := self.lines.part_ids(state.input, part)) is not None:
                sent.update(ids)
        return {custom_id for custom_id, times in sent.items() if times + plan.rounds >= state.policy.max_row_attempts}


def _evenly(lines: Iterator[bytes], total: int, number: int) -> Iterator[bytes]:
    """``number`` of the lines, evenly spread over all of them, in order.

    :param total: the minimum number of lines.
    """
    for position, line in enumerate(lines):
        if (position + 1) * number // total > position * number // total or total <= number:
            yield line


def _running(client: GatewayClient, batch_id: str, provider: str) -> JsonObject | None:
    """The summary of a batch that still runs, as if it were cancelled; None if it has ended."""
    batch = client.get_batch(batch_id, provider=provider)
    summary = BatchSummary.of(batch, batch_id=batch_id, provider=provider).to_xcom()
    return {**summary, "outcome": "cancelled"} if summary["outcome"] is None else None
