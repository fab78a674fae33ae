"""A run of batches as a state machine. Pure: no I/O, no Airflow, no clock.

The driver asks :func:`airflow_bifrost.runs.decision.next_step` what to do (``steps``) and does it. It applies what happened (``events``) with :meth:`RunState.after`,
stores the state, and loops. A worker may be killed between any two of these: the next attempt continues from the stored state.

Invariants:

* A part gets a batch only once. After that, its number and its lines never change, even if the limits do.
* Nothing is sent after the run was stopped, after its deadline, or in a round that cannot end before the deadline.
* The results of every submitted batch are collected before the output is written.
* The output is written once, unless a new attempt starts the run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_bifrost.runs.events import (
    BatchLost,
    CancelRequested,
    Cleaned,
    Collected,
    DeadlinePassed,
    Ended,
    Event,
    Fixed,
    LinesLost,
    QueueFull,
    RequestChanged,
    Submitted,
    WasSplit,
    Written,
)
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import JsonObject, RunInput, RunPolicy, RunRequest, run_digest, to_json
from airflow_bifrost.runs.steps import Wait

StopReason = Literal["request_changed", "timeout"]


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run. It is stored as JSON and outlives the worker.

    :param request: what the run requests. It does not change, even if the DAG file does.
    :param folder: URI of the folder with the lines.
    :param output_path: URI of the output.
    :param attempt: number of the task's current attempt.
    :param wait_id: a number that Airflow changes when the task is cleared, but not when it is retried. A new one restarts the deadlines.
    :param started_at: start of the run, in Unix seconds.
    :param round_started_at: start of the latest round, in Unix seconds.
    :param collected: the results of all batches were read, and no more rows are sent again.
    :param stop: why nothing more is sent.
    :param cancelled_at: when the run cancelled its remaining batches, in Unix seconds.
    :param grace_over: whether the time that cancelled batches get to end has passed.
    :param blocked: see :class:`~airflow_bifrost.runs.steps.Blocked`.
    :param held_back: see :class:`Collected`.
    :param written: the manifest without the output's path; None until the output is written.
    :param best: the output that an earlier attempt of this run wrote, see :attr:`output`; None if there is no such output.
    :param highest: the highest part number so far. The ledger identifies submissions by it, so a number is never used twice.
    :param earlier: parts of earlier inputs of the task, by the digest of their run.
    :param superseded: input files of the batches of earlier runs that may still exist, each with its batch.
    """

    request: RunRequest
    input: RunInput
    policy: RunPolicy
    folder: str
    output_path: str
    attempt: int
    wait_id: int
    started_at: float
    round_started_at: float
    parts: list[RunPart]
    collected: bool = False
    stop: StopReason | None = None
    cancelled_at: float | None = None
    grace_over: bool = False
    blocked: bool = False
    held_back: bool = False
    written: JsonObject | None = None
    fingerprint: JsonObject | None = None
    cleaned: bool = False
    best: JsonObject | None = None
    highest: int = 0
    earlier: dict[str, list[JsonObject]] = field(default_factory=dict)
    superseded: dict[str, str] = field(default_factory=dict)

    # As JSON

    def to_json(self) -> JsonObject:
        return to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        made = {
            "request": RunRequest.from_json(value["request"]),
            "input": RunInput.from_json(value["input"]),
            "policy": RunPolicy(**value["policy"]),
            "parts": [RunPart(**part) for part in value["parts"]],
        }
        return cls(**{**value, **made})

    # What is known

    @property
    def digest(self) -> str:
        return run_digest(self.request, self.input)

    @property
    def round(self) -> int:
        return max((part.round for part in self.parts), default=1)

    @property
    def latest(self) -> list[RunPart]:
        """The parts of the latest round."""
        return [part for part in self.parts if part.round == self.round]

    @property
    def in_flight(self) -> list[str]:
        """IDs of the batches that are not known to be terminal."""
        return [part.batch_id for part in self.parts if part.batch_id is not None and not part.ended]

    @property
    def may_cancel(self) -> list[str]:
        """IDs of the batches in flight that certainly belong to this run. The others may belong to another task, so they are never cancelled."""
        return [part.batch_id for part in self.parts if part.batch_id is not None and not part.ended and part.confirmed]

    def wait(self, *, any_ended: bool, deadline: float) -> Wait:
        """The step that waits for the batches in flight."""
        may_cancel = None if self.may_cancel == self.in_flight else self.may_cancel
        return Wait(self.in_flight, any_ended, deadline, may_cancel)

    @property
    def unsent(self) -> list[RunPart]:
        return [part for part in self.parts if part.batch_id is None]

    @property
    def to_compare(self) -> list[RunPart]:
        """Parts whose batch has ended and may be another task's."""
        return [part for part in self.parts if part.ended and not part.confirmed]

    @property
    def submitted(self) -> list[RunPart]:
        return [part for part in self.parts if part.batch_id is not None]

    @property
    def input_files(self) -> dict[str, str]:
        """IDs of the input files at the provider that may still exist, each with its batch."""
        return {part.input_file_id: part.batch_id for part in self.parts if part.input_file_id and part.batch_id}

    @property
    def run_deadline(self) -> float:
        return self.started_at + self.policy.whole

    @property
    def deadline(self) -> float:
        """Deadline of the latest round, in Unix seconds."""
        return min(self.round_started_at + self.policy.timeout, self.run_deadline)

    @property
    def finished(self) -> bool:
        """The output is written, and a further attempt could not improve it."""
        if self.written is None:
            return False
        lost = self.lost_rows or any(part.lost for part in self.parts)
        return not (self.written["rows"]["cancelled"] or self.unsent or lost or self.held_back)

    @property
    def output(self) -> JsonObject | None:
        """The output that is written: its manifest without the batches, and its fingerprint."""
        if self.written is None:
            return None
        manifest = {name: value for name, value in self.written.items() if name != "batches"}
        return {"manifest": manifest, "fingerprint": self.fingerprint}

    @property
    def lost_rows(self) -> int:
        """Rows of the input that were never sent, because their request lines were lost. An attempt that has the input sends them."""
        return max(0, self.input.rows - sum(part.rows for part in self.parts if part.first is not None))

    def next_number(self) -> int:
        return max([self.highest, *(part.number for part in self.parts)]) + 1

    def part(self, number: int) -> RunPart:
        return next(part for part in self.parts if part.number == number)

    # What happens

    def started_again(self, *, policy: RunPolicy, output_path: str, attempt: int, wait_id: int, now: float) -> RunState:
        """The state for another attempt of the task. A clear restarts the deadlines; a retry does not."""
        state = replace(
            self,
            policy=policy,
            output_path=output_path,
            attempt=attempt,
            wait_id=wait_id,
            collected=False,
            stop=None,
            cancelled_at=None,
            grace_over=False,
            blocked=False,
            held_back=False,
            written=None,
            fingerprint=None,
            cleaned=False,
            parts=[
                replace(part, waits_for=[], cancel_requested=False, ended=part.ended and not part.lost, lost=False)
                for part in self.parts
            ],
            best=self.output or self.best,
        )
        if wait_id != self.wait_id:
            state = replace(state, started_at=now, round_started_at=now)
        return state

    def after(self, event: Event) -> RunState:
        """The state after an event."""
        return replace(self._after(event), highest=self.next_number() - 1)

    def _after(self, event: Event) -> RunState:
        match event:
            case Submitted():
                return self._after_submission(event)
            case QueueFull():
                return self._after_refusal(event)
            case Fixed(number):
                return self._change(number, fixed=True, halve=False)
            case WasSplit(number, parts):
                index = self.parts.index(self.part(number))
                return replace(self, parts=[*self.parts[:index], *parts, *self.parts[index + 1 :]])
            case Ended():
                return self._after_ends(event)
            case BatchLost(batch_id):
                parts = [
                    replace(part, ended=True, lost=True) if part.batch_id == batch_id else part for part in self.parts
                ]
                return replace(self, parts=parts)
            case DeadlinePassed():
                return replace(self, stop="timeout", grace_over=self.cancelled_at is not None)
            case CancelRequested(batch_ids, at):
                parts = [
                    replace(part, cancel_requested=True) if part.batch_id in batch_ids else part for part in self.parts
                ]
                return replace(self, parts=parts, stop="timeout", cancelled_at=at)
            case RequestChanged():
                return replace(self, stop=self.stop or "request_changed")
            case LinesLost(numbers):
                left = [part for part in self.parts if part.number not in numbers]
                if any(self.part(number).round > 1 for number in numbers):  # they may be cancelled rows
                    left = [replace(part, resent=False) for part in left]
                return replace(self, parts=left)
            case Collected():
                return self._after_collection(event)
            case Written(manifest, fingerprint):
                return replace(self, written=dict(manifest), fingerprint=dict(fingerprint), cleaned=False)
            case Cleaned(deleted):
                parts = [
                    replace(part, input_file_id=None) if part.input_file_id in deleted else part for part in self.parts
                ]
                superseded = {name: batch for name, batch in self.superseded.items() if name not in deleted}
                return replace(self, parts=parts, superseded=superseded, cleaned=True)

    def _change(self, number: int, **changes: Any) -> RunState:
        parts = [replace(part, **changes) if part.number == number else part for part in self.parts]
        return replace(self, parts=parts)

    def _after_submission(self, event: Submitted) -> RunState:
        before = self.part(event.number)
        return self._change(
            event.number,
            batch_id=event.batch_id,
            confirmed=event.confirmed,
            ended=before.ended and before.batch_id == event.batch_id,
            attempt=self.attempt - (not event.new),
            duplicates=list(event.duplicates),
            input_file_id=event.input_file_id,
            waits_for=[],
            halve=False,
        )

    def _after_refusal(self, event: QueueFull) -> RunState:
        """Wait for a batch of this run to end. If no batch is running, try with half of the rows. If they are too few, give up for now."""
        if in_flight := self.in_flight:
            return self._change(event.number, waits_for=in_flight)
        if self.part(event.number).rows >= self.policy.min_rows_to_halve:
            return self._change(event.number, halve=True)
        return replace(self, blocked=True)

    def _after_ends(self, event: Ended) -> RunState:
        in_flight = [batch_id for batch_id in self.in_flight if batch_id not in event.batch_ids]
        refused = [part for part in self.parts if part.batch_id in event.queue_full and not part.ended]
        only_refusals = set(event.batch_ids) <= set(event.queue_full)
        alone = not in_flight and only_refusals
        number = self.next_number()
        parts = []
        for part in self.parts:
            if part in refused:  # it gets a new number, so that the ledger treats it as a new submission
                halve = alone and part.rows >= self.policy.min_rows_to_halve
                parts.append(replace(part.unsent(), number=number, waits_for=in_flight, halve=halve))
                number += 1
            elif part.batch_id in event.batch_ids:
                parts.append(replace(part, ended=True))
            elif part.batch_id is None and only_refusals and refused:  # no batch has made room in the queue
                parts.append(replace(part, waits_for=in_flight))
            else:
                parts.append(part)
        too_small = max((part.rows for part in refused), default=0) < self.policy.min_rows_to_halve
        return replace(self, parts=parts, blocked=bool(refused) and alone and too_small)

    def _after_collection(self, event: Collected) -> RunState:
        parts = [
            replace(
                part,
                outcome=event.outcomes[part.number],
                lost=part.number in event.lost,
                resent=part.resent or part.number in event.cancelled,
            )
            if part.number in event.outcomes
            else part
            for part in self.parts
        ]
        if not event.parts:
            return replace(self, parts=parts, collected=True, held_back=event.held_back)
        return replace(self, parts=[*parts, *event.parts], collected=False, round_started_at=event.at)
