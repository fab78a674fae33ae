"""A run, its worker, its ledger, its provider and its user, without I/O. The oracle follows each row: what was paid for it, and what was written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_bifrost.runs.begin import beginning, covered, new_run, uncovered
from airflow_bifrost.runs.decision import next_step
from airflow_bifrost.runs.events import (
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
from airflow_bifrost.runs.request import RunInput
from airflow_bifrost.runs.resend import PROBE_ROWS, Survey, plan_resend
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.runs.steps import Blocked, Cancel, Clean, Collect, Done, Split, Step, Submit, Wait, Write
from support.run_states import HOUR, POLICY, REQUEST
from support.walks import World, event

ROWS = 60  # of each input
MOST_STEPS = 500  # from any state to the end
FATES = {  # of a batch: the outcome, and the results of every second row and of the others
    "all succeed": ("succeeded", "ok", "ok"),
    "half fail": ("succeeded", "ok", "503"),
    "all fail": ("succeeded", "503", "503"),
    "all are invalid": ("succeeded", "invalid_output", "invalid_output"),
    "half are refused": ("succeeded", "ok", "400"),
    "it expires": ("expired", "ok", "expired"),
    "it is cancelled": ("cancelled", "ok", "cancelled"),
    "it is partly cancelled": ("partial", "ok", "cancelled"),  # as Anthropic says it
    "the queue is full": ("failed", "", ""),
}
RETRYABLE = ("503", "invalid_output", "expired")


@dataclass
class Made:
    """A batch that the provider has accepted.

    :param run: the run that it was created for; empty: another task's.
    """

    id: str
    run: str
    number: int
    sha256: str
    rows: tuple[int, ...]
    outcome: str | None = None
    results: dict[int, str] = field(default_factory=dict)
    cancelled: bool = False

    @property
    def void(self) -> bool:
        """None of its rows ran."""
        return self.outcome == "failed"

    def may_answer(self, row: int) -> bool:
        """Whether the row is paid for, or may still be paid for."""
        return row in self.rows and (self.outcome is None or self.results.get(row) == "ok")


class RunWorld(World):
    """One task instance with its attempts and clears. The provider's batches and the stored state outlive the worker."""

    def __init__(self) -> None:
        self.taken = 0
        self.now = 0.0
        self.attempt = 1
        self.clears = 0
        self.policy = replace(POLICY, max_parallel_batches=2, max_row_attempts=2, part_rows=20, min_rows_to_halve=10)
        self.request = REQUEST
        self.first_row = 0  # of the input: it names which input it is
        self.on_changed_request = "fail"
        self.tags = True  # the provider's list tells whose a batch is
        self.made: dict[str, Made] = {}
        self.unsettled: dict[
            tuple[int, str], str
        ] = {}  # parts whose create got no answer, with a batch that may be theirs
        self.output: dict[str, dict[int, str]] = {}  # what was written, by run
        self.lines: dict[str, tuple[int, ...]] = {}  # rows of each file of request lines
        self.folder: set[str] = set()  # the files that exist
        self.told_why: set[str] = set()  # runs that said why they do not send rows again
        # Runs that lost lines: a round counts as sent even if not all its rows were.
        self.lost_a_round: set[str] = set()
        self.state: RunState | None = None
        self.begin()

    @property
    def steps(self) -> int:
        return self.taken

    # What the task's attempts do

    @property
    def current(self) -> RunState:
        assert self.state is not None
        return self.state

    @property
    def run(self) -> str:
        """Names the run, as its digest does."""
        return f"{self.current.request.model} {self.current.input.digest}"

    @property
    def input(self) -> RunInput:
        return RunInput(f"input {self.first_row}", ROWS, [f"in-{self.first_row}"], [ROWS], automatic_ids=True)

    def begin(self) -> None:
        before, known = self.recall(), self.input
        how = beginning(
            before,
            self.request,
            known,
            begun=before is not None and any(part.batch_id or self.may_be_submitted(part) for part in before.parts),
            intact=before is not None and before.written is not None,
            wait_id=self.clears,
            on_changed_request=self.on_changed_request,
        )
        if how == "as_written":
            return
        place: dict[str, Any] = {"output_path": "o", "attempt": self.attempt, "wait_id": self.clears, "now": self.now}
        if before is None or how == "new":
            parts = self.parts(range(self.first_row, self.first_row + ROWS), 1, 1, 0, model=self.request.model)
            self.keep(new_run(before, self.request, known, parts, self.policy, folder="f", **place))
            self.complete()
            return
        state = before.started_again(policy=self.policy, **place)
        self.keep(state.after(RequestChanged()) if how == "go_on_stopped" else state)
        if (self.current.request, self.current.input) == (self.request, known):
            self.complete()

    def complete(self) -> None:
        """Add parts for rows whose lines were lost before they were sent."""
        for first, number in uncovered(self.current.parts, ROWS):
            rows = range(self.first_row + first, self.first_row + first + number)
            self.keep(covered(self.current, self.parts(rows, self.current.next_number(), 1, first)))

    def recall(self) -> RunState | None:
        """The state as the last attempt has stored it."""
        before = self.state
        if before is not None:
            self.state = RunState.from_json(json.loads(json.dumps(before.to_json())))
            assert self.state == before
        return self.state

    def parts(self, rows: Sequence[int], number: int, round_: int, first: int | None, **fields: Any) -> list[RunPart]:
        """Parts within the limits, whose lines are in the folder."""
        made: list[RunPart] = []
        size = fields.pop("size", self.policy.part_rows)
        model = fields.pop("model", None) or self.current.request.model
        for place in range(0, len(rows), size):
            some = tuple(rows[place : place + size])
            file = f"{model}-{hash(some):x}"
            self.lines[file] = some
            self.folder.add(file)
            begin = None if first is None else first + place
            made.append(RunPart(number + len(made), round_, file, len(some), len(some), f"sha {file}", begin, **fields))
        return made

    def keep(self, state: RunState) -> None:
        self.state = state
        self.taken += 1

    # What the ledger does

    def own(self) -> list[Made]:
        return [made for made in self.made.values() if made.run == self.run]

    def batch_of(self, part: RunPart) -> Made | None:
        for made in self.made.values():
            if (made.run, made.number, made.sha256) == (self.run, part.number, part.sha256):
                return made
        return None

    def may_be_submitted(self, part: RunPart) -> bool:
        return self.batch_of(part) is not None or (part.number, part.sha256) in self.unsettled

    def has_lines(self, part: RunPart) -> bool:
        if part.file not in self.folder and part.first is not None and self.can_rebuild():
            self.folder.add(part.file)
        return part.file in self.folder

    def can_rebuild(self) -> bool:
        return (self.current.request, self.current.input) == (self.request, self.input)

    def submit(self, part: RunPart, *, full: bool) -> Event:
        key = part.number, part.sha256
        own = self.batch_of(part)
        candidate = self.unsettled.get(key)
        if candidate is not None and not self.tags:
            if self.made[candidate].outcome is None:
                return Submitted(part.number, candidate, new=False, confirmed=False)
            del self.unsettled[key]  # the results are compared now
        if own is not None:
            return Submitted(part.number, own.id, new=False)
        if full:
            return QueueFull(part.number)
        if not self.has_lines(part):
            return self.lost(part)
        return Submitted(part.number, self.create(part).id)

    def lost(self, part: RunPart) -> Event:
        self.lost_a_round.add(self.run)
        return LinesLost([part.number])

    def create(self, part: RunPart) -> Made:
        state, rows = self.current, self.lines[part.file]
        assert state.stop is None, "a batch is created after the run was stopped"
        assert self.now < state.deadline, "a batch is created after the deadline"
        running = [made for made in self.own() if made.outcome is None and made.id in state.in_flight]
        assert len(running) < state.policy.max_parallel_batches, "too many batches run"
        for made in self.own():
            paid = [row for row in rows if made.may_answer(row)]
            assert not paid, f"rows {paid[:3]} are in {made.id}, and are sent again"
        made = Made(f"b{len(self.made) + 1}", self.run, part.number, part.sha256, rows)
        self.made[made.id] = made
        return made

    # A step

    def perform(self, step: Step, *, full: bool = False) -> Event | None:
        """What happens in a step; None: nothing, now."""
        match step:
            case Submit(part):
                return self.submit(part, full=full)
            case Split(part):
                return self.split(part)
            case Wait():
                return self.wait(step)
            case Cancel(batch_ids):
                for batch_id in batch_ids:
                    assert self.made[batch_id].run, "another task's batch is cancelled"
                    self.made[batch_id].cancelled = True
                return CancelRequested(batch_ids, self.now)
            case Collect():
                return self.collect()
            case Write():
                return self.write()
            case Clean():
                if self.current.finished:
                    self.folder.clear()
                return Cleaned()
            case Blocked() | Done():
                return None

    def split(self, part: RunPart) -> Event:
        if self.may_be_submitted(part):
            return Fixed(part.number)
        if not self.has_lines(part):
            return self.lost(part)
        size = min(self.current.policy.part_rows, (part.rows + 1) // 2 if part.halve else part.rows)
        number = self.current.next_number()
        parts = self.parts(self.lines[part.file], number, part.round, part.first, size=size, probe=part.probe)
        return WasSplit(part.number, parts)

    def wait(self, step: Wait) -> Event | None:
        assert set(step.batch_ids if step.may_cancel is None else step.may_cancel) <= {
            made.id for made in self.made.values() if made.run
        }
        ended = [batch_id for batch_id in step.batch_ids if self.made[batch_id].outcome is not None]
        if len(ended) == len(step.batch_ids) or (ended and step.any_ended):
            return Ended(ended, [batch_id for batch_id in ended if self.made[batch_id].void])
        return DeadlinePassed() if self.now >= step.deadline else None

    def row_results(self) -> dict[int, str]:
        """The result of each row, from all batches of the run that are read."""
        found: dict[int, str] = {}
        for part in self.current.submitted:
            if part.confirmed and part.ended:
                for row, result in self.made[part.batch_id or ""].results.items():
                    found[row] = "ok" if "ok" in (result, found.get(row)) else result
        return found

    def collect(self) -> Event:
        state, row_results = self.current, self.row_results()
        outcomes = {
            part.number: self.made[part.batch_id or ""].outcome or "cancelled"
            for part in state.submitted
            if part.confirmed
        }
        partly = [number for number, outcome in outcomes.items() if outcome == "partial"]
        codes = Counter(result for result in row_results.values() if result in ("503", "invalid_output"))
        probe_rows = {row for part in state.latest if part.probe for row in self.lines[part.file]}
        probed = sum(row_results.get(row) == "ok" for row in probe_rows)
        plan = plan_resend(
            state,
            survey := Survey(
                outcomes, codes, sum(result in RETRYABLE for result in row_results.values()), probed, partly
            ),
            self.now,
        )
        if plan.why_not and plan.failed == "none":
            self.told_why.add(self.run)
        spent = Counter(row for part in state.parts if part.probe for row in self.lines[part.file])
        rows = [
            row
            for row, result in sorted(row_results.items())
            if (
                result in RETRYABLE
                and plan.failed != "none"
                and (not spent[row] or spent[row] + plan.rounds < state.policy.max_row_attempts)
            )
            or (result == "cancelled" and plan.cancelled)
        ]
        rows = rows if self.has_input() else []
        parts = self.parts(
            rows[:PROBE_ROWS] if plan.failed == "probe" else rows,
            state.next_number(),
            state.round + 1,
            None,
            probe=plan.failed == "probe",
        )
        lost = (plan.failed != "none" or plan.cancelled) and not self.has_input()
        resent = sorted(survey.cancelled) if plan.cancelled and parts else ()
        return Collected(outcomes, parts, self.now, resent, plan.held_back or lost)

    def has_input(self) -> bool:
        return self.can_rebuild() or all(
            part.file in self.folder for part in self.current.parts if part.first is not None
        )

    def write(self) -> Event:
        state, row_results = self.current, self.row_results()
        assert all(part.ended or part.cancel_requested or not part.confirmed for part in state.submitted)
        missing = [row for row in range(state_first(state), state_first(state) + ROWS) if row not in row_results]
        self.output[self.run] = row_results
        rows = Counter(row_results.values())
        return Written(
            {"rows": {"total": ROWS, "succeeded": rows["ok"], "cancelled": rows["cancelled"] + len(missing)}},
            {"size": 1},
        )

    def take(self, *, full: bool = False) -> bool:
        """Whether there was anything to do."""
        happened = self.perform(next_step(self.current, self.now), full=full)
        if happened is None:
            return False
        self.keep(self.current.after(happened))
        return True

    # Events

    @event(12, full=[False, False, False, True])
    def the_worker_takes_a_step(self, full: bool) -> None:
        self.take(full=full)

    @event(6)
    def the_worker_takes_many_steps(self) -> None:
        for _ in range(8):
            if not self.take():
                return

    @event(2, clear=[False, False, True])
    def the_worker_dies_before_it_stores_what_happened(self, clear: bool) -> None:
        step = next_step(self.current, self.now)
        self.perform(step)
        if isinstance(step, Submit) and (made := self.batch_of(step.part)) is not None and step.part.batch_id is None:
            self.unsettled[step.part.number, step.part.sha256] = made.id
        self.another_attempt_begins(clear)

    @event()
    def the_worker_dies_in_a_create_that_makes_no_batch_while_another_task_submits(self) -> None:
        step = next_step(self.current, self.now)
        if isinstance(step, Submit) and not self.may_be_submitted(step.part) and step.part.batch_id is None:
            if not self.tags:
                theirs = Made(f"b{len(self.made) + 1}", "", 0, "", ())
                self.made[theirs.id] = theirs
                self.unsettled[step.part.number, step.part.sha256] = theirs.id
            self.another_attempt_begins(False)

    @event(2, clear=[False, False, True])
    def another_attempt_begins(self, clear: bool) -> None:
        self.attempt += 1
        self.clears += clear
        self.begin()

    @event(8, which=range(4), fate=list(FATES))
    def a_batch_ends(self, which: int, fate: str) -> None:
        running = [made for made in self.made.values() if made.outcome is None]
        if running:
            self.end(running[which % len(running)], fate)

    def end(self, made: Made, fate: str) -> None:
        made.outcome, even, odd = FATES[self.cancelled_as() if made.cancelled else fate]
        made.results = {} if made.void else {row: odd if row % 2 else even for row in made.rows}

    def cancelled_as(self) -> str:
        return "it is cancelled" if self.tags else "it is partly cancelled"

    @event(2, hours=[0.01, 1, 10, 24, 30, -2, -100])
    def time_passes_or_the_clock_jumps(self, hours: float) -> None:
        self.now += hours * HOUR

    @event(rows=[7, 20, 50], at_a_time=[1, 2, 3], run_timeout=[None, 26 * HOUR], resend_limit=[0.3, 0.5, 1.0])
    def the_dag_file_changes_limits(
        self, rows: int, at_a_time: int, run_timeout: float | None, resend_limit: float
    ) -> None:
        self.policy = replace(
            self.policy,
            part_rows=rows,
            max_parallel_batches=at_a_time,
            run_timeout=run_timeout,
            resend_limit=resend_limit,
        )
        self.another_attempt_begins(False)

    @event(model=["m", "another"], on_changed_request=["fail", "continue"], clear=[False, True])
    def the_dag_file_asks_for_something_else(self, model: str, on_changed_request: str, clear: bool) -> None:
        self.request, self.on_changed_request = replace(REQUEST, model=model), on_changed_request
        self.another_attempt_begins(clear)

    @event(model=["m", "another"])
    def the_task_resumes_and_the_dag_file_asks_for_something_else(self, model: str) -> None:
        self.request = replace(REQUEST, model=model)
        if self.current.request != self.request and self.on_changed_request == "fail" and self.current.written is None:
            self.keep(self.current.after(RequestChanged()))

    @event(first_row=[0, 100], clear=[False, True])
    def the_input_changes(self, first_row: int, clear: bool) -> None:
        self.first_row = first_row
        self.another_attempt_begins(clear)

    @event()
    def a_user_cancels_what_runs(self) -> None:
        for made in self.own():
            made.cancelled = made.cancelled or made.outcome is None

    @event(2)
    def the_folder_is_gone(self) -> None:
        self.folder.clear()

    @event()
    def the_provider_stores_no_metadata(self) -> None:
        self.tags = bool(self.made) and self.tags

    # The oracle

    def check(self) -> None:
        numbers = [part.number for part in self.current.parts]
        assert len(numbers) == len(set(numbers)), "two parts have one number"
        kept = {part.batch_id for part in self.current.submitted}
        not_stored = {(part.number, part.sha256) for part in self.current.parts}
        for made in self.own():  # a batch that the state has lost would never be read
            assert made.id in kept or made.void or (made.number, made.sha256) in not_stored, f"{made.id} is lost"

    def finish(self) -> None:
        """The user asks for the first request again and clears the task: the run ends with every row answered, as far as it can be."""
        self.request, self.first_row = REQUEST, 0
        self.policy = replace(self.policy, run_timeout=None)
        self.another_attempt_begins(True)
        for _ in range(MOST_STEPS):
            for made in self.made.values():
                if made.outcome is None:
                    self.end(made, "all succeed")
            if next_step(self.current, self.now) == Blocked():
                self.another_attempt_begins(False)
            elif not self.take():
                break
        assert next_step(self.current, self.now) == Done(), "the run does not end"
        written = self.output[self.run]
        paid = {row for made in self.own() for row, result in made.results.items() if result == "ok"}
        assert {row for row, result in written.items() if result == "ok"} == paid, "a row was paid for and not written"
        for row in range(ROWS):
            assert self.is_settled(row), f"row {row} is {written.get(row)}"

    def is_settled(self, row: int) -> bool:
        """Whether the row has an answer, or a reason for its absence."""
        if self.output[self.run].get(row) in ("ok", "400"):
            return True
        if (
            self.output[self.run].get(row) == "cancelled"
        ):  # rows that were cancelled in an earlier attempt are sent again
            return False
        sent = sum(row in made.rows and not made.void for made in self.own())
        return sent >= self.policy.max_row_attempts or self.run in self.told_why | self.lost_a_round


def state_first(state: RunState) -> int:
    """The first row of a run's input."""
    return int(state.input.digest.removeprefix("input "))
