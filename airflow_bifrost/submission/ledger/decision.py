"""Decides what an earlier create did, and what to do next. Pure: the time is an argument, and nothing is sent.

:func:`next_step` takes what is known and returns one step. The ledger performs it, adds what it learned, and calls again, until
the step is final: Reattach, Tentative, Create or Undetermined.

The rules that keep a batch from being paid twice:

- Create only if nothing was sent before, or if it is proven that no batch exists: by a definite refusal, or by a list that was
  read far enough, after the create was quiet.
- Adopt only a batch that is provably this task's: by the nonce of a record, by the deployment in the tag, or by row count and custom IDs.
- If neither is proven, the step is Undetermined, and a person decides.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_bifrost.submission.ledger.evidence import (
    CLOCK_SKEW,
    Absent,
    Candidate,
    Evidence,
    Found,
    Unknown,
    best_of,
    by_tag,
    by_time,
    oldest_first,
)
from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import SubmissionRecord
from airflow_bifrost.submission.ledger.situation import Gone, Situation
from airflow_bifrost.submission.ledger.steps import (
    Adopt,
    Compare,
    Consider,
    Create,
    Distinguish,
    Keep,
    ReadList,
    Reattach,
    Retrieve,
    RetrieveAll,
    Step,
    Tentative,
    Undetermined,
    Wait,
)

FIRST_PAUSE = 5.0  # seconds between two readings of a list; half of the time waited so far is added
LONGEST_PAUSE = 60.0  # seconds
MAX_COMPARED = 10  # batches of unknown origin whose results are read


def next_step(situation: Situation, now: float) -> Step:
    """The next step toward exactly one batch.

    :param now: unix seconds.
    """
    record = situation.record
    if record is None:
        return _from_list(situation, now) if situation.may_be_lost else Create(1)
    match record.state:
        case "uploaded":
            return Create(max(record.number, 1))
        case "refused":
            return Create(record.number + 1)
        case "submitted":
            return _submitted(situation, record, now)
        case _:
            return _from_candidate(situation, record) if record.candidate else _from_list(situation, now)


def evidence_of(situation: Situation, read: ListRead) -> Evidence:
    """What the list says about the create of the record, or about any create if there is no record."""
    record = situation.record
    evidence = _shown_by(situation, read)
    if isinstance(evidence, Absent) and record is not None and record.key not in (None, read.key):
        return Unknown(
            "the list was read with another key than the batch was created with, and the gateway may hide the batches of other keys."
            " Set the connection's password to the former key, and clear this task. If the new key sees the same batches, use on_unknown"
        )
    return evidence


def _shown_by(situation: Situation, read: ListRead) -> Evidence:
    """What the list says if it shows the batches of every key."""
    record = situation.record
    if situation.tagged:
        return by_tag(read, situation.origin, situation.deployment, situation.digest, situation.whole, record)
    return by_time(
        read,
        floor=record.floor if record else situation.floor,
        seen=record.seen if record else (),
        excluded={*situation.known, *(record.excluded if record else ())},
        rows=situation.rows if record else None,  # without a record, the same rows may have been in another split
    )


def is_quiet(situation: Situation, at: float) -> bool:
    """Whether the create can no longer make a batch. A wait of the whole time counts even if the clocks disagree.

    :param at: unix seconds at which the evidence was taken.
    """
    if situation.waited >= situation.settle:
        return True
    record = situation.record
    return record is not None and (record.quiet_at is None or at >= record.quiet_at)


def _from_list(situation: Situation, now: float) -> Step:
    """It is unknown whether an earlier create made a batch, so the list decides."""
    record = situation.record
    if not situation.listed:
        return _unknown(situation, Unknown(f"the list of {situation.provider} proves nothing"))
    if situation.read is None:
        since = None if situation.tagged else (record.floor if record else situation.floor)
        return ReadList(since)
    evidence = evidence_of(situation, situation.read)
    quiet = is_quiet(situation, situation.read.at)
    if (stranger := _to_distinguish(situation, evidence)) is not None:
        return Distinguish(stranger)
    match evidence:
        case Found():
            return _keep(situation, evidence, quiet)
        case Unknown():
            return _unknown(situation, evidence)
        case _ if not quiet:
            return _wait(situation, now)
        case Candidate():
            return _from_candidate_found(situation, evidence)
        case Absent():
            return Create((record.number if record else 0) + 1)
    raise AssertionError(evidence)


def _to_distinguish(situation: Situation, evidence: Evidence) -> ListedBatch | None:
    """A batch that may be another task's, and whose results may show that."""
    if situation.tagged or situation.record is None or not situation.comparable:
        return None
    match evidence:
        case Candidate(batch) if not situation.ids_prove:  # else its results decide anyway
            candidates: tuple[ListedBatch, ...] = (batch,)
        case Unknown(candidates=several) if len(several) <= MAX_COMPARED:
            candidates = several
        case _:
            return None
    ended = (batch for batch in candidates if batch.outcome is not None and batch.id not in situation.compared)
    return next(ended, None)


