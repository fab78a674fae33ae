"""What a retry believes: tables of records and lists, without I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.providers.statuses import BatchStatus, Outcome
from airflow_bifrost.submission.ledger.decision import next_step
from airflow_bifrost.submission.ledger.evidence import (
    Absent,
    Candidate,
    Unknown,
    baseline,
    best_of,
    by_time,
    has_the_rows,
    ids_prove,
    oldest_first,
)
from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import (
    SETTLE,
    TAG_KEY,
    Deployment,
    Origin,
    SubmissionRecord,
    Tag,
    check_metadata,
)
from airflow_bifrost.submission.ledger.situation import Gone, Policy, Situation
from airflow_bifrost.submission.ledger.steps import (
    Adopt,
    Compare,
    Create,
    Keep,
    ReadList,
    Reattach,
    Retrieve,
    Tentative,
    Undetermined,
    Wait,
)

NOW = 1_800_000_000.0
ORIGIN, DIGEST = Origin("dag", "task", "run").key, "1" * 32
HERE, THERE = Deployment.named("here"), Deployment.named("there")
NONCE, WHOLE = "a" * 16, "2" * 32


def record(state: str = "intent", **fields: Any) -> SubmissionRecord:
    defaults: dict[str, Any] = {"provider": "openai", "number": 1, "at": NOW - 3600, "nonces": [NONCE]}
    return SubmissionRecord(state, **(defaults | fields))  # type: ignore[arg-type]


def batch(
    id_: str = "b1",
    *,
    deployment: Deployment = HERE,
    nonce: str = NONCE,
    number: int = 1,
    outcome: Outcome | None = None,
    tagged: bool = True,
    created_at: float | None = NOW,
    rows: int | None = 2,
) -> ListedBatch:
    tag = Tag(ORIGIN, deployment, DIGEST, number, WHOLE, 1, nonce) if tagged else None
    status = BatchStatus.FAILED if outcome is Outcome.FAILED else BatchStatus.IN_PROGRESS
    return ListedBatch(id_, status, outcome, created_at, rows, tag)


def situation(record: SubmissionRecord | None, **fields: Any) -> Situation:
    defaults: dict[str, Any] = {"tagged": True, "listed": True, "rows": 2}
    return Situation(
        origin=ORIGIN, deployment=HERE, digest=DIGEST, provider="openai", record=record, **(defaults | fields)
    )


def read(*batches: ListedBatch, complete: bool = True, problem: str = "cut") -> ListRead:
    return ListRead(batches, complete, NOW, "" if complete else problem)


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (situation(None), Create(1)),
        (situation(None, may_be_lost=True), ReadList(None)),
        (situation(None, may_be_lost=True, listed=False), Undetermined("the list of openai proves nothing")),
        (situation(record("refused", number=3)), Create(4)),
        (situation(record("submitted", batch_id="b1")), Reattach("b1")),
        (situation(record()), ReadList(None)),
        (situation(record(), read=read(batch())), Keep(batch(), (), 1, quiet=True)),
        (situation(record(), read=read()), Create(2)),
        (situation(record(quiet_at=NOW + 9), read=read()), Wait(5.0)),
        (situation(record(), read=read(complete=False)), Undetermined("cut")),
        (situation(record(), read=read(complete=False), policy=Policy(resubmit_unknown=True)), Create(2, "cut")),
        (situation(record(), read=read(complete=False), policy=Policy(adopt="b9")), Adopt("b9", "cut")),
        (situation(record("submitted", batch_id="b1", superseded=True)), Retrieve("b1")),
        (
            situation(record("submitted", batch_id="b1", superseded=True), current=Gone("404")),
            Undetermined("batch b1 was submitted then, and is gone (404)"),
        ),
        (situation(record(candidate="b1"), tagged=False, current=batch()), Tentative("b1")),
        (
            situation(record(candidate="b1"), tagged=False, ids_prove=True, current=batch(outcome=Outcome.SUCCEEDED)),
            Compare(batch(outcome=Outcome.SUCCEEDED)),
        ),
    ],
    ids=lambda value: None,
)
def test_the_next_step(given: Situation, step: object) -> None:
    assert next_step(given, NOW) == step


@pytest.mark.parametrize(
    ("other", "without_a_record", "with_one"),
    [
        (batch(), Keep, Keep),
        (batch(nonce="b" * 16), Keep, Keep),  # another worker of this deployment
        (batch(deployment=THERE, nonce="b" * 16), Create, Create),
        (batch(deployment=Deployment("f" * 16), nonce="b" * 16), Undetermined, Create),
        (batch(deployment=Deployment("f" * 16)), Undetermined, Keep),  # the nonce proves it
    ],
    ids=["own", "another worker", "another deployment", "unknown deployment", "own nonce"],
)
def test_whose_batch_it_is(other: ListedBatch, without_a_record: type, with_one: type) -> None:
    assert isinstance(
        next_step(situation(None, may_be_lost=True, read=read(other), waited=SETTLE), NOW), without_a_record
    )
    assert isinstance(next_step(situation(record(), read=read(other)), NOW), with_one)


@given(quiet_at=st.floats(NOW - 1e6, NOW + 1e6), now=st.floats(NOW - 1e6, NOW + 1e6), waited=st.floats(0, 2 * SETTLE))
@settings(deadline=None)
def test_no_pause_is_longer_than_a_minute_and_all_together_no_longer_than_the_time_to_settle(
    quiet_at: float, now: float, waited: float
) -> None:
    given = situation(record(quiet_at=quiet_at), read=replace(read(), at=now), waited=waited)
    step = next_step(given, now)
    if waited >= SETTLE or now >= quiet_at:
        assert step == Create(2)
    else:
        assert isinstance(step, Wait)
        assert 0 < step.seconds <= min(60, SETTLE - waited)


@pytest.mark.parametrize(
    ("found", "evidence"),
    [
        (read(), Absent()),
        (read(batch(tagged=False, rows=3)), Absent()),
        (read(batch(tagged=False, created_at=NOW - 100)), Absent()),
        (read(batch("seen", tagged=False)), Absent()),
        (read(batch(tagged=False)), Candidate(batch(tagged=False))),
        (read(batch(tagged=False, rows=None)), Unknown),
        (read(batch(tagged=False, created_at=None)), Candidate(batch(tagged=False, created_at=None))),
        (read(batch(tagged=False), batch("b2", tagged=False)), Unknown),
        (read(batch(tagged=False, rows=3), complete=False), Unknown),
        (read(batch(tagged=False, rows=3), batch(tagged=False, created_at=NOW - 99), complete=False), Absent()),
    ],
    ids=lambda value: None,
)
def test_a_list_without_tags(found: ListRead, evidence: object) -> None:
    said = by_time(found, floor=NOW - 10, seen=["seen"], excluded=[], rows=2)
    assert isinstance(said, evidence) if isinstance(evidence, type) else said == evidence


def test_without_a_floor_only_a_whole_list_proves_absence() -> None:
    old = batch(tagged=False, rows=3)
    assert by_time(read(old), floor=None, seen=[], excluded=[], rows=2) == Absent()
    assert isinstance(by_time(read(old, complete=False), floor=None, seen=[], excluded=[], rows=2), Unknown)


def test_the_baseline_is_the_providers_clock() -> None:
    ahead = NOW + 3600
    floor, seen = baseline(read(batch("new", created_at=NOW), batch("old", created_at=NOW - 500)), ahead)
    assert (floor, seen) == (NOW - 60, ["new"])
    assert baseline(read(), ahead) == (0.0, [])


@pytest.mark.parametrize(
    ("batches", "kept"),
    [
        ([batch("new"), batch("old")], "old"),  # of one second: the list's order
        ([batch("new", created_at=NOW + 1), batch("old", outcome=Outcome.FAILED)], "new"),
        ([batch("new", outcome=Outcome.SUCCEEDED), batch("old")], "new"),
        ([batch("new", outcome=Outcome.FAILED), batch("old", outcome=Outcome.EXPIRED)], "old"),
    ],
    ids=["oldest", "lives", "has results", "some results"],
)
def test_which_of_two_batches_to_keep(batches: list[ListedBatch], kept: str) -> None:
    assert best_of(oldest_first(batches)).id == kept


def test_a_recorded_batch_is_never_dropped_because_the_list_shows_only_its_twin() -> None:
    twin, own = batch("b1"), batch("b2", created_at=NOW + 1)
    given = situation(record("submitted", batch_id="b2", quiet_at=NOW), read=read(twin))
    assert next_step(given, NOW) == Retrieve("b2")
    assert next_step(replace(given, current=own), NOW) == Keep(twin, (own,), 1, quiet=True)
    assert next_step(replace(given, current=Gone("404")), NOW) == Keep(twin, (), 1, quiet=True)


@pytest.mark.parametrize(
    ("outcome", "found", "same"),
    [
        (Outcome.SUCCEEDED, {"x", "y"}, True),
        (Outcome.SUCCEEDED, {"x", "z"}, False),
        (Outcome.SUCCEEDED, {"x"}, None),
        (Outcome.CANCELLED, {"x"}, True),
        (Outcome.CANCELLED, {"z"}, False),
        (Outcome.FAILED, set(), None),
    ],
)
def test_whether_results_are_those_of_the_rows(outcome: Outcome, found: set[str], same: bool | None) -> None:
    assert has_the_rows(batch(outcome=outcome), {"x", "y"}, found) is same


def test_ids_that_every_task_uses_prove_nothing() -> None:
    assert not ids_prove(["row-000000001", "row-000000002"])
    assert not ids_prove(["1", "2", "3"])  # the numbers of a table's rows
    assert ids_prove(["1234567890", "2"])
    assert ids_prove(["row-000000001", "doc-7"])


@given(
    st.builds(
        Tag,
        st.just(ORIGIN),
        st.sampled_from([HERE, Deployment(), Deployment("f" * 16)]),
        st.just(DIGEST),
        st.integers(1, 10**6 - 1),
        st.just(WHOLE),
        st.integers(1, 10**6 - 1),
        st.just(NONCE),
    )
)
@settings(deadline=None)
def test_a_tag_survives_its_text_and_fits_where_it_goes(tag: Tag) -> None:
    assert Tag.of({TAG_KEY: str(tag)}) == tag
    assert len(str(tag)) <= 255
    check_metadata({"user": str(tag)}, tagged=True)


@pytest.mark.parametrize("text", [None, 7, "", "mine", f"{ORIGIN}.{HERE}.{DIGEST}.1"])
def test_what_is_no_tag_is_nobodys(text: object) -> None:
    assert Tag.of({TAG_KEY: text}) is None
    assert Tag.of(None) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HERE, HERE, True),
        (HERE, THERE, False),
        (Deployment("f" * 16), Deployment("f" * 16), True),
        (Deployment("f" * 16), Deployment("e" * 16), None),
        (HERE, Deployment("f" * 16), None),
        (Deployment(), Deployment(), None),
    ],
)
def test_whether_two_deployments_are_the_same(one: Deployment, other: Deployment, same: bool | None) -> None:
    assert one.is_same(other) is same


def test_a_candidate_that_has_ended_is_not_compared_with_rows_that_the_task_no_longer_has() -> None:
    known = situation(record(candidate="b1"), tagged=False, rows=None, current=batch(outcome=Outcome.SUCCEEDED))
    step = next_step(known, NOW)
    assert isinstance(step, Undetermined)
    assert step.candidates == ("b1",)


def test_without_a_record_the_latest_create_whose_batch_lives_is_the_tasks() -> None:
    """Of two workers on one attempt, the slower one may have kept its own batch and cancelled the other, which has a higher number."""
    alive, cancelled = batch("b1"), batch("b2", number=2, outcome=Outcome.CANCELLED)
    lost = situation(None, may_be_lost=True, read=read(cancelled, alive))
    assert next_step(lost, NOW) == Keep(alive, (), 2, quiet=True)
    resubmitted = situation(
        None, may_be_lost=True, read=read(batch("b2", number=2), batch("b1", outcome=Outcome.EXPIRED))
    )
    assert next_step(resubmitted, NOW) == Keep(batch("b2", number=2), (), 2, quiet=True)


def test_without_a_record_and_tags_a_batch_with_other_rows_may_be_the_tasks_in_another_split() -> None:
    read_other = read(batch("b1", tagged=False, rows=3))
    known = situation(None, may_be_lost=True, tagged=False, read=read_other, waited=SETTLE)
    assert isinstance(next_step(known, NOW), Undetermined)
    assert next_step(replace(known, known=frozenset({"b1"})), NOW) == Create(1)
