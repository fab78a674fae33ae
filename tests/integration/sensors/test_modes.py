"""The same situation ends the same way in every mode of waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.airflow import FakeTI, Store, run_to_its_end
from support.meanwhile import after_requests

from airflow_bifrost import BatchRetrieveOperator, BatchSensor
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior

try:
    from airflow.sdk.exceptions import TaskDeferred  # Airflow 3.2 and later
except ImportError:
    from airflow.exceptions import TaskDeferred

MODES = {
    "deferrable": {},
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
}

COUNTS = {"total": 10, "completed": 10, "failed": 0}


@dataclass(frozen=True)
class Situation:
    """What the gateway does, how the sensor is configured, and how the task must end.

    :param first: wire fields of the batch when the wait begins.
    :param then: wire fields of the batch a moment later; None: nothing changes.
    """

    first: dict[str, Any]
    then: dict[str, Any] | None = None
    faults: tuple[Fault, ...] = ()
    sensor: dict[str, Any] = field(default_factory=dict)
    provider: str = "openai"
    state: str = "success"
    kind: str = ""
    outcome: str | None = None
    says: str = ""


DONE = {"status": "completed", "request_counts": COUNTS}
RUNNING = {"status": "in_progress", "request_counts": {"total": 10, "completed": 3, "failed": 0}}
FAILED = {"status": "failed", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
PARTIAL = {"status": "completed", "request_counts": {"total": 10, "completed": 7, "failed": 3}}

# Gateway 2, to a key that the batch does not belong to
OTHER_KEY = {"type": "access_blocked", "error": {"message": "batch not found"}, "extra_fields": {}}

SITUATIONS = {
    "terminal at the first poll": Situation(DONE, outcome="succeeded"),
    "becomes terminal": Situation(RUNNING, DONE, outcome="succeeded"),
    "some rows failed": Situation(RUNNING, PARTIAL, outcome="partial"),
    "some rows failed and that is not accepted": Situation(
        RUNNING, PARTIAL, sensor={"accept": ["succeeded"]}, state="failed", kind="BatchFailed", says="partial"
    ),
    "failed": Situation(RUNNING, FAILED, state="failed", kind="BatchFailed", says="outcome failed"),
    "failed and accepted": Situation(RUNNING, FAILED, sensor={"accept": ["failed"]}, outcome="failed"),
    "expired": Situation(RUNNING, {"status": "expired"}, state="failed", kind="BatchFailed", says="outcome expired"),
    "cancelling first, then cancelled, accepted": Situation(
        {"status": "cancelling"}, {"status": "canceled"}, sensor={"accept": ["cancelled"]}, outcome="cancelled"
    ),
    "all rows failed": Situation(
        RUNNING,
        {"status": "completed", "request_counts": {"total": 10, "completed": 0, "failed": 10}},
        state="failed",
        kind="BatchFailed",
    ),
    "an unknown status first": Situation({"status": "paused"}, DONE, outcome="succeeded"),
    "ended, at Anthropic": Situation(
        {"status": "in_progress"},
        {"status": "ended", "request_counts": {"total": 10, "completed": 9, "failed": 1, "succeeded": 9}},
        provider="anthropic",
        sensor={"provider": "anthropic"},
        outcome="partial",
    ),
    "soft_fail and failed": Situation(
        RUNNING, FAILED, sensor={"soft_fail": True}, state="skipped", kind="AirflowSkipException"
    ),
    "never_fail and failed": Situation(
        RUNNING, FAILED, sensor={"never_fail": True}, state="skipped", kind="AirflowSkipException"
    ),
    "the timeout passes": Situation(
        RUNNING, sensor={"timeout": 0.5}, state="failed", kind="AirflowSensorTimeout", says="timeout"
    ),
    "the timeout passes with soft_fail": Situation(
        RUNNING, sensor={"timeout": 0.5, "soft_fail": True}, state="skipped", kind="AirflowSkipException"
    ),
    "the timeout passes with never_fail": Situation(
        RUNNING, sensor={"timeout": 0.5, "never_fail": True}, state="skipped", kind="AirflowSkipException"
    ),
    "a timeout of zero": Situation(RUNNING, sensor={"timeout": 0}, state="failed", kind="AirflowSensorTimeout"),
    "an outage from the start": Situation(RUNNING, DONE, (Fault(status=503, times=3),), outcome="succeeded"),
    "a connection that breaks": Situation(RUNNING, DONE, (Fault(drop=True, times=3),), outcome="succeeded"),
    "rate limited": Situation(RUNNING, DONE, (Fault(status=429, times=2),), outcome="succeeded"),
    "the budget is used up for a while": Situation(RUNNING, DONE, (Fault(status=402, times=2),), outcome="succeeded"),
    "a provider whose answers are empty": Situation(
        RUNNING,
        DONE,
        (Fault(status=200, body={"id": "", "status": "", "request_counts": {}, "extra_fields": {}}, times=2),),
        outcome="succeeded",
    ),
    "a web page from the start": Situation(
        RUNNING,
        faults=(Fault(status=200, body="<html>", content_type="text/html", times=None),),
        state="failed",
        kind="BifrostProtocolError",
        says="web page",
    ),
    "garbage from the start": Situation(
        RUNNING, faults=(Fault(garbage=True, times=None),), state="failed", kind="BifrostProtocolError"
    ),
    "an unknown provider": Situation(
        RUNNING, sensor={"provider": "nosuch"}, state="failed", kind="BifrostRequestError", says="nosuch"
    ),
    "a provider without batches": Situation(
        RUNNING, sensor={"provider": "groq"}, state="failed", kind="BifrostRequestError", says="groq"
    ),
    "a token that is refused": Situation(
        RUNNING,
        faults=(Fault(status=401, times=None),),
        state="failed",
        kind="BifrostAuthError",
    ),
    "a token that is refused, with soft_fail": Situation(
        RUNNING,
        faults=(Fault(status=403, times=None),),
        sensor={"soft_fail": True},
        state="skipped",
        kind="AirflowSkipException",
    ),
    "a token that is refused once": Situation(RUNNING, DONE, (Fault(status=401, times=1),), outcome="succeeded"),
    "another virtual key's batch": Situation(
        RUNNING,
        faults=(Fault(status=404, body=OTHER_KEY, times=None),),
        state="failed",
        kind="BifrostAuthError",
        says="belongs to the same virtual key",
    ),
    "another virtual key's batch, until the connection is looked up again": Situation(
        RUNNING, DONE, (Fault(status=404, body=OTHER_KEY, times=1),), outcome="succeeded"
    ),
    "not found for a while": Situation(RUNNING, DONE, (Fault(status=404, times=3),), outcome="succeeded"),
    "not found for longer than the grace": Situation(
        RUNNING,
        faults=(Fault(status=404, times=None),),
        sensor={"not_found_grace": 0.3},
        state="failed",
        kind="BatchNotFound",
    ),
    "an ID that is a path": Situation(
        DONE, sensor={"batch_id": "../files"}, state="failed", kind="ValueError", says="batch_id"
    ),
    "no ID": Situation(DONE, sensor={"batch_id": None}, state="failed", kind="ValueError", says="pushed no XCom"),
    "no connection": Situation(
        DONE, sensor={"bifrost_conn_id": "nowhere"}, state="failed", kind="BifrostConfigurationError", says="nowhere"
    ),
}


@pytest.mark.usefixtures("quick_faults")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_same_situation_ends_the_same_way_in_every_mode(name: str, mode: str, gateway: LocalGateway) -> None:
    situation = SITUATIONS[name]
    batch_id = gateway.add_batch(situation.provider, rows=10)
    gateway.set_batch(batch_id, **situation.first)
    for fault in situation.faults:
        gateway.inject(fault)
    arguments = {"batch_id": batch_id, "poke_interval": 0.05, "timeout": 30, **situation.sensor, **MODES[mode]}

    then = situation.then or situation.first
    with after_requests(gateway, 2, lambda: gateway.set_batch(batch_id, **then)):
        end = run_to_its_end(lambda: BatchSensor(task_id="wait", **arguments))

    assert (end.state, end.kind) == (situation.state, situation.kind), end.error
    assert situation.says in str(end.error or "")
    if situation.outcome:
        assert end.value["outcome"] == situation.outcome
    assert "sk-bf-good" not in str(end.error)


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_keeps_the_deadline_of_the_first_attempt(mode: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    store = Store()
    first = _attempt(batch_id, mode, store, Fault(status=401, times=None), gateway, timeout=0.05)
    assert first.kind == "BifrostAuthError"
    time.sleep(0.05)
    gateway.clear_requests()

    retry = _attempt(batch_id, mode, store, None, gateway, timeout=0.05)

    assert retry.kind == "AirflowSensorTimeout"
    assert len(gateway.requests) == 1  # the poll at the deadline; with a new deadline it would keep polling


@pytest.mark.parametrize("mode", MODES)
def test_clearing_a_task_starts_its_timeout_again(mode: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    store = Store()
    assert _attempt(batch_id, mode, store, None, gateway, timeout=0.2).kind == "AirflowSensorTimeout"

    with after_requests(gateway, 2, lambda: gateway.set_batch(batch_id, **DONE)):
        cleared = _attempt(batch_id, mode, store, None, gateway, timeout=30, ti=FakeTI(max_tries=1))

    assert cleared.state == "success"


@pytest.mark.usefixtures("quick_faults")
@pytest.mark.parametrize("mode", MODES)
def test_a_malformed_answer_is_tolerated_once_the_gateway_has_answered(mode: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **RUNNING)

    def break_and_end() -> None:
        gateway.inject(Fault(status=200, body="<html>", content_type="text/html", times=3))
        gateway.set_batch(batch_id, **DONE)

    with after_requests(gateway, 2, break_and_end):
        end = run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=30, **MODES[mode])
        )

    assert end.state == "success"
    assert _due(gateway) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_rotated_token_is_picked_up(mode: str, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **RUNNING)

    def rotate() -> None:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-new"))
        gateway.inject(Fault(status=403, times=1))
        gateway.set_batch(batch_id, **DONE)

    with after_requests(gateway, 2, rotate):
        end = run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=30, **MODES[mode])
        )

    assert end.state == "success"
    assert [r.headers.get("authorization") for r in gateway.requests][-1] == "Bearer sk-bf-new"


@pytest.mark.parametrize("mode", MODES)
def test_the_sensor_waits_for_all_batches_and_returns_them_in_order(mode: str, gateway: LocalGateway) -> None:
    batch_ids = [gateway.add_batch(rows=10) for _ in range(4)]
    for batch_id in batch_ids:
        gateway.set_batch(batch_id, **RUNNING)

    def end_them() -> None:
        for batch_id in reversed(batch_ids):
            gateway.set_batch(batch_id, **DONE)

    with after_requests(gateway, 2, end_them):
        end = run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_ids, poke_interval=0.05, timeout=30, **MODES[mode])
        )

    assert [summary["batch_id"] for summary in end.value] == batch_ids
    assert end.xcoms["progress"]["total"] == 40
    assert end.xcoms["progress"]["percent"] == 100.0


@pytest.mark.parametrize("mode", MODES)
def test_a_bad_outcome_among_many_fails_the_task_when_all_have_ended_and_names_each(
    mode: str, gateway: LocalGateway
) -> None:
    good, bad, late = batch_ids = [gateway.add_batch(rows=10) for _ in range(3)]
    gateway.set_batch(good, **DONE)
    gateway.set_batch(bad, **FAILED)
    gateway.set_batch(late, **RUNNING)

    with after_requests(gateway, 2, lambda: gateway.set_batch(late, status="expired")):
        end = run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_ids, poke_interval=0.05, timeout=30, **MODES[mode])
        )

    assert end.kind == "BatchFailed"
    assert bad in str(end.error)
    assert late in str(end.error)
    assert good not in str(end.error)
    assert [summary["outcome"] for summary in end.xcoms["return_value"]] == ["succeeded", "failed", "expired"]


@pytest.mark.parametrize("mode", MODES)
def test_the_wait_continues_if_the_progress_xcom_cannot_be_written(mode: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **RUNNING)
    with after_requests(gateway, 2, lambda: gateway.set_batch(batch_id, **DONE)):
        end = run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=30, **MODES[mode]),
            ti=FakeTI(broken_xcoms=("progress",)),
        )
    assert end.state == "success"


def test_the_worker_writes_progress_no_more_often_than_once_per_interval(
    gateway: LocalGateway,
) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **RUNNING)
    ti = FakeTI()
    with after_requests(gateway, 4, lambda: gateway.set_batch(batch_id, **DONE)):
        run_to_its_end(
            lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=30, **MODES["poke"]),
            ti=ti,
        )
    assert ti.pushes.count("progress") == 2  # after the first poll and after the last
    assert len(gateway.requests) > 3


def test_rescheduling_polls_all_batches_each_time_the_worker_starts(gateway: LocalGateway) -> None:
    batch_ids = [gateway.add_batch(rows=1, status="in_progress") for _ in range(10)]
    end = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=batch_ids, poke_interval=0.2, timeout=0.5, **MODES["reschedule"])
    )
    assert end.kind == "AirflowSensorTimeout"
    assert end.reschedules <= 4
    assert len(gateway.requests) == 10 * (end.reschedules + 1)


def test_the_worker_passes_its_state_to_the_triggerer(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **RUNNING)
    store = Store()
    sensor = BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.5, timeout=30, cancel_on_kill=True)
    before = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": FakeTI(), "task_state_store": store})

    kwargs = deferred.value.trigger.serialize()[1]
    assert kwargs["cancel_on_kill"] is True
    [state] = kwargs["states"]
    assert (state["worked"], state["status"]) == (True, "in_progress")
    assert state["next_poll_at"] > before


def test_airflow_ends_a_deferral_only_after_the_deadline(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = run_to_its_end(lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=0.5))
    assert end.defer_timeout is not None
    assert end.defer_timeout > 0.5 + 60  # time for the trigger's own last poll


def test_a_gateway_that_hangs_costs_one_request_timeout_and_not_one_per_batch(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-good", timeout=1))
    batch_ids = [gateway.add_batch(rows=1, status="in_progress") for _ in range(20)]
    gateway.inject(Fault(delay=60, times=None))
    end = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=batch_ids, poke_interval=0.05, timeout=0, **MODES["poke"])
    )
    assert end.kind == "AirflowSensorTimeout"
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_list_of_ids_succeeds_at_once(mode: str, gateway: LocalGateway) -> None:
    end = run_to_its_end(lambda: BatchSensor(task_id="wait", batch_id=[], **MODES[mode]))
    assert (end.state, end.value) == ("success", [])
    assert gateway.requests == []


def test_execution_timeout_ends_a_deferred_wait_as_it_ends_one_in_the_worker(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = run_to_its_end(
        lambda: BatchSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.05, execution_timeout=timedelta(seconds=0.5)
        )
    )
    assert end.kind == "AirflowTaskTimeout"


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
def test_an_execution_timeout_is_skipped_with_soft_fail_and_never_fail(flag: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = run_to_its_end(
        lambda: BatchSensor(
            task_id="wait",
            batch_id=batch_id,
            poke_interval=0.05,
            execution_timeout=timedelta(seconds=0.5),
            **{flag: True},
        )
    )
    assert end.state == "skipped"


def test_rescheduling_keeps_the_timeout_without_a_state_store(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=0.5, **MODES["reschedule"]),
        remembering=False,
    )
    assert end.kind == "AirflowSensorTimeout"
    assert end.reschedules >= 2


def test_a_batch_that_has_ended_needs_no_deferral(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **DONE)
    end = run_to_its_end(lambda: BatchSensor(task_id="wait", batch_id=batch_id))
    assert end.deferrals == 0
    assert len(gateway.requests) == 1


def test_a_sensor_that_fails_pushes_the_summary_first(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, status="expired", output_file_id="file-some-rows")
    end = run_to_its_end(lambda: BatchSensor(task_id="wait", batch_id=batch_id))
    assert end.kind == "BatchFailed"
    assert end.xcoms["return_value"]["output_file_id"] == "file-some-rows"


def _attempt(
    batch_id: str,
    mode: str,
    store: Store,
    fault: Fault | None,
    gateway: LocalGateway,
    *,
    timeout: float,
    ti: FakeTI | None = None,
) -> Any:
    gateway.clear_faults()
    if fault:
        gateway.inject(fault)
    return run_to_its_end(
        lambda: BatchSensor(
            task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=timeout, retries=1, **MODES[mode]
        ),
        ti=ti or FakeTI(start_date=datetime.now(UTC)),
        store=store,
    )


def _due(gateway: LocalGateway) -> list[Any]:
    import httpx

    return httpx.get(f"{gateway.url}/_local/faults").json()


@pytest.mark.usefixtures("quick_faults")
@pytest.mark.parametrize("counts", [True, False], ids=["counts", "no counts"])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_that_names_its_files_only_later_has_not_ended_yet(
    mode: str, counts: bool, gateway: LocalGateway
) -> None:
    gateway.behave("openai", ProviderBehavior(files_late=2, late_counts=counts))
    batch_id = gateway.add_batch(rows=10, status="completed")
    end = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, timeout=30, **MODES[mode])
    )
    assert end.value["output_file_id"]
    assert len(gateway.requests) == 3


@pytest.mark.parametrize("mode", MODES)
def test_without_a_grace_for_results_a_batch_has_ended_when_it_says_so(mode: str, gateway: LocalGateway) -> None:
    gateway.behave("openai", ProviderBehavior(files_late=100))
    batch_id = gateway.add_batch(rows=10, status="completed")
    end = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, results_grace=0, **MODES[mode])
    )
    assert (end.state, end.value["output_file_id"]) == ("success", None)
    assert len(gateway.requests) == 1


def test_a_waiting_retrieve_operator_returns_files_that_were_named_late(gateway: LocalGateway) -> None:
    gateway.behave("openai", ProviderBehavior(files_late=2))
    batch_id = gateway.add_batch(rows=10, status="completed")
    end = run_to_its_end(
        lambda: BatchRetrieveOperator(
            task_id="wait", batch_id=batch_id, wait_for_completion=True, poll_interval=0.05, timeout=30
        )
    )
    assert end.value["output_file_id"]