def _keep(situation: Situation, found: Found, quiet: bool) -> Step:
    best = best_of(found.batches)
    if situation.record is None and _is_to_be_resubmitted(situation, best):
        assert situation.read is not None
        if not situation.read.complete:  # a later create may be on a page that was not read
            return _unknown(situation, Unknown(situation.read.problem, found.batches))
        return Create(found.number + 1)
    others = tuple(batch for batch in found.batches if batch is not best)
    # Without a record, the attempt that made the create is over, so the create makes no further batch.
    return Keep(best, others, found.number, quiet or situation.record is None)


def _keep_of_all(situation: Situation, recorded: str, found: Found) -> Step:
    """Keep one of the listed batches and the recorded one. A list may lag behind and show only older twins of the recorded batch."""
    if all(batch.id != recorded for batch in found.batches):
        if situation.current is None:
            return Retrieve(recorded)
        if isinstance(situation.current, ListedBatch):
            newest_first = (situation.current, *reversed(found.batches))
            found = replace(found, batches=oldest_first(newest_first))
    return _keep(situation, found, quiet=True)


def _from_candidate_found(situation: Situation, found: Candidate) -> Step:
    batch = found.batch
    if situation.ids_prove:
        return Consider(batch)
    return _unknown(
        situation,
        Unknown(
            f"{batch} may be the one, but its custom IDs cannot prove it: they are the default ones or plain numbers, which other tasks use, too",
            (batch,),
        ),
    )


def _from_candidate(situation: Situation, record: SubmissionRecord) -> Step:
    assert record.candidate is not None
    current = situation.current
    if current is None:
        return Retrieve(record.candidate)
    if isinstance(current, Gone):
        return _unknown(
            situation, Unknown(f"batch {record.candidate}, which may have been the one, is gone ({current.why})")
        )
    if current.outcome is None:
        return Tentative(current.id) if situation.policy.can_wait else _unknown(situation, _still_running(current))
    if not situation.ids_prove:  # for example, the task has other rows by now, so these are not there to compare
        return _unknown(
            situation, Unknown(f"{current} may be the one, but cannot be compared with the rows now", (current,))
        )
    return Compare(current)


def _still_running(candidate: ListedBatch) -> Unknown:
    how = "its custom IDs can be compared only after it has ended. When it has ended, clear this task to compare them"
    return Unknown(f"{candidate} may be the one, but {how}", (candidate,))


def _submitted(situation: Situation, record: SubmissionRecord, now: float) -> Step:
    """An earlier create made a batch. First count its twins, then check whether the batch is still wanted."""
    assert record.batch_id is not None
    if record.quiet_at is not None and situation.tagged:
        if not is_quiet(situation, now):
            return _wait(situation, now)
        if situation.read is None:
            return ReadList(record.at - CLOCK_SKEW)
        evidence = evidence_of(situation, situation.read)
        if isinstance(evidence, Found):
            return _keep_of_all(situation, record.batch_id, evidence)
    elif record.rivals:  # the list does not show whose batch it is, but the record does
        if situation.rivals is None:
            return RetrieveAll((record.batch_id, *record.rivals))
        if situation.rivals:
            best = best_of(situation.rivals)
            others = tuple(batch for batch in situation.rivals if batch is not best)
            return Keep(best, others, record.number, quiet=True)
    policy = situation.policy
    if not record.confirmed or policy.resubmit or record.superseded or record.stopped or policy.cancels_others:
        # With on_changed_input="cancel", the worker may have died between the cancel and its record.
        return _still_wanted(situation, record)
    return Reattach(record.batch_id)


def _still_wanted(situation: Situation, record: SubmissionRecord) -> Step:
    assert record.batch_id is not None
    current = situation.current
    if current is None:
        return Retrieve(record.batch_id)
    if isinstance(current, Gone):
        reason = f"batch {record.batch_id} was submitted then, and is gone ({current.why})"
        return _unknown(situation, Unknown(reason)) if record.superseded else Reattach(record.batch_id)
    if not record.confirmed and current.outcome is not None:
        return Compare(current)
    unwanted = current.cancelled and not situation.policy.keep_cancelled
    policy = situation.policy
    if unwanted and (record.superseded or record.stopped or policy.cancels_others or policy.resubmit):
        return Create(record.number + 1)
    return Create(record.number + 1) if _is_to_be_resubmitted(situation, current) else Reattach(record.batch_id)


def _is_to_be_resubmitted(situation: Situation, batch: ListedBatch) -> bool:
    return batch.outcome is not None and str(batch.outcome) in situation.policy.resubmit


def _wait(situation: Situation, now: float) -> Step:
    """No wait is longer than the whole time, because another worker's clock may be an hour ahead."""
    record = situation.record
    until = record.quiet_at - now if record is not None and record.quiet_at is not None else situation.settle
    left = min(until, situation.settle - situation.waited)
    return Wait(max(0.0, min(left, FIRST_PAUSE + situation.waited / 2, LONGEST_PAUSE)))


def _unknown(situation: Situation, unknown: Unknown) -> Step:
    policy = situation.policy
    if policy.adopt is not None:
        return Adopt(policy.adopt, unknown.reason)
    if policy.resubmit_unknown:
        return Create((situation.record.number if situation.record else 0) + 1, at_the_users_risk=unknown.reason)
    return Undetermined(unknown.reason, tuple(batch.id for batch in unknown.candidates))
