"""``make endurance``: a load on a real Airflow under chaos, and the account of it. See the README in this folder."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import sqlalchemy
from support.local_airflow import LocalAirflowError

from endurance import chaos, load, report
from endurance.account import account
from endurance.cluster import Cluster
from endurance.collect import UNFINISHED, gather
from endurance.evidence import Evidence, Job
from endurance.machine import NotInstalled
from endurance.storm import Storm

DAG_IDS = (*load.WAITS, *load.SUBMITS)
SAMPLE_SECONDS = 5.0


def main() -> int:
    """Run, print the account, and return the exit code: 1 if there is an anomaly, 2 if the run was not completed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # so that everything is stopped and removed
    work = Path(tempfile.mkdtemp(prefix="endurance-"))
    _say(f"seed {options.seed}, {options.minutes:g} minutes, executor {options.executor}, in {work}")
    try:
        evidence = Run(options, work).perform()
    except NotInstalled as error:
        shutil.rmtree(work)
        print(error, file=sys.stderr)
        return 2
    anomalies = account(evidence)
    print(report.text(evidence, anomalies, options.seed))
    if anomalies or options.keep:
        print(f"Everything is in {work}")
    else:
        shutil.rmtree(work)
    return 1 if anomalies else 0


class Run:
    """One run, from the start of the cluster to the evidence."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options, self._work = options, work
        self._plan = load.Plan(options.waits, options.runs, options.rows)
        self._evidence = Evidence([])

    def perform(self) -> Evidence:
        """Start everything, run the load and the chaos for the given minutes, wait until the jobs end, and gather the evidence."""
        options = self._options
        with Cluster(
            self._work, executor=options.executor, instances=options.instances, batch_seconds=options.batch_seconds
        ) as cluster:
            _say("; ".join(["the cluster is up", *cluster.left_out()]))
            jobs = self._jobs(cluster)
            self._unpause(cluster)
            self._weather(cluster, jobs)
            self._finish(cluster)
            _say("gathering the evidence")
            gather(cluster, self._evidence)
        return self._evidence

    def _jobs(self, cluster: Cluster) -> list[Job]:
        chance = random.Random(f"jobs {self._options.seed}")
        providers = [load.WITH_FILES[number % len(load.WITH_FILES)] for number in range(self._plan.waits)]
        batches = [(provider, cluster.gateway.add_batch(provider, rows=10)) for provider in providers]
        submitting = load.submitting_jobs(self._plan, self._options.seed, cluster.store.uri)
        jobs = [*load.waiting_jobs(batches), *submitting]
        chance.shuffle(jobs)
        self._write_inputs(cluster, jobs)
        return jobs

    def _write_inputs(self, cluster: Cluster, jobs: list[Job]) -> None:
        for job in jobs:
            if job.prompts:
                cluster.store.write(load.input_name(job.id, job.kind), load.input_of(job))

    def _unpause(self, cluster: Cluster) -> None:
        for dag_id in DAG_IDS:
            path = f"/api/v2/dags/{dag_id}"
            known = lambda path=path: cluster.airflow.client.get(path).is_success  # noqa: E731
            cluster.airflow.until(known, f"the DAG {dag_id}", 180)
            cluster.airflow.request("PATCH", path, json={"is_paused": False})

    def _weather(self, cluster: Cluster, jobs: list[Job]) -> None:
        """The time in which jobs start and chaos happens. Jobs start in its first three quarters."""
        seconds, begin = self._options.minutes * 60, time.monotonic()
        kinds = chaos.kinds(
            list(cluster.components),
            cluster.runs_tasks,
            api_away=120 if seconds >= 900 else 20,
            small_disk=cluster.small_disk if cluster.disk else None,
            clocked=cluster.clocked,
        )
        plan = chaos.plan(self._options.seed, seconds, kinds) if self._options.chaos else []
        storm = Storm(cluster, plan, self._options.seed, begin, _say)
        self._evidence.windows = storm.windows
        waiting = list(jobs)
        sampled = begin
        while time.monotonic() < begin + seconds or waiting or not storm.over:
            storm.step()
            self._revive(cluster)
            due = min(len(jobs), int((time.monotonic() - begin) / (seconds * 0.75) * len(jobs)) + 1)
            while waiting and len(jobs) - len(waiting) < due and self._start(cluster, waiting[0]):
                self._evidence.jobs.append(waiting.pop(0))
            if time.monotonic() >= sampled + SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._evidence.samples += cluster.sample(time.time())
            time.sleep(0.2)

    def _start(self, cluster: Cluster, job: Job) -> bool:
        """Start a job's DAG run; False if Airflow does not answer now."""
        body = {"dag_run_id": job.id, "logical_date": None, "conf": dict(job.conf)}
        try:
            answer = cluster.airflow.client.post(f"/api/v2/dags/{job.kind}/dagRuns", json=body, timeout=5)
        except httpx.TransportError:
            return False
        return answer.is_success or answer.status_code == httpx.codes.CONFLICT

    def _revive(self, cluster: Cluster) -> None:
        for component in cluster.revive():
            _say(f"{component} had ended, and was started again")

    def _finish(self, cluster: Cluster) -> None:
        """Wait until all DAG runs have ended, or until the time limit. What still runs then is stuck."""
        deadline = time.monotonic() + self._options.patience
        left = self._unfinished(cluster)
        while left and time.monotonic() < deadline:
            self._revive(cluster)
            time.sleep(2)
            left = self._unfinished(cluster)
        _say(f"not finished: {', '.join(left) or 'nothing'}")

    def _unfinished(self, cluster: Cluster) -> list[str]:
        try:
            return [str(row["run_id"]) for row in cluster.postgres.rows(UNFINISHED)]
        except sqlalchemy.exc.OperationalError:
            return ["unknown, the database is down"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make endurance", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--minutes", type=float, default=20.0, help="of chaos (default: %(default)s)")
    parser.add_argument("--executor", choices=["local", "celery"], default="local")
    parser.add_argument("--instances", type=int, default=2, help="of the scheduler and of the triggerer")
    parser.add_argument("--waits", type=int, default=20)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--rows", type=int, default=20, help="of each run")
    parser.add_argument("--batch-seconds", type=float, default=30.0)
    parser.add_argument("--patience", type=float, default=600.0, help="seconds after the chaos until a task is stuck")
    parser.add_argument("--no-chaos", dest="chaos", action="store_false")
    parser.add_argument("--keep", action="store_true", help="keep all files even if there is no anomaly")
    return parser.parse_args()


_BEGAN = time.monotonic()
_say: Callable[[str], None] = lambda text: print(f"[{time.monotonic() - _BEGAN:6.1f}] {text}", flush=True)  # noqa: E731


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LocalAirflowError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
