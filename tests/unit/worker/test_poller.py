"""The poller sends a poll for each batch that is due, and follows the decision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_bifrost.exceptions import BatchNotFound, BifrostAuthError, BifrostConfigurationError, BifrostUnavailable
from airflow_bifrost.gateway.models import Batch, RequestCounts
from airflow_bifrost.waiting.decision import WaitState
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.worker.poller import Poller

START = 1_800_000_000.0
TTL = 300.0
DONE = RequestCounts(total=2, completed=2, failed=0)


class Gateway:
    """Answers polls from a script; counts polls and clients. Each poll takes ``seconds``."""

    def __init__(self, *answers: Any, seconds: float = 0.0) -> None:
        self.answers = list(answers)
        self.now = START
        self.polled: list[str] = []
        self.opened = self.closed = 0
        self._seconds = seconds
        self.config = SimpleNamespace(connection_ttl=TTL, provider_for=lambda provider: provider or "openai")

    def open(self) -> Any:
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def get_batch(self, batch_id: str, *, provider: str | None) -> Batch:
        self.polled.append(batch_id)
        self.now += self._seconds
        answer = self.answers.pop(0) if self.answers else "in_progress"
        if isinstance(answer, Exception):
            raise answer
        return Batch(id=batch_id, status=answer, request_counts=DONE, output_file_id="file-1")

    def poller(self, *batch_ids: str, deadline: float = START + 3600) -> Poller:
        policy = WaitPolicy(poll_interval=60.0, deadline=deadline, not_found_grace=300.0)
        states = {batch_id: WaitState(batch_id) for batch_id in batch_ids}
        return Poller(self.open, None, policy, states, clock=lambda: self.now)


def test_each_batch_is_polled_and_only_those_that_have_ended_have_a_summary() -> None:
    gateway = Gateway("completed", "in_progress")
    poller = gateway.poller("a", "b")
    poller.poll()
    assert gateway.polled == ["a", "b"]
    assert poller.waiting == ["b"]
    assert poller.summaries["a"]["outcome"] == "succeeded"


def test_a_batch_is_polled_again_only_when_it_is_due() -> None:
    gateway = Gateway()
    poller = gateway.poller("a", "b")
    poller.poll()
    gateway.now = poller.first_due_at - 0.001
    poller.poll()
    assert len(gateway.polled) == 2
    gateway.now = poller.last_due_at
    poller.poll()
    assert gateway.polled == ["a", "b", "a", "b"]


def test_no_further_poll_begins_after_the_limit() -> None:
    gateway = Gateway(seconds=25.0)
    poller = gateway.poller("a", "b", "c", "d", "e")
    poller.poll(within=60.0)
    assert gateway.polled == ["a", "b", "c"]
    assert poller.waiting == ["a", "b", "c", "d", "e"]


def test_a_gateway_that_does_not_answer_gets_one_request_per_poll() -> None:
    gateway = Gateway(BifrostUnavailable("no answer"))
    poller = gateway.poller("a", "b", "c")
    poller.poll()
    assert gateway.polled == ["a"]
    assert all(state.faults == 1 for state in poller.states.values())


def test_an_error_about_one_batch_does_not_keep_the_others_from_being_polled() -> None:
    gateway = Gateway(BatchNotFound("404", status_code=404), BifrostUnavailable("503", status_code=503))
    poller = gateway.poller("a", "b", "c")
    poller.poll()
    assert gateway.polled == ["a", "b", "c"]


def test_the_connection_is_looked_up_again_once_after_a_refused_token() -> None:
    gateway = Gateway(BifrostAuthError("401"), "completed")
    poller = gateway.poller("a")
    poller.poll()
    assert poller.waiting == []
    assert (gateway.opened, gateway.closed) == (2, 1)

    gateway = Gateway(BifrostAuthError("401"), BifrostAuthError("401"))
    with pytest.raises(BifrostAuthError):
        gateway.poller("a").poll()


def test_the_connection_is_looked_up_again_after_its_lifetime() -> None:
    gateway = Gateway()
    poller = gateway.poller("a")
    poller.poll()
    gateway.now += TTL + 1
    poller.poll()
    assert (gateway.opened, gateway.closed) == (2, 1)


def test_the_client_is_closed_at_the_end() -> None:
    gateway = Gateway()
    with gateway.poller("a") as poller:
        poller.poll()
    assert (gateway.opened, gateway.closed) == (1, 1)


def test_a_connection_that_cannot_work_is_an_error_of_the_poll() -> None:
    def broken() -> Any:
        raise BifrostConfigurationError("no host")

    policy = WaitPolicy(poll_interval=60.0, deadline=START + 3600, not_found_grace=300.0)
    with pytest.raises(BifrostConfigurationError):
        Poller(broken, None, policy, {"a": WaitState("a")}, clock=lambda: START).poll()


def test_a_batch_that_has_not_ended_at_the_deadline_has_timed_out() -> None:
    gateway = Gateway()
    poller = gateway.poller("a", deadline=START)
    poller.poll()
    assert poller.timed_out
    assert poller.waiting == ["a"]


def test_progress_is_known_when_every_batch_has_answered() -> None:
    gateway = Gateway("in_progress", BatchNotFound("404", status_code=404))
    poller = gateway.poller("a", "b")
    poller.poll()
    assert poller.progress() is None
    gateway.now = poller.last_due_at
    poller.poll()
    progress = poller.progress()
    assert progress is not None
    assert (progress["total"], progress["percent"]) == (4, 100.0)


@pytest.mark.parametrize("jump", [-86_400.0, -300.0])
def test_setting_the_clock_back_delays_the_next_poll_by_at_most_one_pause(jump: float) -> None:
    gateway = Gateway("in_progress", "completed")
    poller = gateway.poller("a")
    poller.poll()
    gateway.now += jump
    poller.poll()
    gateway.now = poller.first_due_at
    assert gateway.now <= START + jump + 66.0
    poller.poll()
    assert poller.waiting == []
